"""The confusion matrix: which class the objects were detected as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darknet_py.data.truths import ImageTruths
from darknet_py.detections import Detections
from darknet_py.measuring.matching import Bools, Ints, Pairs, detection_table, first_of_each, pair_up, truth_table


def confusion_matrix(
    detections: Sequence[Detections],
    truths: Sequence[ImageTruths],
    classes: int,
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
) -> Ints:
    """(classes+1, classes+1) int64 counts, truths by row, detections by column; the last of both is the background.

    Detections above `thresh` and truths of any class are matched one to one, the pair with the best IoU first.
    Difficult truths are not counted, nor the detections matched with them.
    """
    found, confidences = detection_table(detections)
    confident = confidences > np.float32(thresh)
    found = found._replace(**{name: column[confident] for name, column in found._asdict().items()})
    truth, difficult = truth_table(truths)
    pairs = pair_up(found, truth, same_class=False)
    detection, matched = _one_to_one(pairs, pairs.iou > np.float32(iou_thresh))
    result = np.zeros((classes + 1, classes + 1), np.int64)
    counted = ~difficult[matched]
    np.add.at(result, (truth.classes[matched[counted]], found.classes[detection[counted]]), 1)
    missed, extra = ~difficult, np.ones(len(found.image), np.bool_)
    missed[matched], extra[detection] = False, False
    np.add.at(result[:, classes], truth.classes[missed], 1)
    np.add.at(result[classes], found.classes[extra], 1)
    return result


def _one_to_one(pairs: Pairs, allowed: Bools) -> tuple[Ints, Ints]:
    """Greedy matching by IoU → (detections, truths). Each round matches the pairs that are the best of both sides."""
    order = np.argsort(-pairs.iou[allowed], kind="stable")
    detection, truth = pairs.detection[allowed][order], pairs.truth[allowed][order]
    detections, truths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while len(detection):
        matched = first_of_each(detection) & first_of_each(truth)
        detections.append(detection[matched])
        truths.append(truth[matched])
        free = ~np.isin(detection, detection[matched]) & ~np.isin(truth, truth[matched])
        detection, truth = detection[free], truth[free]
    return np.concatenate(detections), np.concatenate(truths)
