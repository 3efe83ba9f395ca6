"""The grid assigner with cross-entropy losses and label smoothing, in place of Darknet's for [yolo].

Loss: 2 BCE of x and y + 2 (w, h)^2 + BCE of objectness + BCE of classes, where a class's target is 1 - eps +
eps/classes, and eps/classes for the others (eps: label_smooth_eps); sums over the boxes. Assigner (assign/grid.py) and
weights: those of YOLOv3 in MMDetection (https://arxiv.org/abs/1906.07155).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.yolo import Yolo
from darknet_py.losses.assign.level import last_of_each
from darknet_py.losses.loss import Loss, Output, Start, State, Value, names_of, sum_of, weight
from darknet_py.losses.predictions import WEIGHTS, Prediction, predictions, refusal
from darknet_py.losses.truths import Truths, one_hot

BOX = 2.0  # of x and y, and of w and h
EDGE = 1e-6  # targets of x and y stay so far from 0 and 1

ASSIGNER = "grid"  # where the cfg names none


def grid_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """The loss of all [yolo] heads of a network. outputs: raw, (n, anchors*(5+classes), h, w). rows: (n, max, 6),
    Darknet's.

    The host waits for the device where it counts the truths and the boxes that they train.
    """
    heads, truths = predictions(outputs, rows, state, ASSIGNER)
    costs = [_cost(head, truths, state.size) for head in heads]
    return sum_of(dict(zip(names_of(outputs), costs, strict=True)))


def _cost(head: Prediction, truths: Truths, size: tuple[int, int]) -> Tensor:
    layer, assignment, logits = head.layer, head.assignment, head.logits
    with torch.no_grad():
        _, last = last_of_each(assignment.image * logits.shape[1] + assignment.box)
        image, box = assignment.image[last], assignment.box[last]
        number = assignment.truth[last]
        wanted = encoded(layer, box, truths.xywh[image, number], head.grid, size)
        eps, classes = layer.options.label_smooth_eps, logits.shape[-1] - 5
        labels = one_hot(truths.classes[image, number], classes) * (1 - eps) + eps / max(classes, 1)
        positive = torch.zeros_like(assignment.background)
        positive[image, box] = True
    trained = logits[image, box]
    by_box = F.binary_cross_entropy_with_logits(trained[:, :2], wanted[:, :2], reduction="sum")
    by_box = by_box + F.mse_loss(trained[:, 2:4], wanted[:, 2:], reduction="sum")
    by_class = F.binary_cross_entropy_with_logits(trained[:, 5:], labels, reduction="sum")
    objectness = F.binary_cross_entropy_with_logits(logits[..., 4], positive.float(), reduction="none")
    objectness = (objectness * (assignment.background | positive)).sum()
    return (
        weight(layer, "box", BOX) * by_box
        + weight(layer, "objectness", 1) * objectness
        + weight(layer, "class", 1) * by_class
    )


def encoded(layer: Yolo, box: Tensor, truth: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What boxes of a head are to give for truths: (p, 4), x and y after the logistic function, w and h.

    box: (p,) numbers of boxes. truth: (p, 4), fractions of the input. grid: (width, height) of the map, cells. size: of
    the input, pixels.
    """
    corner, anchor = layer.place_of(box, grid)
    xy = truth[:, :2] * constant(grid, truth.device) - corner
    xy = ((xy - 0.5) / layer.options.scale_x_y + 0.5).clamp(EDGE, 1 - EDGE)
    wh = (truth[:, 2:] * constant(size, truth.device) / anchor).clamp(min=EDGE).log()
    return torch.cat((xy, wh), 1)


def start(head: Yolo, stride: float) -> Start:
    """See `Loss.start`: eight objects on each map of an image of 608 pixels; one box of a hundred has a class."""
    values = torch.zeros(len(head.anchors), head.box_values + head.classes)
    rare = 8 / (608 / stride) ** 2
    values[:, 4], values[:, 5:] = math.log(rare / (1 - rare)), -math.log(99)
    return Start(values.flatten(), deviations=torch.full((values.numel(),), 0.01), before=0.01)


GRID = Loss(grid_loss, frozenset({"label_smooth_eps"}) | WEIGHTS, ASSIGNER, refusal=refusal, start=start)
