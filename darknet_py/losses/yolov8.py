"""YOLOv8's loss of [anchor_free] heads without an objectness (https://docs.ultralytics.com/models/yolov8/).

Over the mini-batch, divided by the sum of the scores that the assigned boxes are to give (if that exceeds 1), times the
number of images: 0.5 * cross entropy of the classes of all boxes to these scores + 7.5 * (1 - CIoU) of the assigned
boxes, each weighed by its score, + 1.5 * distribution focal loss of their distances (with reg_max), likewise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.devices import constant
from darknet_py.layers.anchor_free import AnchorFree
from darknet_py.losses.assign.owners import inside
from darknet_py.losses.assign.task_aligned import assign_task_aligned
from darknet_py.losses.distribution import distribution_focal
from darknet_py.losses.loss import Loss, Output, Start, State, Value, weight
from darknet_py.losses.overlaps import OVERLAPS, ciou
from darknet_py.losses.points import Points, by_channel, points, sum_of_groups
from darknet_py.losses.truths import Truths, truths_to_the_edge

BOX, CLASS, DFL = 7.5, 0.5, 1.5
ASSIGNER, IOU_LOSS = "task_aligned", "ciou"  # where the cfg names none
TOP, ALPHA, BETA = 10, 0.5, 6.0
EPS = 1e-7
SMALLEST = {"task_aligned": 0, "task_aligned_8.4": 16}
"""The option `assigner` → pixels: smaller sides of a truth count as so long where the cells in it are sought."""


def start(head: AnchorFree, stride: float) -> Start:
    """See `Loss.start`: five objects in an image of 640 pixels."""
    return Start(by_channel(head, 1.0, 0.0, math.log(5 / head.classes / (640 / stride) ** 2)), pytorch=True)


def yolov8_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """The host waits for the device where it counts the truths, the cells in them, and the boxes that they train."""
    truths = truths_to_the_edge(rows, outputs[0].layer.classes)
    return sum_of_groups(outputs, lambda group: _parts(group, truths, state))


def _parts(outputs: Sequence[Output], truths: Truths, state: State) -> dict[str, Tensor]:
    """The weighted parts of the loss of heads that are assigned together; scalars in the graph."""
    head, boxes = outputs[0].layer, points(outputs, state.size)
    low_high = corners(truths.xywh * constant(state.size, truths.xywh.device, truths.xywh.dtype).repeat(2))
    with torch.no_grad():
        owner, score = assigned(boxes, truths, low_high, SMALLEST[head.options.assigner or ASSIGNER])
        share = len(truths.rows) / score.sum().clamp(min=1)
    image, box = (owner >= 0).nonzero(as_tuple=True)
    number, score = owner[image, box], score[image, box]
    truth = low_high[image, number] / boxes.stride[box].repeat(1, 2)  # cells
    overlap = OVERLAPS[head.options.iou_loss or IOU_LOSS](boxes.corners[image, box], truth, EPS)
    target = torch.zeros_like(boxes.classes)
    target[image, box, truths.classes[image, number]] = score
    parts = {
        "box": weight(head, "box", BOX) * ((1 - overlap) * score).sum(),
        "class": weight(head, "class", CLASS)
        * F.binary_cross_entropy_with_logits(boxes.classes, target, reduction="sum"),
    }
    if head.options.reg_max:
        by_box = distribution_focal(boxes.box[image, box], boxes.centre[box], truth)
        parts["distribution"] = weight(head, "dfl", DFL) * (by_box * score).sum()
    return {name: part * share for name, part in parts.items()}


def assigned(boxes: Points, truths: Truths, low_high: Tensor, smallest: int) -> tuple[Tensor, Tensor]:
    """What `assign_task_aligned` gives.

    low_high: (n, t, 4), corners of the truths, pixels. smallest: the shortest side, pixels; see `SMALLEST`.
    """
    middle, half = (low_high[..., :2] + low_high[..., 2:]) / 2, (low_high[..., 2:] - low_high[..., :2]) / 2
    small = half < smallest / 2
    wide = torch.where(small.repeat(1, 1, 2), torch.cat((middle - smallest / 2, middle + smallest / 2), -1), low_high)
    candidates = inside(boxes.centre * boxes.stride, wide) & truths.valid[..., None]
    image, number, box = candidates.nonzero(as_tuple=True)
    probs = boxes.classes.new_zeros(candidates.shape)
    overlaps = torch.zeros_like(probs)
    label, stride = truths.classes[image, number], boxes.stride[box].repeat(1, 2)
    probs[image, number, box] = boxes.classes[image, box, label].sigmoid()
    overlap = ciou(low_high[image, number], boxes.corners[image, box] * stride, EPS)
    overlaps[image, number, box] = overlap.clamp(min=0)
    return assign_task_aligned(probs, overlaps, candidates, top=TOP, alpha=ALPHA, beta=BETA)


YOLOV8 = Loss(
    yolov8_loss, frozenset({"assigner", "iou_loss", "box_weight", "class_weight", "dfl_weight"}), ASSIGNER,
    tuple(SMALLEST), start=start,
)  # fmt: skip
