"""Darknet's label files: where an image's stands, and what it says (Darknet: utils.c:replace_image_to_label,
data.c:read_boxes).

truths = read_labels(label_path("data/obj/dog.jpg"))
truths.classes, truths.xywh                 # (n,) and (n, 4): centre and size, fractions of the image
truths.polygons                             # where lines are polygons: their corners, (k, 2) each
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Sequence

import numpy as np

from darknet_py.data.truths import NO_POLYGON, DataWarning, ImageTruths, make_truths
from darknet_py.errors import DarknetError
from darknet_py.names import read_text

# Darknet replaces the first occurrence of each, in this order (utils.c, where `/images/` → `/labels/` is commented out)
FOLDERS = (
    ("/images/train2017/", "/labels/train2017/"), ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("\\images\\train2017\\", "\\labels\\train2017\\"), ("\\images\\val2017\\", "\\labels\\val2017\\"),
    ("\\images\\train2014\\", "\\labels\\train2014\\"), ("\\images\\val2014\\", "\\labels\\val2014\\"),
    ("/images/train2014/", "/labels/train2014/"), ("/images/val2014/", "/labels/val2014/"),
    ("\\JPEGImages\\", "\\labels\\"),
)  # fmt: skip
ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".bmp", ".BMP", ".ppm", ".PPM", ".tiff", ".TIFF")
IMAGE_FOLDERS = ("images", "JPEGImages")
FLT_MAX = 3.4e38  # larger numbers do not fit into 32 bits
OUTSIDE = 0.01  # how far a polygon's points may lie outside the image, as a fraction of it
LARGEST = 2.0**53  # class: above, floats skip whole numbers


def replace_image_to_label(image: str) -> str:
    """Darknet's own rule, which looks at no file: `VOC/JPEGImages/1.jpg` → `VOC/labels/1.txt`.

    The ending becomes .txt if it is one of ENDINGS; folders change only as FOLDERS says: a plain `/images/` stays.
    """
    for folder, replacement in FOLDERS:
        image = image.replace(folder, replacement, 1)
    image = image.strip(" \t")
    for ending in ENDINGS:
        image = image.removesuffix(ending) + ".txt" if image.endswith(ending) else image
    return image


def in_sibling(image: str, folder: str, ending: str) -> list[str]:
    """The same name in the sibling of its image folder: `a/images/b/1.jpg` → `a/labels/b/1.txt` and
    `a/labels/1.txt`."""
    parts = re.split(r"([/\\])", os.path.splitext(image)[0] + ending)
    for k in range(len(parts) - 3, -1, -2):
        if parts[k] in IMAGE_FOLDERS:
            root = [*parts[:k], folder, parts[k + 1]]
            return ["".join(root + parts[k + 2 :]), "".join([*root, parts[-1]])]
    return []


def label_path(image: str) -> str:
    """The Darknet label file of an image.

    Of these, the first that exists; the first of all if none does:
    what Darknet's rule says (`replace_image_to_label`); the image's name ending in .txt, beside it (endings that
    Darknet does not know, such as .webp); the same in the folder `labels`, the sibling of the last `images` or
    `JPEGImages` of the path.
    """
    rule = replace_image_to_label(image)
    candidates = [rule] if rule.endswith(".txt") else []
    candidates += [os.path.splitext(image)[0] + ".txt", *in_sibling(image, "labels", ".txt")[:1]]
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def read_labels(path: str | os.PathLike[str]) -> ImageTruths:
    """A Darknet label file: a line `class x y w h` for each object, fractions of the image; white space and empty lines
    do not count. A class may be written 3.0. Of a polygon (`class x1 y1 x2 y2 x3 y3 …`, as for segmentation), all of
    whose corners are in the image, the box is the one around it.

    Numbers are taken as they are; classes that do not exist and boxes outside the image are the business of
    `left_out` and of the check command.

    Raises:
        DarknetError: it cannot be read, or a line is neither, or its class no whole number. (Darknet silently reads no
            further there, and takes a sixth number for the next class.)
    """
    text = read_text(path, "label file")
    lines = text.split("\n")
    fields = [words for line in lines if (words := line.split())]
    if not fields:
        return make_truths()
    try:
        polygons = [NO_POLYGON] * len(fields)
        outlined = [k for k, words in enumerate(fields) if len(words) >= 7 and len(words) % 2]
        for k in outlined:
            points = np.array(fields[k][1:], np.float64).reshape(-1, 2)
            polygons[k] = points.astype(np.float32)
            low, high = points.min(0), points.max(0)
            if min(low) < -OUTSIDE or max(high) > 1 + OUTSIDE:  # keypoints with their visibility, a confidence …
                raise ValueError
            fields[k] = [fields[k][0], *map(str, ((low + high) / 2).tolist() + (high - low).tolist())]
        values = np.array(fields, np.float64)
        whole = (values[:, 0] == np.rint(values[:, 0])) & (np.abs(values[:, 0]) < LARGEST)
        is_valid = values.shape[1] == 5 and bool(whole.all() and (np.abs(values) < FLT_MAX).all()) and _is_plain(text)
    except (ValueError, OverflowError):
        is_valid = False
    if not is_valid:
        raise DarknetError(_first_mistake(path, lines))
    if outlined:
        text = "label lines that are polygons (class x1 y1 x2 y2 …) count as the boxes around them; only "
        text += "augmentation=yolov8, and mosaics of yolov5 and yolov7, use the polygons"
        warnings.warn(text, DataWarning, stacklevel=2)  # the same warning is shown once
    return make_truths(values[:, 0], values[:, 1:], polygons=polygons if outlined else ())


def _is_plain(text: str) -> bool:
    """Whether numbers in it are what C takes for numbers: Python also reads full-width digits and 1_000."""
    return text.isascii() and "_" not in text


def _first_mistake(path: str | os.PathLike[str], lines: Sequence[str]) -> str:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{os.fspath(path)}:{number}: '{line.strip()[:60]}'"
        if len(words) > 6 and len(words) % 2 == 0:
            corners = "a polygon has an x and a y for each corner; write 'class x1 y1 x2 y2 x3 y3 …'"
            return f"{where} has {len(words)} values, but {corners}, or a box: 'class x y w h'"
        if len(words) < 5 or len(words) % 2 == 0:
            return f"{where} has {len(words)} values; write 'class x y w h'"
        values = [_number(word) for word in words]
        if not (values[0].is_integer() and abs(values[0]) < LARGEST):
            return f"{where}: the class '{words[0]}' is not an integer"
        for word, value in zip(words, values, strict=True):
            if not abs(value) < FLT_MAX:
                return f"{where}: '{word}' is not a number"
        if len(words) > 5 and not all(-OUTSIDE <= value <= 1 + OUTSIDE for value in values[1:]):
            return f"{where} has {len(words)} values, not all from 0 to 1 as a polygon's; write 'class x y w h'"
    return f"{os.fspath(path)}: this label file cannot be read"


def _number(word: str) -> float:
    try:
        return float(word) if _is_plain(word) else math.nan
    except ValueError:
        return math.nan
