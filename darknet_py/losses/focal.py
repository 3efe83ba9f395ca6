"""Focal loss of the objectness, GIoU loss of boxes, and truths that weigh as much as their image does in a blend, in
place of Darknet's for [yolo].

For each head, the sum over the boxes of weight * ((2 - w*h) * (1 - GIoU) + BCE of classes) where a truth trains them,
and of |target - p|^2 * BCE of the objectness there and in the background. Focal loss: https://arxiv.org/abs/1708.02002
(gamma 2, alpha 1);
the weights of blended images: https://arxiv.org/abs/1902.04103.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import giou
from darknet_py.losses.assign.level import last_of_each
from darknet_py.losses.loss import Loss, Output, State, Value, names_of, sum_of, weight
from darknet_py.losses.predictions import WEIGHT, WEIGHTS, Prediction, predictions, refusal
from darknet_py.losses.truths import Truths, truth_vectors

GAMMA = 2.0

ASSIGNER = "darknet"  # where the cfg names none


def focal_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """See `grid_loss`; rows may have a seventh number, the truth's weight."""
    heads, truths = predictions(outputs, rows, state, ASSIGNER)
    costs = [_cost(head, truths) for head in heads]
    return sum_of(dict(zip(names_of(outputs), costs, strict=True)))


def _cost(head: Prediction, truths: Truths) -> Tensor:
    assignment, count = head.assignment, head.logits.shape[1]
    logits, xywh = head.logits.flatten(0, 1), head.xywh.flatten(0, 1)
    boxes, last = last_of_each(assignment.image * count + assignment.box)
    image, number = assignment.image[last], assignment.truth[last]
    with torch.no_grad():
        target, share = torch.zeros_like(logits[:, 4]), torch.ones_like(logits[:, 4])
        target[boxes] = 1
        if truths.rows.shape[2] > WEIGHT:
            share[boxes] = truths.rows[image, number, WEIGHT]
        counted = (target > 0) | assignment.background.flatten()
    focus = (target - logits[:, 4].sigmoid()).abs() ** GAMMA
    objectness = focus * F.binary_cross_entropy_with_logits(logits[:, 4], target, reduction="none")
    truth, labels = truths.xywh[image, number], truths.classes[image, number]
    by_box = (2 - truth[:, 2] * truth[:, 3]) * (1 - giou(xywh[boxes], truth)) * weight(head.layer, "box", 1)
    wanted = truth_vectors(labels, logits.shape[1] - 5, head.layer.options.label_smooth_eps)
    by_class = F.binary_cross_entropy_with_logits(logits[boxes, 5:], wanted, reduction="none").sum(1)
    by_class = by_class * weight(head.layer, "class", 1)
    objectness = objectness * weight(head.layer, "objectness", 1)
    return (share * objectness * counted).sum() + (share[boxes] * (by_box + by_class)).sum()


FOCAL = Loss(focal_loss, frozenset({"label_smooth_eps"}) | WEIGHTS, ASSIGNER, refusal=refusal)
