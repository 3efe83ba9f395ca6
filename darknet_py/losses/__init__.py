"""What networks are trained by: for each kind of layer with a loss, its losses by name; the first is the default.

    value = LOSSES["yolo"]["darknet"].function(outputs, truths, state)      # of all heads of the kind at once
    value.total.backward()

A kind of head from outside adds its losses to the table: LOSSES["my_head"] = {"mine": Loss(my_loss)}.
"""

from __future__ import annotations

from typing import Any

from darknet_py.choices import YOLO_LOSSES
from darknet_py.layers import Layer
from darknet_py.losses.assign import READS as ASSIGNER_READS
from darknet_py.losses.classifier import COST, SOFTMAX
from darknet_py.losses.contrastive import CONTRASTIVE
from darknet_py.losses.detection import DETECTION
from darknet_py.losses.faster_rcnn import ROI_HEAD, RPN
from darknet_py.losses.focal import FOCAL
from darknet_py.losses.gaussian_yolo import GAUSSIAN_YOLO
from darknet_py.losses.giou import GIOU
from darknet_py.losses.grid import GRID
from darknet_py.losses.loss import Loss, Output, State, Value
from darknet_py.losses.region import REGION
from darknet_py.losses.rejection import Rejection
from darknet_py.losses.yolo import YOLO
from darknet_py.losses.yolov5 import YOLOV5
from darknet_py.losses.yolov6 import YOLOV6
from darknet_py.losses.yolov7 import YOLOV7
from darknet_py.losses.yolov8 import YOLOV8
from darknet_py.losses.yolox import YOLOX

LOSSES: dict[str, dict[str, Loss]] = {
    "yolo": dict(zip(YOLO_LOSSES, (YOLO, GRID, GIOU, FOCAL, YOLOV5, YOLOV7), strict=True)),
    "anchor_free": {"yolox": YOLOX, "yolov8": YOLOV8, "yolov6": YOLOV6},
    "Gaussian_yolo": {"darknet": GAUSSIAN_YOLO},
    "region": {"darknet": REGION},
    "detection": {"darknet": DETECTION},
    "rpn": {"faster_rcnn": RPN},
    "roi_head": {"faster_rcnn": ROI_HEAD},
    "softmax": {"darknet": SOFTMAX},
    "cost": {"darknet": COST},
    "contrastive": {"darknet": CONTRASTIVE},
}


def loss_of(layer: Layer) -> Loss | None:
    """The loss of a layer: the one that its option `loss` names, or the first of its kind; None: the kind has none."""
    table = LOSSES.get(layer.kind)
    if table is None:
        return None
    return table[layer.loss_name] if layer.loss_name else next(iter(table.values()))


def unread_options(layer: Any) -> frozenset[str]:
    """Names of options that other losses or assigners of the layer's kind have a use for, and these have not."""
    chosen = loss_of(layer)
    assert chosen is not None
    reads = chosen.reads
    if chosen.assigner:
        reads |= ASSIGNER_READS.get(layer.options.assigner or chosen.assigner, frozenset())
    losses = LOSSES[layer.kind].values()
    known = [loss.reads for loss in losses]
    if any(loss.assigner and not loss.assigners for loss in losses):
        known += ASSIGNER_READS.values()
    return frozenset().union(*known) - reads


__all__ = ["LOSSES", "Loss", "Output", "Rejection", "State", "Value", "loss_of", "unread_options"]
