"""Detections matched with the ground truth of their image by IoU, for mAP and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from darknet_py.boxes import iou
from darknet_py.data.truths import ImageTruths
from darknet_py.detections import Detections
from darknet_py.pictures.resize import Size

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]


class Table(NamedTuple):
    """The boxes of all images: (m,) their image, (m,) their class, (m, 4) centre and size as fractions of the image."""

    image: Ints
    classes: Ints
    xywh: Floats


class Pairs(NamedTuple):
    """Detections and truths of the same image: (p,) their rows, and their IoU, by `detection`, then by `truth`."""

    detection: Ints
    truth: Ints
    iou: Floats


def detection_table(detections: Sequence[Detections]) -> tuple[Table, Floats]:
    """The table of all images' detections, and their confidences (m,)."""
    table = _table([one.class_ids for one in detections], [one.xywh for one in detections])
    return table, _concatenated([one.confidences for one in detections]).astype(np.float32)


def truth_table(truths: Sequence[ImageTruths]) -> tuple[Table, Bools]:
    """The table of all images' truths, and which of them are difficult (m,)."""
    table = _table([one.classes for one in truths], [one.xywh for one in truths])
    return table, _concatenated([one.difficult for one in truths]).astype(np.bool_)


def _table(classes: Sequence[Ints], xywh: Sequence[Floats]) -> Table:
    if not classes:
        return Table(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    image = np.repeat(np.arange(len(classes)), [len(part) for part in classes])
    return Table(image, np.concatenate(classes), np.concatenate(xywh))


def _concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if len(arrays) else np.zeros(0, np.float32)


def image_sizes(table: Table, sizes: Sequence[Size]) -> NDArray[np.float64]:
    """(m, 2) width and height of each row's image."""
    return np.array(sizes, np.float64).reshape(-1, 2)[table.image]


def pair_up(detections: Table, truths: Table, *, same_class: bool = True) -> Pairs:
    """All pairs in the same image (and of the same class)."""
    keys = [rows.image * (1 << 32) + rows.classes if same_class else rows.image for rows in (detections, truths)]
    order = np.argsort(keys[1], kind="stable")
    start = np.searchsorted(keys[1][order], keys[0])
    count = np.searchsorted(keys[1][order], keys[0], "right") - start
    detection = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    truth = order[np.repeat(start, count) + within]
    overlap = iou(torch.from_numpy(detections.xywh[detection]), torch.from_numpy(truths.xywh[truth]))
    return Pairs(detection, truth, overlap.numpy())


def best_matches(pairs: Pairs, count: int, allowed: Bools) -> tuple[Ints, Floats]:
    """For each of `count` detections the truth with the best IoU (the first of equals), and that IoU.

    allowed: (p,) which pairs count. The truth is -1 where no pair does.
    """
    detection, truth, overlap = pairs.detection[allowed], pairs.truth[allowed], pairs.iou[allowed]
    order = np.lexsort((-overlap, detection))
    rows, first = np.unique(detection[order], return_index=True)
    match, best = np.full(count, -1), np.zeros(count, np.float32)
    match[rows], best[rows] = truth[order][first], overlap[order][first]
    return match, best


def first_of_each(match: Ints) -> Bools:
    """Which entries are the first with their number; -1 is no number."""
    result = np.zeros(len(match), np.bool_)
    numbers, index = np.unique(match, return_index=True)
    result[index[numbers >= 0]] = True
    return result


def clipped(xywh: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """(m, 4) boxes in pixels → left, top, right, bottom, not beyond their images (detector.c:print_cocos).

    Args:
        size: (m, 2) or (2,) width and height of the images.
    """
    half = xywh[:, 2:] / 2
    return np.concatenate((np.maximum(xywh[:, :2] - half, 0), np.minimum(xywh[:, :2] + half, size)), 1)
