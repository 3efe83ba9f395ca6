"""The truths of a picture: where its label file stands, and what it says (Darknet: utils.c:replace_image_to_label, data.c:read_boxes).

truths = read_labels(label_path("data/obj/dog.jpg"))
truths.classes, truths.xywh                 # (n,) and (n, 4): centre and size, parts of the picture
"""

from __future__ import annotations

import json
import os
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.names import read_text

# Darknet replaces the first occurrence of each, in this order (utils.c; its `/images/` → `/labels/` is commented out there)
FOLDERS = (
    ("/images/train2017/", "/labels/train2017/"), ("/images/val2017/", "/labels/val2017/"), ("/JPEGImages/", "/labels/"),
    ("\\images\\train2017\\", "\\labels\\train2017\\"), ("\\images\\val2017\\", "\\labels\\val2017\\"),
    ("\\images\\train2014\\", "\\labels\\train2014\\"), ("\\images\\val2014\\", "\\labels\\val2014\\"),
    ("/images/train2014/", "/labels/train2014/"), ("/images/val2014/", "/labels/val2014/"), ("\\JPEGImages\\", "\\labels\\"),
)  # fmt: skip
ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".bmp", ".BMP", ".ppm", ".PPM", ".tiff", ".TIFF")
PICTURE_FOLDERS = ("images", "JPEGImages")
FLT_MAX = 3.4e38  # larger numbers are none of 32 bits


class DataWarning(CfgWarning):
    """Something in a data set that is left out, or read otherwise than its author may think."""


class Truths(NamedTuple):
    """The objects of one picture, in the order of its label file.

    classes: (n,) int64. xywh: (n, 4) float32, centre and size as parts of the picture. difficult: (n,) bool, marked as such in
    VOC, or a crowd in COCO: not trained on, and no mistake if missed.
    """

    classes: NDArray[np.int64]
    xywh: NDArray[np.float32]
    difficult: NDArray[np.bool_]


class Coco(NamedTuple):
    """A COCO instances file. images: file names as they are written there. truths: those of each. names: of the classes."""

    images: list[str]
    truths: list[Truths]
    names: list[str]


def make_truths(classes: ArrayLike = (), xywh: ArrayLike = (), difficult: ArrayLike | None = None) -> Truths:
    """Truths of anything like arrays; without arguments: of a picture that shows nothing."""
    numbers = np.asarray(classes, np.int64).reshape(-1)
    hard = np.zeros(len(numbers), bool) if difficult is None else np.asarray(difficult, bool).reshape(-1)
    return Truths(numbers, np.asarray(xywh, np.float32).reshape(-1, 4), hard)


def replace_image_to_label(image: str) -> str:
    """Darknet's own rule, which looks at no file: `VOC/JPEGImages/1.jpg` → `VOC/labels/1.txt`.

    The ending becomes .txt if it is one of ENDINGS; folders change only as FOLDERS says: a plain `/images/` stays.
    """
    for given, wanted in FOLDERS:
        image = image.replace(given, wanted, 1)
    image = image.strip(" \t")
    for ending in ENDINGS:
        image = image.removesuffix(ending) + ".txt" if image.endswith(ending) else image
    return image


def in_sibling(image: str, folder: str, ending: str) -> list[str]:
    """The same name in the sibling of its picture folder: `a/images/b/1.jpg` → `a/labels/b/1.txt` and `a/labels/1.txt`."""
    parts = re.split(r"([/\\])", os.path.splitext(image)[0] + ending)
    for k in range(len(parts) - 3, -1, -2):
        if parts[k] in PICTURE_FOLDERS:
            root = [*parts[:k], folder, parts[k + 1]]
            return ["".join(root + parts[k + 2 :]), "".join([*root, parts[-1]])]
    return []


def label_path(image: str) -> str:
    """The Darknet label file of a picture.

    Of these, the first that exists; the first of all if none does:
    what Darknet's rule says (`replace_image_to_label`); the picture's name ending in .txt, beside it (endings that Darknet does
    not know, such as .webp); the same in the folder `labels`, the sibling of the last `images` or `JPEGImages` of the path.
    """
    rule = replace_image_to_label(image)
    found = [rule] if rule.endswith(".txt") else []
    found += [os.path.splitext(image)[0] + ".txt", *in_sibling(image, "labels", ".txt")[:1]]
    return next((path for path in found if os.path.exists(path)), found[0])


def voc_path(image: str) -> str | None:
    """The Pascal VOC file of a picture: in `Annotations`, the sibling of its picture folder, or beside it; None if there is none."""
    found = [*in_sibling(image, "Annotations", ".xml"), os.path.splitext(image)[0] + ".xml"]
    return next((path for path in found if os.path.exists(path)), None)


def read_labels(path: str | os.PathLike[str]) -> Truths:
    """A Darknet label file: a line `class x y w h` for each object, parts of the picture; white space and empty lines do not count.

    Numbers are taken as they are; classes that do not exist and boxes outside the picture are the business of `training_truths`
    and of the check command.

    Raises:
        DarknetError: it cannot be read, or a line is not five numbers, the first of them an integer. (Darknet silently reads no
            further there, and takes a sixth number for the next class.)
    """
    lines = read_text(path, "label file").split("\n")
    fields = [words for line in lines if (words := line.split())]
    if not fields:
        return make_truths()
    try:
        classes = np.array([int(words[0]) for words in fields], np.int64)
        xywh = np.array([words[1:] for words in fields], np.float64)
        good = xywh.shape == (len(fields), 4) and bool((np.abs(xywh) < FLT_MAX).all())
    except (ValueError, OverflowError):
        good = False
    if not good:
        raise DarknetError(_first_mistake(path, lines))
    return make_truths(classes, xywh)


def _first_mistake(path: str | os.PathLike[str], lines: Sequence[str]) -> str:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{os.fspath(path)}:{number}: '{line.strip()[:60]}'"
        if len(words) != 5:
            return f"{where} is {len(words)} values; write 'class x y w h'"
        try:
            np.int64(int(words[0]))
        except (ValueError, OverflowError):
            return f"{where}: the class '{words[0]}' is no integer"
        for word in words[1:]:
            try:
                finite = abs(float(word)) < FLT_MAX
            except ValueError:
                finite = False
            if not finite:
                return f"{where}: '{word}' is not a number"
    return f"{os.fspath(path)}: this label file cannot be read"


def read_voc(path: str | os.PathLike[str], names: Sequence[str]) -> tuple[Truths, tuple[int, int]]:
    """A Pascal VOC file, by the formula of Darknet's voc_label.py: the centre is ((left+right)/2 - 1) / width.

    Args:
        path: the .xml. names: of the classes; objects of other names are left out, with a warning.

    Returns:
        The truths, difficult ones included (voc_label.py leaves them out), and (width, height) of the picture, pixels.

    Raises:
        DarknetError: it cannot be read, is no such file, or gives the picture no size.
    """
    try:
        root = ElementTree.fromstring(Path(path).read_bytes())
    except OSError as error:
        raise DarknetError(f"{path}: cannot read this annotation: {error.strerror or error}") from None
    except ElementTree.ParseError as error:
        raise DarknetError(f"{path}:{error.position[0]}: this is not a Pascal VOC annotation: {error}") from None
    width, height = (_xml_number(path, root, f"size/{side}") for side in ("width", "height"))
    if min(width, height) < 1:
        raise DarknetError(f"{path}: <size> is {width:g}x{height:g}; write the picture's width and height")
    known = {name: index for index, name in enumerate(names)}
    classes, corners, difficult = [], [], []
    for one in root.iter("object"):
        name = (one.findtext("name") or "").strip()
        if name not in known:
            _warn(f"class '{name}' of the annotations is not among the names; its objects are left out")
            continue
        classes.append(known[name])
        corners.append([_xml_number(path, one, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")])
        difficult.append((one.findtext("difficult") or "0").strip() == "1")
    left_top, right_bottom = np.array(corners, np.float64).reshape(-1, 2, 2).swapaxes(0, 1)
    size = np.array([width, height])
    # scripts/voc_label.py: VOC counts pixels from 1, and takes 1 from the centre, not from each corner
    xywh = np.concatenate((((left_top + right_bottom) / 2 - 1) / size, (right_bottom - left_top) / size), 1)
    return make_truths(classes, xywh, difficult), (int(width), int(height))


def _xml_number(path: str | os.PathLike[str], element: ElementTree.Element, tag: str) -> float:
    text = (element.findtext(tag) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DarknetError(f"{path}: <{tag.replace('/', '><')}> is '{text}', which is not a number")
    return value


def read_coco(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> Coco:
    """A COCO instances file (.json).

    Args:
        path: the file.
        names: of the classes. A category is the class of its name; if some have other names (Darknet's coco.names writes
            aeroplane and sofa), but they are as many, the categories in the order of their ids are the classes. None: the
            categories' own names, in the order of their ids.

    Returns:
        The pictures in the file's order, with their truths; crowds are marked difficult.

    Raises:
        DarknetError: it cannot be read, is no such file, or its categories are not the names.
    """
    try:
        content = json.loads(read_text(path, "COCO annotation"))
    except ValueError as error:
        raise DarknetError(f"{path}: this is not JSON: {error}") from None
    try:
        categories = {
            int(one["id"]): str(one["name"]) for one in sorted(content["categories"], key=lambda one: one["id"])
        }
        images = [str(one["file_name"]) for one in content["images"]]
        sizes = np.array([(one["width"], one["height"]) for one in content["images"]], np.float64).reshape(-1, 2)
        place = {one["id"]: index for index, one in enumerate(content["images"])}
        rows = [one for one in content["annotations"] if one["image_id"] in place]
        image = np.array([place[one["image_id"]] for one in rows], np.int64)
        given = np.array([one["category_id"] for one in rows], np.int64)
        boxes = np.array([one["bbox"] for one in rows], np.float64).reshape(-1, 4)
        crowd = np.array([bool(one.get("iscrowd", 0)) for one in rows], bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DarknetError(
            f"{path}: this is not a COCO instances file: {type(error).__name__} {error}; images, annotations and categories are needed"
        ) from None
    if len(rows) < len(content["annotations"]):
        _warn(
            f"{path}: {len(content['annotations']) - len(rows)} annotations belong to no picture of the file; they are left out"
        )
    if len(sizes) and sizes.min() < 1:
        raise DarknetError(f"{path}: the picture {images[int(sizes.min(1).argmin())]} has no width or height there")
    classes = _coco_classes(path, categories, names)
    numbers = np.array([classes.get(one, -1) for one in given.tolist()], np.int64)
    xywh = np.concatenate((boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]), 1) / np.tile(sizes[image], 2)
    order = np.flatnonzero(numbers >= 0)
    order = order[np.argsort(image[order], kind="stable")]
    cuts = np.searchsorted(image[order], np.arange(1, len(images)))
    parts = zip(*(np.split(array[order], cuts) for array in (numbers, xywh, crowd)), strict=True)
    truths = [make_truths(*part) for part in parts] if images else []
    return Coco(images, truths, list(names) if names else list(categories.values()))


def _coco_classes(
    path: str | os.PathLike[str], categories: dict[int, str], names: Sequence[str] | None
) -> dict[int, int]:
    """COCO's category id → class."""
    by_order = {one: index for index, one in enumerate(categories)}
    if not names:
        return by_order
    known = {name: index for index, name in enumerate(names)}
    by_name = {one: known[name] for one, name in categories.items() if name in known}
    if len(by_name) == len(categories):
        return by_name
    others = [name for one, name in categories.items() if one not in by_name]
    if len(categories) == len(names) and all(by_order[one] == index for one, index in by_name.items()):
        return by_order
    if not by_name:
        raise DarknetError(
            f"{path}: none of its {len(categories)} categories ({others[0]} …) is among the {len(names)} names"
        )
    _warn(
        f"{path}: the categories {', '.join(others[:5])}{' …' if len(others) > 5 else ''} are not among the names; left out"
    )
    return by_name


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
