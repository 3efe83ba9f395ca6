"""COCO instances files (.json): the images that they name, with their boxes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from darknet_py.data.truths import DataWarning, ImageTruths, make_truths
from darknet_py.errors import DarknetError
from darknet_py.names import read_text
from darknet_py.text import printable


class CocoFile(NamedTuple):
    """images: file names as they are written there. truths: those of each. names: of the classes."""

    images: list[str]
    truths: list[ImageTruths]
    names: list[str]


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
        categories = {int(category["id"]): printable(str(category["name"])) for category in by_id}
        images = [str(entry["file_name"]) for entry in content["images"]]
        sizes = np.array([(entry["width"], entry["height"]) for entry in content["images"]], np.float64).reshape(-1, 2)
        index_of = {entry["id"]: index for index, entry in enumerate(content["images"])}
        annotations = [entry for entry in content["annotations"] if entry["image_id"] in index_of]
        image = np.array([index_of[entry["image_id"]] for entry in annotations], np.int64)
        category_ids = np.array([entry["category_id"] for entry in annotations], np.int64)
        boxes = np.array([entry["bbox"] for entry in annotations], np.float64).reshape(len(annotations), 4)
        crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], bool)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__} {error}; images, annotations and categories are needed"
        raise DarknetError(f"{path}: this is not a COCO instances file: {reason}") from None
    if missing := len(content["annotations"]) - len(annotations):
        _warn(f"{path}: {missing} annotations belong to no image of the file; they are left out")
    if len(sizes) and sizes.min() < 1:
        raise DarknetError(f"{path}: the image {images[int(sizes.min(1).argmin())]} has no width or height there")
    classes = _classes_of(path, categories, names)
    numbers = np.array([classes.get(category, -1) for category in category_ids.tolist()], np.int64)
    xywh = np.concatenate((boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]), 1) / np.tile(sizes[image], 2)
    order = np.flatnonzero(numbers >= 0)
    order = order[np.argsort(image[order], kind="stable")]
    cuts = np.searchsorted(image[order], np.arange(1, len(images)))
    per_image = zip(*(np.split(array[order], cuts) for array in (numbers, xywh, crowd)), strict=True)
    truths = [make_truths(*arrays) for arrays in per_image] if images else []
    return CocoFile(images, truths, list(names) if names else list(categories.values()))


def _classes_of(
    path: str | os.PathLike[str], categories: dict[int, str], names: Sequence[str] | None
) -> dict[int, int]:
    """COCO's category id → class."""
    by_order = {category: index for index, category in enumerate(categories)}
    if not names:
        return by_order
    known = {name: index for index, name in enumerate(names)}
    by_name = {category: known[name] for category, name in categories.items() if name in known}
    if len(by_name) == len(categories):
        return by_name
    others = [name for category, name in categories.items() if category not in by_name]
    if len(categories) == len(names) and all(by_order[category] == index for category, index in by_name.items()):
        return by_order
    if not by_name:
        raise DarknetError(
            f"{path}: none of its {len(categories)} categories ({others[0]} …) is among the {len(names)} names"
        )
    listed = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    _warn(f"{path}: the categories {listed} are not among the names; left out")
    return by_name


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
