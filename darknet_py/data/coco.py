"""COCO instances files (.json): the images that they name, with their boxes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darknet_py.data.truths import DataWarning, ImageTruths, make_truths
from darknet_py.errors import DarknetError
from darknet_py.names import read_text
from darknet_py.text import printable

MAX_SIDE = 1e6  # pixels: no picture is larger
Entry: TypeAlias = dict[str, Any]


class CocoFile(NamedTuple):
    """images: file names as they are written there. truths: those of each. names: of the classes. sizes: (width,
    height) of each image as the file says, pixels."""

    images: list[str]
    truths: list[ImageTruths]
    names: list[str]
    sizes: list[tuple[int, int]]


def read_coco(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> CocoFile:
    """A COCO instances file (.json).

    Args:
        path: the file.
        names: of the classes. A category is the class of its name; if some have other names (Darknet's coco.names
            writes aeroplane and sofa), but they are as many, the categories in the order of their ids are the classes.
            None: the categories' own names, in the order of their ids.

    Returns:
        The images in the file's order, with their truths; crowds are marked difficult.

    Raises:
        DarknetError: it cannot be read, is not such a file, or its categories are not the names.
    """
    try:
        content = json.loads(read_text(path, "COCO annotation"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DarknetError):
            raise
        raise DarknetError(f"{path}: this is not JSON: {error}") from None
    try:
        by_id = sorted(content["categories"], key=lambda category: category["id"])
        categories = {category["id"]: printable(str(category["name"])) for category in by_id}
        images = [str(entry["file_name"]) for entry in content["images"]]
        sizes = np.array([(entry["width"], entry["height"]) for entry in content["images"]], np.float64).reshape(-1, 2)
        index_of = {entry["id"]: index for index, entry in enumerate(content["images"])}
        annotations = [entry for entry in content["annotations"] if entry.get("image_id") in index_of]
        unknown = {entry.get("category_id") for entry in annotations} - set(categories)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__} {error}; images, annotations and categories are needed"
        raise DarknetError(f"{path}: this is not a COCO instances file: {reason}") from None
    if unknown:
        _warn(f"{path}: its categories do not list the id {unknown.pop()} of its annotations; they are left out")
    if missing := len(content["annotations"]) - len(annotations):
        _warn(f"{path}: {missing} annotations belong to no image of the file; they are left out")
    if len(sizes) and not (sizes.min() >= 1 and sizes.max() < MAX_SIDE):
        wrong = int(np.argmin(((sizes >= 1) & (sizes < MAX_SIDE)).all(1)))
        raise DarknetError(f"{path}: the image {images[wrong]} has no width or height there")
    annotations, boxes = _boxes(path, annotations)
    image = np.array([index_of[entry["image_id"]] for entry in annotations], np.int64)
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], bool)
    classes = _classes_of(path, categories, names)
    numbers = np.array([classes.get(entry.get("category_id"), -1) for entry in annotations], np.int64)
    xywh = np.concatenate((boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]), 1) / np.tile(sizes[image], 2)
    order = np.flatnonzero(numbers >= 0)
    order = order[np.argsort(image[order], kind="stable")]
    cuts = np.searchsorted(image[order], np.arange(1, len(images)))
    per_image = zip(*(np.split(array[order], cuts) for array in (numbers, xywh, crowd)), strict=True)
    truths = [make_truths(*arrays) for arrays in per_image] if images else []
    written = [(int(width), int(height)) for width, height in sizes]
    return CocoFile(images, truths, list(names) if names else list(categories.values()), written)


def _boxes(path: str | os.PathLike[str], annotations: list[Entry]) -> tuple[list[Entry], NDArray[np.float64]]:
    """The annotations that have a box, and (n, 4) the boxes; the others are named by their ids."""
    good, bad, boxes = [], [], []
    for entry in annotations:
        box = entry.get("bbox")
        if isinstance(box, list) and len(box) == 4 and all(map(_is_length, box)):
            good.append(entry)
            boxes.append(box)
        else:
            bad.append(str(entry.get("id")))
    if bad:
        listed = ", ".join(bad[:5]) + (" …" if len(bad) > 5 else "")
        _warn(f"{path}: {len(bad)} annotations have no bbox of four numbers (id {listed}); they are left out")
    return good, np.array(boxes, np.float64).reshape(-1, 4)


def _is_length(value: object) -> bool:
    """Whether it is a number of pixels; NaN is none."""
    return type(value) in (int, float) and -MAX_SIDE < value < MAX_SIDE  # type: ignore[operator]


def _classes_of(
    path: str | os.PathLike[str], categories: dict[Any, str], names: Sequence[str] | None
) -> dict[Any, int]:
    """COCO's category id → class."""
    by_order = {category: index for index, category in enumerate(categories)}
    if not names:
        return by_order
    known = {name: index for index, name in enumerate(names)}
    by_name = {category: known[name] for category, name in categories.items() if name in known}
    if len(by_name) == len(categories):
        return by_name
    others = [name for category, name in categories.items() if category not in by_name]
    listed = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    if len(categories) == len(names) and all(by_order[category] == index for category, index in by_name.items()):
        taken = [names[by_order[category]] for category in categories if category not in by_name]
        for_names = ", ".join(taken[:5]) + (" …" if len(taken) > 5 else "")
        _warn(f"{path}: the categories {listed} are not among the names; taken for {for_names}, by their order")
        return by_order
    if not by_name:
        raise DarknetError(
            f"{path}: none of its {len(categories)} categories ({others[0]} …) is among the {len(names)} names"
        )
    _warn(f"{path}: the categories {listed} are not among the names; left out")
    return by_name


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
