"""Focal loss of the objectness, GIoU loss of boxes, and truths that weigh as much as their picture does in a blend, in place of Darknet's
for [yolo].

For each head, the sum over the boxes of weight * ((2 - w*h) * (1 - GIoU) + BCE of classes) where a truth trains them, and of
|target - p|^2 * BCE of the objectness there and where no truth overlaps by ignore_thresh. Focal loss: https://arxiv.org/abs/1708.02002
(gamma 2, alpha 1); the weights of blended pictures: https://arxiv.org/abs/1902.04103.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import giou
from darknet_py.losses.assign.darknet import Truths, assigned_boxes, best_truths, one_box_each
from darknet_py.losses.loss import Context
from darknet_py.losses.predictions import WEIGHT, by_autograd, predict
from darknet_py.losses.yolo import truth_vectors

GAMMA = 2.0


def _cost(layer: Any, raw: Tensor, rows: Tensor, truths: Truths, context: Context) -> Tensor:
    options = layer.options
    predicted = predict(layer, raw, context.size)
    logits, xywh = predicted.logits.flatten(0, 3), predicted.xywh.flatten(0, 3)
    assigned = assigned_boxes(layer, truths, predicted.grid, context.size)
    cells, last = one_box_each(assigned.cells(predicted.logits.shape))
    image, number = assigned.image[last], assigned.truth[last]
    with torch.no_grad():
        overlap = (
            best_truths(predicted.xywh, truths)[0].flatten() if truths.xywh.shape[1] else logits.new_zeros(len(logits))
        )
        target, weight = torch.zeros_like(logits[:, 4]), torch.ones_like(logits[:, 4])
        target[cells] = 1
        if rows.shape[2] > WEIGHT:
            weight[cells] = rows[image, number, WEIGHT]
        counted = (target > 0) | (overlap < options.ignore_thresh)
    focus = (target - logits[:, 4].sigmoid()).abs() ** GAMMA
    objectness = focus * F.binary_cross_entropy_with_logits(logits[:, 4], target, reduction="none")
    truth, labels = truths.xywh[image, number], truths.classes[image, number]
    boxes = (2 - truth[:, 2] * truth[:, 3]) * (1 - giou(xywh[cells], truth))
    wanted = truth_vectors(labels, logits.shape[1] - 5, options.label_smooth_eps)
    classes = F.binary_cross_entropy_with_logits(logits[cells, 5:], wanted, reduction="none").sum(1)
    return (weight * objectness * counted).sum() + (weight[cells] * (boxes + classes)).sum()


focal_loss = by_autograd(_cost)
