"""YOLOX's loss of [anchor_free] heads with an objectness (https://arxiv.org/abs/2107.08430).

Sums over the mini-batch, divided by the number of assigned boxes: 5 * (1 - IoU^2) of these boxes (or 1 - GIoU) + cross
entropy of the objectness of all boxes + cross entropy of the classes of the assigned boxes, whose target is the IoU for
the truth's class. In the last epochs (`State.plain`) + the absolute differences of these boxes' raw values to theirs.
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
from darknet_py.losses.assign.simota import SIMOTA, Matches, assign_simota, class_costs
from darknet_py.losses.loss import Loss, Output, Start, State, Value, weight
from darknet_py.losses.overlaps import OVERLAPS
from darknet_py.losses.points import Points, by_channel, points, sum_of_groups
from darknet_py.losses.truths import Truths, truths_to_the_edge

BOX, OBJECTNESS, CLASS = 5.0, 1.0, 1.0
ASSIGNER, IOU_LOSS = "simota", "iou"  # where the cfg names none
EPS = 1e-16
RARE = -math.log(99)  # the logistic function gives 0.01
EDGE = 1e-8  # keeps the logarithm of a size finite


def yolox_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """The host waits for the device where it counts the truths and the boxes that they train."""
    truths = truths_to_the_edge(rows, outputs[0].layer.classes)
    return sum_of_groups(outputs, lambda group: _parts(group, truths, state))


def _parts(outputs: Sequence[Output], truths: Truths, state: State) -> dict[str, Tensor]:
    """The weighted parts of the loss of heads that are assigned together; scalars in the graph."""
    head, boxes = outputs[0].layer, points(outputs, state.size)
    assert boxes.objectness is not None
    wanted = truths.xywh * constant(state.size, truths.xywh.device, truths.xywh.dtype).repeat(2)
    with torch.no_grad():
        matches = matched(boxes, truths, wanted, head.options.assigner or ASSIGNER)
    image, box = (matches.owner >= 0).nonzero(as_tuple=True)
    number, stride = matches.owner[image, box], boxes.stride[box]
    truth = wanted[image, number] / stride.repeat(1, 2)  # cells
    overlap = box_quality(head.options.iou_loss or IOU_LOSS, boxes.corners[image, box], corners(truth))
    quality = torch.zeros_like(boxes.classes[image, box])
    quality.scatter_(1, truths.classes[image, number][:, None], matches.overlap[image, number, box][:, None])
    parts = {
        "box": weight(head, "box", BOX) * (1 - overlap).sum(),
        "objectness": weight(head, "objectness", OBJECTNESS)
        * F.binary_cross_entropy_with_logits(boxes.objectness, (matches.owner >= 0).to(quality), reduction="sum"),
        "class": weight(head, "class", CLASS)
        * F.binary_cross_entropy_with_logits(boxes.classes[image, box], quality, reduction="sum"),
    }
    if state.plain:
        raw = torch.cat((truth[:, :2] - (boxes.centre[box] - 0.5), (truth[:, 2:] + EDGE).log()), -1)
        parts["L1"] = F.l1_loss(boxes.box[image, box], raw, reduction="sum")
    return {name: part / max(len(image), 1) for name, part in parts.items()}


def start(head: AnchorFree, stride: float) -> Start:
    """See `Loss.start`: one box of a hundred has an object, and one of a hundred a class."""
    return Start(by_channel(head, 0.0, RARE, RARE), varied=by_channel(head, 1.0, 0.0, 0.0), pytorch=True)


def box_quality(iou_loss: str, boxes: Tensor, truths: Tensor) -> Tensor:
    """Corners (p, 4) of boxes and of truths → (p,), 1 for equal ones: the square of their IoU, or the overlap that
    `iou_loss` names."""
    overlap = OVERLAPS[iou_loss](boxes, truths, EPS)
    return overlap.square() if iou_loss == "iou" else overlap


def matched(boxes: Points, truths: Truths, wanted: Tensor, assigner: str) -> Matches:
    """Which truths train which boxes. wanted: (n, t, 4), centre and size of the truths, pixels."""
    labels = truths.classes.clamp(0, boxes.classes.shape[-1] - 1)
    assert boxes.objectness is not None
    cost = class_costs(boxes.objectness, boxes.classes, labels)
    predicted = boxes.corners * boxes.stride.repeat(1, 2)
    cells = boxes.centre * boxes.stride, boxes.stride
    return assign_simota(predicted, cells, cost, wanted, truths.valid, SIMOTA[assigner])


YOLOX = Loss(
    yolox_loss, frozenset({"assigner", "iou_loss", "box_weight", "objectness_weight", "class_weight"}), ASSIGNER,
    tuple(SIMOTA), mean=True, start=start,
)  # fmt: skip
