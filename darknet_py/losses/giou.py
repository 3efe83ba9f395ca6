"""GIoU loss of boxes, with a weight for each scale's objectness, in place of Darknet's for [yolo].

For each head, over the mini-batch: 0.05 * mean(1 - GIoU) + classes/80 * mean(BCE of classes), both over the boxes that a truth trains, +
balance * 5 * w*h/416^2 * mean(BCE of objectness), over those and the boxes that overlap no truth by more than ignore_thresh.
GIoU: https://arxiv.org/abs/1902.09630; the weights: those of the widespread PyTorch trainings of YOLOv3.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import giou
from darknet_py.losses.assign.darknet import Truths, assigned_boxes, best_truths, one_box_each
from darknet_py.losses.loss import Context
from darknet_py.losses.predictions import by_autograd, predict

BOX, OBJECTNESS, CLASS = 0.05, 5.0, 1 / 80
BALANCE = ((8, 4.0), (16, 1.0))  # stride up to → weight of the objectness
COARSE = 0.4  # of larger strides
USUAL_SIZE = 416 * 416


def balance(stride: float) -> float:
    return next((weight for most, weight in BALANCE if stride <= most), COARSE)


def _cost(layer: Any, raw: Tensor, rows: Tensor, truths: Truths, context: Context) -> Tensor:
    predicted = predict(layer, raw, context.size)
    logits, xywh = predicted.logits.flatten(0, 3), predicted.xywh.flatten(0, 3)
    assigned = assigned_boxes(layer, truths, predicted.grid, context.size)
    every = assigned.cells(predicted.logits.shape)
    cells, last = one_box_each(every)
    with torch.no_grad():
        overlap = (
            best_truths(predicted.xywh, truths)[0].flatten() if truths.xywh.shape[1] else logits.new_zeros(len(logits))
        )
        positive = torch.zeros(len(logits), dtype=torch.bool, device=raw.device)
        positive[cells] = True
        counted = positive | (overlap <= layer.options.ignore_thresh)
        classes = logits.new_zeros(len(logits), logits.shape[1] - 5)
        classes[every, truths.classes[assigned.image, assigned.truth]] = (
            1  # a box of two truths has the classes of both
        )
    area = context.size[0] * context.size[1] / USUAL_SIZE
    weight = balance(context.size[0] / predicted.grid[0]) * OBJECTNESS * area
    total = weight * F.binary_cross_entropy_with_logits(logits[counted, 4], positive[counted].float())
    if len(cells):
        truth = truths.xywh[assigned.image[last], assigned.truth[last]]
        total = total + BOX * (1 - giou(xywh[cells], truth)).mean()
        total = total + classes.shape[1] * CLASS * F.binary_cross_entropy_with_logits(logits[cells, 5:], classes[cells])
    return total * len(raw)


giou_loss = by_autograd(_cost)
