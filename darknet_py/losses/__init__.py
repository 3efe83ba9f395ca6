"""What the heads are trained by: for each kind of loss layer, its deltas (Darknet's word for minus the gradient) and its cost.

    result = LOSSES[layer.kind](layer, raw, truths, context)      # deltas of the raw input, the cost that Darknet reports

Darknet defines deltas rather than losses, and some are the gradient of no loss. `inject` hands them to autograd as they are.
"""

from darknet_py.losses.classifier import cost_loss, softmax_loss
from darknet_py.losses.contrastive import contrastive_loss
from darknet_py.losses.detection import detection_loss
from darknet_py.losses.focal import focal_loss
from darknet_py.losses.gaussian_yolo import gaussian_yolo_loss
from darknet_py.losses.giou import giou_loss
from darknet_py.losses.grid import grid_loss
from darknet_py.losses.loss import Context, Loss, LossFunction, inject
from darknet_py.losses.region import region_loss
from darknet_py.losses.rejection import Rejection
from darknet_py.losses.yolo import yolo_loss

LOSSES: dict[str, LossFunction] = {
    "yolo": yolo_loss,
    "Gaussian_yolo": gaussian_yolo_loss,
    "region": region_loss,
    "detection": detection_loss,
    "softmax": softmax_loss,
    "cost": cost_loss,
    "contrastive": contrastive_loss,
}

YOLO_LOSSES: dict[str, LossFunction] = {"darknet": yolo_loss, "grid": grid_loss, "giou": giou_loss, "focal": focal_loss}
"""How [yolo] heads can be trained: as Darknet does, or as others do."""

__all__ = ["LOSSES", "YOLO_LOSSES", "Context", "Loss", "LossFunction", "Rejection", "inject"]
