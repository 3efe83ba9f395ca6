"""YOLOv5's loss of [yolo] heads, and what YOLOv7's has in common with it.

For each head, over the mini-batch: 0.05 * 3/heads * mean(1 - CIoU) + 0.5 * classes/80 * 3/heads * mean(BCE of classes),
both over the boxes that the truths train, + balance * (size/640)^2 * 3/heads * mean(BCE of the objectness), over all
boxes; times the number of images. The target of the objectness is the CIoU. With one class there is no class loss. An
auxiliary head's terms weigh a quarter. Focal loss: https://arxiv.org/abs/1708.02002 (alpha 0.25).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.devices import constant
from darknet_py.layers.yolo import Yolo
from darknet_py.losses.loss import Loss, Output, Start, State, Value, counts_of, sum_of, weight
from darknet_py.losses.overlaps import ciou
from darknet_py.losses.predictions import WEIGHTS, Prediction, predictions, refusal
from darknet_py.losses.truths import Truths, truth_vectors, truths_to_the_edge

EPS = 1e-7
BALANCES: tuple[tuple[float, ...], ...] = (
    (4.0, 1.0, 0.4),
    (4.0, 1.0, 0.25, 0.06, 0.02),
)  # of the objectness, finest head first: to 3 heads, more
FOCAL_ALPHA = 0.25
AUXILIARY = 0.25
KEPT = 0.9999  # of a balance, in each mini-batch, with autobalance
LEVELS, USUAL_SIZE, USUAL_CLASSES = 3, 640, 80  # for which the weights are; for others they are scaled

READS = WEIGHTS | {
    "objectness_balance", "autobalance", "sort_obj_iou", "focal_gamma", "label_smooth_eps",
    "objectness_positive_weight", "class_positive_weight",
}  # fmt: skip


def start(head: Yolo, stride: float, spare: float = 0.99999) -> Start:
    """See `Loss.start`: eight objects in an image of USUAL_SIZE; a box of an object is of some class with 0.6."""
    values = torch.zeros(len(head.anchors), head.box_values + head.classes)
    values[:, 4] = math.log(8 / (USUAL_SIZE / stride) ** 2)
    values[:, 5:] = math.log(0.6 / (head.classes - spare)) if head.classes else 0.0
    return Start(values.flatten(), varied=torch.ones(values.numel()), pytorch=True)


class System(NamedTuple):
    """What YOLOv5's loss and YOLOv7's differ in: usual weights of the terms, the assigner where the cfg names none, and
    the CIoU of boxes (k, 4), left, top, right, bottom."""

    box: float
    objectness: float
    classes: float
    assigner: str
    overlap: Callable[[Tensor, Tensor], Tensor]


def anchor_loss(outputs: Sequence[Output], rows: Tensor, state: State, system: System) -> Value:
    """The loss of all [yolo] heads of a network. rows: Darknet's.

    The host waits for the device where it counts the truths and the boxes that they train; with assigner=ota also
    where a truth chooses between boxes that were found twice (assign/ota.py).
    """
    heads, truths = predictions(outputs, rows, state, system.assigner, truths_to_the_edge)
    balances = _balances([head for head in heads if not head.layer.auxiliary], state)
    share = LEVELS / len(balances)
    scale = (max(state.net.width, state.net.height) / USUAL_SIZE) ** 2
    totals: dict[str, list[Tensor]] = defaultdict(list)
    counts: dict[int, dict[str, Tensor]] = {}
    objectness: dict[int, Tensor] = {}
    for head in heads:
        layer = head.layer
        terms = _terms(head, truths, state.size, system)
        counts[layer.index] = counts_of(terms.overlap.detach())
        objectness[layer.index] = terms.objectness.detach()
        part = AUXILIARY if layer.auxiliary else 1.0
        weighted = {
            "box": weight(layer, "box", system.box) * share * terms.box,
            "objectness": weight(layer, "objectness", system.objectness)
            * (scale * share * balances[layer.index if layer.lead is None else layer.lead])
            * terms.objectness,
            "class": weight(layer, "class", system.classes) * (layer.classes / USUAL_CLASSES * share) * terms.classes,
        }
        for name, term in weighted.items():
            totals[name].append(part * len(head.logits) * term)
    _rebalance(heads, balances, objectness, state)
    parts = {name: torch.stack(terms).sum() for name, terms in totals.items()}
    return sum_of(parts, counts)


class _Terms(NamedTuple):
    """Of a head, unweighted: scalars in the graph, and the CIoU (p,) of the boxes that truths train."""

    box: Tensor
    objectness: Tensor
    classes: Tensor
    overlap: Tensor


def _terms(head: Prediction, truths: Truths, size: tuple[int, int], system: System) -> _Terms:
    """size: (width, height) of the network's input, pixels."""
    layer, options, (image, truth, box, background) = head.layer, head.layer.options, head.assignment
    trained, (n, boxes) = head.logits[image, box], head.logits.shape[:2]
    grid = constant(head.grid, trained.device)
    corner, anchor = layer.place_of(box, head.grid)
    centre, sides = layer.in_cell(trained)
    predicted = torch.cat((centre, sides * (anchor * grid / constant(size, anchor.device))), -1)
    wanted = truths.xywh[image, truth] * grid.repeat(2) - F.pad(corner, (0, 2))
    overlap = system.overlap(corners(predicted), corners(wanted))
    with torch.no_grad():
        number, found = image * boxes + box, overlap.detach().clamp(min=0)
        target = trained.new_zeros(n * boxes)
        if options.sort_obj_iou:
            target = target.scatter_reduce(0, number, found, "amax")
        else:  # of several truths that train a box, the last
            order = torch.arange(len(number), device=number.device)
            last = torch.zeros_like(target, dtype=torch.int64).scatter_reduce(0, number, order, "amax")
            target = target.index_add(0, number, found * (last[number] == order))
        counted = background.index_put((image, box), background.new_ones(())).flatten()
        labels = truth_vectors(truths.classes[image, truth], layer.classes, options.label_smooth_eps)
    gamma = options.focal_gamma
    objectness = cross_entropy(head.logits[..., 4].flatten(), target, gamma, options.objectness_positive_weight)
    by_class = cross_entropy(trained[:, 5:], labels, gamma, options.class_positive_weight)
    count = max(len(number), 1)
    return _Terms(
        (1 - overlap).sum() / count,
        (objectness * counted).sum() / counted.sum(),
        by_class.sum() / max(count * layer.classes, 1) * (layer.classes > 1),
        overlap,
    )


def cross_entropy(logits: Tensor, target: Tensor, gamma: float, positive_weight: float) -> Tensor:
    """Of each logit, like `target` (0..1). gamma: of the focal loss, 0: none. positive_weight: of what is to be 1."""
    weights = constant(positive_weight, logits.device, logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
    if not gamma:
        return loss
    prob = logits.sigmoid()
    right = target * prob + (1 - target) * (1 - prob)
    alpha = target * FOCAL_ALPHA + (1 - target) * (1 - FOCAL_ALPHA)
    return loss * alpha * (1 - right) ** gamma


def _balances(heads: Sequence[Prediction], state: State) -> dict[int, float | Tensor]:
    """The weight of each lead head's objectness, by layer, finest first."""
    finest_first = [head.layer for head in sorted(heads, key=lambda head: -head.grid[0] * head.grid[1])]
    usual = BALANCES[len(heads) > len(BALANCES[0])]
    result: dict[int, float | Tensor] = {}
    for place, layer in enumerate(finest_first):
        written = layer.options.objectness_balance
        start = usual[min(place, len(usual) - 1)] if written is None else float(written)
        result[layer.index] = state.memory.get(_key(layer), start)
    return result


def _rebalance(
    heads: Sequence[Prediction], balances: dict[int, float | Tensor], objectness: dict[int, Tensor], state: State
) -> None:
    """With autobalance, the weights of the lead heads' objectness follow the reciprocals of its losses, relative to the
    second-finest head's."""
    leads = {head.layer.index: head.layer for head in heads if not head.layer.auxiliary}
    if not any(layer.options.autobalance for layer in leads.values()):
        return
    moved = {index: KEPT * balance + (1 - KEPT) / objectness[index].double() for index, balance in balances.items()}
    reference = list(moved.values())[min(1, len(moved) - 1)]
    for index, balance in moved.items():
        state.memory[_key(leads[index])] = balance / reference


def _key(layer: Yolo) -> str:
    return f"{layer.index}.objectness_balance"


V5 = System(0.05, 1.0, 0.5, "ratio", partial(ciou, eps=EPS, height_eps=0.0))
YOLOV5 = Loss(partial(anchor_loss, system=V5), READS, V5.assigner, refusal=refusal, start=start)
