"""YOLOv6's loss of [anchor_free] heads (https://arxiv.org/abs/2301.05586).

Over the mini-batch, divided by the sum of the scores that the assigned boxes are to give (if that exceeds 1):
varifocal loss of the classes of all boxes + 2.5 * (1 - overlap) of the assigned boxes + 0.5 * distribution focal loss
of their distances (with reg_max). ATSS assigns in the first `atss_epochs` epochs, then task alignment; both in float64.
Auxiliary heads (the anchor-aided branch) are assigned for themselves, always by task alignment, and weigh as much.
Varifocal loss: https://arxiv.org/abs/2008.13367; distribution focal loss: distribution.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.devices import constant
from darknet_py.layers.anchor_free import AnchorFree
from darknet_py.losses.assign.atss import assign_atss
from darknet_py.losses.assign.owners import inside
from darknet_py.losses.assign.task_aligned import assign_task_aligned
from darknet_py.losses.distribution import distribution_focal
from darknet_py.losses.loss import Loss, Output, Start, State, Value, weight
from darknet_py.losses.overlaps import EPS, OVERLAPS, iou
from darknet_py.losses.points import Points, by_channel, points, sum_of_groups
from darknet_py.losses.truths import Truths, truths_to_the_edge

CLASS, BOX, DFL = 1.0, 2.5, 0.5
IOU_LOSS = "giou"  # where the cfg names none
TOP, AUXILIARY_TOP = 13, 26
ALPHA, BETA = 1.0, 6.0
BACKGROUND = 0.75  # of the varifocal loss: weight of what is not the class of the box's truth


def start(head: AnchorFree, stride: float) -> Start:
    """See `Loss.start`: a class is rare; sides are a cell away, boxes with anchors are as large as these; everywhere,
    as the weights are 0."""
    biases = by_channel(head, 0.0 if head.options.anchors else 1.0, 0.0, -math.log(99))
    return Start(biases, deviations=torch.zeros_like(biases), pytorch=True)


class Targets(NamedTuple):
    """owner: (n, k) int64, the truth that trains each box, -1: background. score: (n, k) float64, of the truth's class.
    truths: (n, t, 4) float64, corners in pixels of the input."""

    owner: Tensor
    score: Tensor
    truths: Tensor


def yolov6_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """The host waits for the device where it counts the truths, and, for each group, the boxes that they train."""
    first = outputs[0].layer
    truths = truths_to_the_edge(rows, first.classes)
    return sum_of_groups(outputs, lambda group: _parts(group, truths, state))


def _parts(outputs: Sequence[Output], truths: Truths, state: State) -> dict[str, Tensor]:
    """The weighted parts of the loss of heads that are assigned together; scalars, float64, in the graph."""
    head, boxes = outputs[0].layer, points(outputs, state.size)
    auxiliary = head.auxiliary
    by_atss = state.epoch < head.options.atss_epochs and not auxiliary
    with torch.no_grad():
        targets = assigned(boxes, truths, state.size, None if by_atss else AUXILIARY_TOP if auxiliary else TOP)
        total = targets.score.sum()
        total = torch.where(total > (0 if auxiliary else 1), total, 1.0)
    image, box = (targets.owner >= 0).nonzero(as_tuple=True)
    owner = targets.owner[image, box]
    score, stride = targets.score[image, box], boxes.stride[box].repeat(1, 2)
    truth = targets.truths[image, owner] / stride  # corners, cells
    overlap = OVERLAPS[head.options.iou_loss or IOU_LOSS](boxes.corners[image, box].double(), truth, EPS)
    parts = {
        "class": weight(head, "class", CLASS)
        * _varifocal(boxes.classes, image, box, truths.classes[image, owner], score),
        "box": weight(head, "box", BOX) * ((1 - overlap) * score).sum(),
    }
    if head.options.reg_max:
        by_box = distribution_focal(boxes.box[image, box], boxes.centre[box], truth)
        parts["distribution"] = weight(head, "dfl", DFL) * (by_box * score).sum()
    return {name: part / total for name, part in parts.items()}


def assigned(boxes: Points, truths: Truths, size: tuple[int, int], top: int | None) -> Targets:
    """top: boxes that a truth claims by task alignment; None: by ATSS."""
    stride = boxes.stride.double()
    centre, predicted = boxes.centre * stride, boxes.corners.double() * stride.repeat(1, 2)
    wanted = truths.xywh.double() * constant(size, stride.device, stride.dtype).repeat(2)
    low_high = corners(wanted)
    candidates = inside(centre, low_high) & truths.valid[..., None]
    overlaps = iou(predicted[:, None], low_high[:, :, None])  # (n, t, k)
    if top is None:
        owner = assign_atss(centre, stride, boxes.counts, wanted, candidates, truths.valid)
        best = overlaps.gather(1, owner[:, None].clamp(min=0))[:, 0] if truths.xywh.shape[1] else owner.double()
        return Targets(owner, torch.where(owner >= 0, best, 0.0), low_high)
    of_classes = truths.classes.clamp(0, boxes.classes.shape[-1] - 1)[:, None].expand(-1, len(centre), -1)
    probs = boxes.classes.sigmoid().gather(2, of_classes).transpose(1, 2).double()
    owner, score = assign_task_aligned(probs, overlaps, candidates, top=top, alpha=ALPHA, beta=BETA)
    return Targets(owner, score, low_high)


def _varifocal(logits: Tensor, image: Tensor, box: Tensor, classes: Tensor, score: Tensor) -> Tensor:
    """Cross entropy to the score of the truth's class, which it also weighs; all else weighs 0.75 p^2, with a gradient
    of its own. The boxes (image, box) are trained to give `classes` this score, all others nothing."""
    probs, target = logits.sigmoid(), torch.zeros_like(logits)
    target[image, box, classes] = score.to(target.dtype)
    factor = BACKGROUND * probs.square()
    factor = factor.index_put((image, box, classes), score.to(target.dtype))
    return (F.binary_cross_entropy(probs, target, reduction="none") * factor).sum(dtype=torch.float64)


READS = frozenset({"iou_loss", "box_weight", "class_weight", "dfl_weight", "atss_epochs"})
YOLOV6 = Loss(yolov6_loss, READS, mean=True, start=start)
