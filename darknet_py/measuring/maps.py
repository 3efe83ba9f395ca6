"""Mean average precision as `detector map` and PASCAL VOC define it: pure functions of detections and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from darknet_py.data.truths import ImageTruths
from darknet_py.detections import Detections
from darknet_py.measuring.matching import (
    Bools,
    Floats,
    Ints,
    Table,
    best_matches,
    clipped,
    detection_table,
    first_of_each,
    image_sizes,
    pair_up,
    truth_table,
)
from darknet_py.measuring.results import ClassResult, MapResult, ratio
from darknet_py.measuring.rules import check_points
from darknet_py.pictures.resize import Size

Doubles: TypeAlias = NDArray[np.float64]


def average_precision(hits: Bools, truths: int, points: int = 0) -> tuple[float, Doubles, Doubles]:
    """One class's average precision, and its curve.

    Args:
        hits: (m,) whether each detection is a true positive, the most confident first. truths: objects of the class.
        points: 0: the area under the curve, precision made monotone (VOC 2010, ImageNet); otherwise so many recall
            points, each with the best precision at its recall or above (VOC 2007: 11, COCO: 101).

    Returns:
        AP in 0..1 (0 without truths), precision (m,), recall (m,).
    """
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    recall = true_positives / truths if truths else np.zeros(len(hits))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if not len(hits) or not truths:
        area = 0.0
    elif points == 0:
        area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    else:
        index = np.searchsorted(recall, np.arange(points) / (points - 1))
        area = float(np.append(best, 0.0)[index].mean())
    return area, precision, recall


def darknet_map(
    detections: Sequence[Detections],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
) -> MapResult:
    """mAP and counts exactly as `detector map` works them out (detector.c:validate_detector_map).

    A detection is matched with the truth of its class with the best IoU above `iou_thresh`; another truth is not tried.
    AP takes the detections in order of confidence, equal ones in raw order; mAP is the mean over all classes, those
    without truths count 0. TP and FP are counted on their own: a detection above `thresh` is a TP if no EARLIER one of
    its image, in raw order and of any confidence, is matched with the same truth. Difficult truths do not count; a
    detection that overlaps only such ones is left out of AP, but is an FP above `thresh`, as in Darknet with
    `difficult=` in the .data file.

    Args:
        detections, truths: an entry for each image, the detections in Darknet's raw order.
        classes: the names; all class numbers are below their count.
        iou_thresh: IoU must exceed it. thresh: confidence that TP, FP, FN and the average IoU need, above it.
        points: see `average_precision`.
    """
    check_points(points)
    found, confidences = detection_table(detections)
    truth, difficult = truth_table(truths)
    pairs = pair_up(found, truth)
    overlapping = pairs.iou > np.float32(iou_thresh)
    match, best = best_matches(pairs, len(confidences), overlapping & ~difficult[pairs.truth])
    ignored = np.zeros(len(confidences), np.bool_)
    ignored[pairs.detection[overlapping & difficult[pairs.truth]]] = True
    ignored &= match < 0
    confident = confidences > np.float32(thresh)
    true_positive = confident & first_of_each(match)
    results = []
    for class_id, (name, rows) in enumerate(
        zip(classes, _by_class(found.classes, confidences, len(classes)), strict=True)
    ):
        rows = rows[~ignored[rows]]
        total = int(np.count_nonzero((truth.classes == class_id) & ~difficult))
        area, precision, recall = average_precision(first_of_each(match[rows]), total, points)
        of_class = found.classes == class_id
        tp = int(np.count_nonzero(of_class & true_positive))
        fp = int(np.count_nonzero(of_class & confident & ~true_positive))
        mean_iou = ratio(float(best[of_class & true_positive].sum(dtype=np.float64)), tp + fp)
        curve = (precision, recall, confidences[rows].astype(np.float64))
        results.append(ClassResult(name, area, tp, fp, total, len(rows), mean_iou, *curve))
    mean_iou = ratio(float(best[true_positive].sum(dtype=np.float64)), int(np.count_nonzero(confident)))
    mean = ratio(sum(result.AP for result in results), len(classes))
    return MapResult("darknet", iou_thresh, thresh, points, tuple(results), mean, mean_iou)


def _by_class(classes: Ints, confidences: Floats, count: int) -> list[Ints]:
    """For each class its rows, the most confident first, equal ones in their order."""
    order = np.argsort(-confidences, kind="stable")
    order = order[np.argsort(classes[order], kind="stable")]
    return np.split(order, np.searchsorted(classes[order], np.arange(1, count)))[:count]


def voc_map(
    detections: Sequence[Detections],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
) -> MapResult:
    """mAP by the rules of PASCAL VOC (VOCevaldet of its development kit): `points` is 11 in VOC 2007, 0 from 2010 on.

    A detection is matched with the truth of its class with the best IoU, if that is `iou_thresh` or more; the most
    confident detection of a truth is a true positive, others are false ones, and those of difficult truths are ignored.
    Boxes count whole pixels: both edges belong to them. mAP is the mean over the classes that have truths. The counts
    beside AP are Darknet's.

    Args:
        detections … points: see `darknet_map`.
    """
    base = darknet_map(detections, truths, classes, iou_thresh, thresh, points)
    sizes = [one.size for one in detections]
    found, confidences = detection_table(detections)
    truth, difficult = truth_table(truths)
    pairs = pair_up(_whole_pixels(found, sizes), _whole_pixels(truth, sizes))
    match, _ = best_matches(pairs, len(confidences), pairs.iou >= np.float32(iou_thresh))
    ignored = (match >= 0) & difficult[match] if len(difficult) else np.zeros(len(confidences), np.bool_)
    results = []
    for result, rows in zip(base.classes, _by_class(found.classes, confidences, len(classes)), strict=True):
        rows = rows[~ignored[rows]]
        area, precision, recall = average_precision(first_of_each(match[rows]), result.truths, points)
        results.append(
            replace(
                result,
                AP=area,
                detections=len(rows),
                precision=precision,
                recall=recall,
                confidences=confidences[rows].astype(np.float64),
            )
        )
    present = [result.AP for result in results if result.truths]
    return replace(base, metric="voc", classes=tuple(results), mAP=ratio(sum(present), len(present)))


def _whole_pixels(table: Table, sizes: Sequence[Size]) -> Table:
    """Boxes in pixels, clipped to their image, and one pixel wider and higher, as both edges belong to them."""
    size = image_sizes(table, sizes)
    box = clipped(table.xywh * np.tile(size, 2), size - 1)
    sides = box[:, 2:] - box[:, :2]
    return table._replace(xywh=np.concatenate((box[:, :2] + sides / 2, sides + 1), 1, dtype=np.float32))
