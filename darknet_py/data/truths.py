"""The ground truth of an image as arrays, and which of it training sees (Darknet: data.c:fill_truth_detection)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darknet_py.errors import CfgWarning
from darknet_py.layers.needs import Rows

TRUTH_SIZE = 6  # x, y, w, h, class, track_id
OUTSIDE = np.float32(
    999999.0
)  # all four numbers of a box that is nowhere in its image, as in Darknet (data.c:correct_boxes)
Polygons: TypeAlias = Sequence[NDArray[np.float32]]
"""Of each truth its (k, 2) corners x, y, fractions of the image, or (0, 2) if it has a box alone; (): all have."""
NO_POLYGON = np.empty((0, 2), np.float32)


def outlined(polygons: Polygons) -> NDArray[np.intp]:
    """The numbers of the truths that have a polygon."""
    return np.flatnonzero([len(polygon) for polygon in polygons])


class DataWarning(CfgWarning):
    """Something in a data set that is left out, or read otherwise than its author may think."""


class ImageTruths(NamedTuple):
    """The objects of one image, in the order of its label file.

    classes: (n,) int64. xywh: (n, 4) float32, centre and size as fractions of the image. difficult: (n,) bool, marked
    as such in VOC, or a crowd in COCO: not trained on, and no mistake if missed. polygons: around which the boxes are,
    where the labels have them.
    """

    classes: NDArray[np.int64]
    xywh: NDArray[np.float32]
    difficult: NDArray[np.bool_]
    polygons: Polygons = ()


def make_truths(
    classes: ArrayLike = (), xywh: ArrayLike = (), difficult: ArrayLike | None = None, polygons: Polygons = ()
) -> ImageTruths:
    """Truths of anything like arrays; without arguments: of an image that shows no object."""
    numbers = np.asarray(classes, np.int64).reshape(-1)
    hard = np.zeros(len(numbers), bool) if difficult is None else np.asarray(difficult, bool).reshape(-1)
    return ImageTruths(numbers, np.asarray(xywh, np.float32).reshape(-1, 4), hard, polygons)


def left_out(truths: ImageTruths, net_size: tuple[int, int], classes: int) -> dict[str, NDArray[np.bool_]]:
    """Which truths training leaves out and why: reason → (n,) bool; each is in one of them at most.

    As data.c:fill_truth_detection: classes that the network does not have, boxes under one pixel of its input, centres
    outside (0, 1]. net_size: (width, height), pixels.
    """
    xywh = truths.xywh
    reasons = {
        f"of a class beyond 0 to {classes - 1}": (truths.classes < 0) | (truths.classes >= classes),
        "without area": (xywh[:, 2:] <= 0).any(1),
        f"under 1 pixel of the network's {net_size[0]}x{net_size[1]}": (
            xywh[:, 2:] < np.float32(1) / np.array(net_size, np.float32)
        ).any(1),
        "with their centre outside the image": ((xywh[:, :2] <= 0) | (xywh[:, :2] > 1)).any(1),
    }
    before = np.zeros(len(xywh), bool)
    for reason, is_wrong in reasons.items():
        reasons[reason] = is_wrong & ~before
        before |= is_wrong
    return reasons


def trained(
    truths: ImageTruths,
    net_size: tuple[int, int],
    classes: int,
    max_truths: int,
    rng: np.random.Generator,
    *,
    path: str = "",
) -> NDArray[np.intp]:
    """Which truths training sees of an augmented image, (m,) of their numbers (data.c:fill_truth_detection).

    They are shuffled, the first `max_truths` of them stay, and of those go the ones that are `left_out`. Difficult
    objects are left out before, as voc_label.py writes none. Wrong labels are named in a warning, once per file.

    Args:
        truths: of the image, moved as its augmentation moved the pixels.
        net_size: (width, height) of the network's input, pixels. classes, max_truths: the head's. path: of the label
            file.
    """
    order = rng.permutation(np.flatnonzero(~truths.difficult))[:max_truths]
    chosen = ImageTruths(truths.classes[order], truths.xywh[order], truths.difficult[order])
    unknown, *_, outside = reasons = list(left_out(chosen, net_size, classes).values())
    if unknown.any():
        _warn(
            f"{path}: class {chosen.classes[unknown][0]}, but the network has the classes 0 to {classes - 1}; left out"
        )
    elif outside.any():
        _warn(f"{path}: a box lies outside the image, or at its corner 0, 0; left out")
    return order[~np.any(reasons, 0)]


def truth_rows(truths: ImageTruths, kept: NDArray[np.intp], *, path: str = "") -> Rows:
    """These truths as (m, 6) float32 rows x, y, w, h, class, track_id, as a truth of Darknet's network.

    A width or height over 1 becomes 1. track_id: the object's number in its file, plus 4000 times a hash of the file's
    path, under 4000.
    """
    rows = np.empty((len(kept), TRUTH_SIZE), np.float32)
    rows[:, :2], rows[:, 2:4] = truths.xywh[kept, :2], np.minimum(truths.xywh[kept, 2:], 1)
    rows[:, 4], rows[:, 5] = truths.classes[kept], kept + _track_base(path)
    return rows


def _track_base(path: str) -> int:
    """data.c:read_boxes, utils.c:custom_hash"""
    value = 5381
    for byte in os.fsencode(path):
        value = (value * 33 + (byte - 256 if byte > 127 else byte)) & 0xFFFFFFFFFFFFFFFF
    return value % 4000 * 4000


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
