"""GIoU loss of boxes, with a weight for each scale's objectness, in place of Darknet's for [yolo].

For each head, over the mini-batch: 0.05 * mean(1 - GIoU) + classes/80 * mean(BCE of classes), both over the boxes that
a truth trains, + balance * 5 * w*h/416^2 * mean(BCE of objectness), over those and the background; times the number of
images.
GIoU: https://arxiv.org/abs/1902.09630; the weights: those of bubbliiiing/yolo3-pytorch, whose loss this is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import giou
from darknet_py.losses.assign.level import last_of_each
from darknet_py.losses.loss import Loss, Output, State, Value, names_of, sum_of, weight
from darknet_py.losses.predictions import WEIGHTS, Prediction, predictions, refusal
from darknet_py.losses.truths import Truths

BOX, OBJECTNESS, CLASS = 0.05, 5.0, 1 / 80
BALANCE = ((8, 4.0), (16, 1.0))  # stride up to → weight of the objectness
COARSE = 0.4  # of larger strides
USUAL_SIZE = 416 * 416

ASSIGNER = "darknet"  # where the cfg names none


def balance(stride: float) -> float:
    return next((weight for limit, weight in BALANCE if stride <= limit), COARSE)


def giou_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """See `grid_loss`."""
    heads, truths = predictions(outputs, rows, state, ASSIGNER)
    costs = [_cost(head, truths, state.size) for head in heads]
    return sum_of(dict(zip(names_of(outputs), costs, strict=True)))


def _cost(head: Prediction, truths: Truths, size: tuple[int, int]) -> Tensor:
    assignment, (n, count) = head.assignment, head.logits.shape[:2]
    logits, xywh = head.logits.flatten(0, 1), head.xywh.flatten(0, 1)
    trained = assignment.image * count + assignment.box
    boxes, last = last_of_each(trained)
    with torch.no_grad():
        positive = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        positive[boxes] = True
        counted = positive | assignment.background.flatten()
        classes = logits.new_zeros(len(logits), logits.shape[1] - 5)
        classes[trained, truths.classes[assignment.image, assignment.truth]] = 1  # of two truths a box has both classes
    usual = balance(size[0] / head.grid[0]) * OBJECTNESS * size[0] * size[1] / USUAL_SIZE
    objectness = F.binary_cross_entropy_with_logits(logits[counted, 4], positive[counted].float())
    total = weight(head.layer, "objectness", usual) * objectness
    if len(boxes):
        truth = truths.xywh[assignment.image[last], assignment.truth[last]]
        total = total + weight(head.layer, "box", BOX) * (1 - giou(xywh[boxes], truth)).mean()
        by_class = F.binary_cross_entropy_with_logits(logits[boxes, 5:], classes[boxes])
        total = total + weight(head.layer, "class", classes.shape[1] * CLASS) * by_class
    return total * n


GIOU = Loss(giou_loss, WEIGHTS, ASSIGNER, refusal=refusal)
