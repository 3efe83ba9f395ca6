"""[yolo], the head of YOLOv3, v4, v5 and v7 (Darknet: yolo_layer.c), and what it shares with [Gaussian_yolo].

Each of the head's anchors has a block of channels x, y, w, h, objectness, classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from darknet_py.choices import NMS_KINDS, YOLO_LOSSES
from darknet_py.layers.head import FLT_MAX, MAX_ANCHORS, Boxes, GridHead, HeadOptions, pixels, read_anchors, stretched
from darknet_py.layers.layer import Place
from darknet_py.options import MAX_WEIGHT, option

BEST_ALONE = 1.0  # Darknet's iou_thresh, where none is written


@dataclass(frozen=True, kw_only=True)
class YoloOptions(HeadOptions):
    """What [yolo] and [Gaussian_yolo] both read (parser.c:parse_yolo, parse_gaussian_yolo)."""

    classes: int = option(20, "number of classes", minimum=0, maximum=1_000_000)
    num: int = option(1, "number of anchors in the list, for all heads together", minimum=1, maximum=MAX_ANCHORS)
    mask: tuple[int, ...] = option(
        (), "the anchors of this head, counted from 0; default: all", minimum=0, hash_ends=True
    )
    anchors: tuple[float, ...] = option((), "widths and heights of all anchors, pixels of the network's input")
    scale_x_y: float = option(1.0, "stretches the range of a box's centre about the middle of its cell")
    beta_nms: float = option(0.6, "exponent of the distance term of diounms")
    max_delta: float = option(FLT_MAX, "clips the gradients of a box to +- this", use="training")
    counters_per_class: tuple[int, ...] = option(
        (), "number of training images per class; rare classes get larger gradients", hash_ends=True, use="training"
    )
    label_smooth_eps: float = option(
        0.0, "label smoothing: the class targets 0 and 1 move inwards by half of this", use="training"
    )
    objectness_smooth: int = option(0, "1: the target of the objectness is the IoU", use="training")
    iou_normalizer: float = option(0.75, "multiplies the gradient of boxes", use="training")
    obj_normalizer: float = option(1.0, "multiplies the gradient of the objectness", use="training")
    cls_normalizer: float = option(1.0, "multiplies the gradient of classes", use="training")
    delta_normalizer: float = option(
        1.0, "multiplies all gradients of the head in back-propagation (Darknet on a GPU)", use="untrained"
    )
    iou_loss: str = option(
        "mse", "loss of the boxes", choices=("mse", "iou", "giou", "diou", "ciou"), fallback="iou", use="training"
    )
    iou_thresh_kind: str = option(
        "iou",
        "measure of overlap for iou_thresh",
        choices=("iou", "giou", "diou", "ciou"),
        fallback="iou",
        use="training",
    )
    ignore_thresh: float = option(
        0.5, "boxes whose IoU with a truth exceeds it get no gradient as background", use="training"
    )
    truth_thresh: float = option(1.0, "boxes whose IoU with a truth exceeds it are trained to match it", use="training")
    iou_thresh: float | None = option(
        None,
        "all anchors whose IoU with a truth exceeds it are trained, besides the best one; default: 1 ([yolo] with "
        "assigner=grid: 0.5)",
        use="training",
    )
    map: str = option("", "file that maps the classes of the labels to those of this head", use="training")

    @property
    def masked(self) -> list[int]:
        """The numbers of this head's anchors in the list, from 0."""
        return list(self.mask) or list(range(self.num))


class YoloFamily(GridHead):
    """A head whose anchors are part of a list that all heads share."""

    all_anchors: Tensor  # (num, 2), of all heads: a truth trains the best of them
    table_names: ClassVar[tuple[str, ...]] = (
        "classes", "anchors", "scale_x_y", "nms_kind", "beta_nms", "iou_loss", "iou_thresh_kind", "jitter", "resize",
        "ignore_thresh", "truth_thresh", "iou_thresh", "random", "iou_normalizer", "obj_normalizer", "cls_normalizer",
        "delta_normalizer", "max_delta", "label_smooth_eps", "objectness_smooth",
    )  # fmt: skip

    def __init__(self, options: Any, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.nms_kind, self.beta_nms = options.classes, options.nms_kind, options.beta_nms
        self.read_map(place, options.map)
        if options.counters_per_class and len(options.counters_per_class) != options.classes:
            counters = len(options.counters_per_class)
            place.stop(
                "counters_per_class", f"{counters} numbers for {options.classes} classes; write one for each class"
            )
        self.anchors = read_anchors(place, options.anchors, options.num, options.mask)
        all_anchors = read_anchors(place, options.anchors, max(options.num, len(self.anchors)), ())
        self.register_buffer("all_anchors", all_anchors, persistent=False)
        count = len(self.anchors)
        needed = f"{count} mask{'s' * (count > 1)} x ({options.classes}+{self.box_values})"
        self.set_input(place, count * (options.classes + self.box_values), "classes", needed)

    def active(self, values: Tensor) -> Tensor:
        """`values` (…, entries), activated: Darknet's l.output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(n, anchors*entries, h, w) → the same, activated; Darknet's gradient passes the activation by."""
        entries = x.unflatten(1, (len(self.anchors), -1)).movedim(2, -1)
        return self.arithmetic.as_if(self.active(entries).movedim(-1, 2).flatten(1, 2), x)

    def describe(self) -> dict[str, object]:
        options, mask = self.options, self.options.masked
        about = {"mask": mask, "n": len(mask), "total": options.num, "max_boxes": options.max}
        values = {name: getattr(options, name) for name in self.table_names}
        return about | values | {"iou_thresh": BEST_ALONE if options.iou_thresh is None else options.iou_thresh}


class Yolo(YoloFamily, kinds=("yolo",)):
    table_names = (*YoloFamily.table_names, "new_coords", "focal_loss", "show_details")

    @dataclass(frozen=True, kw_only=True)
    class Options(YoloOptions):
        anchors: tuple[float, ...] = option(
            (), "widths and heights of all anchors, pixels of the network's input", hash_ends=True
        )
        new_coords: int = option(
            0, "1: the layer before ends in the logistic function, and a box is (2w)^2 times as wide as its anchor"
        )
        logistic: int = option(
            0,
            "1: with new_coords=1, the head applies the logistic function itself; the layer before is linear",
            own=True,
        )
        aux_of: int | None = option(
            None,
            "the head exists in training alone and helps to train this one, a layer before it (negative: counted back)",
            use="training",
            own=True,
        )
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS[:3], fallback="default")
        focal_loss: int = option(0, "1: focal loss for classes", use="training")
        show_details: int = option(
            1,
            "0: the reported loss is the sum of all squared deltas, whatever the iou_loss (gradients are the same)",
            use="training",
        )
        embedding_layer: int = option(999999, "tracking: the layer with the embeddings of the boxes", use="none")
        track_history_size: int = option(5, "tracking: number of frames that are remembered", use="none")
        sim_thresh: float = option(0.8, "tracking: minimum similarity of the same object", use="none")
        dets_for_track: int = option(1, "tracking: detections that start a track", use="none")
        dets_for_show: int = option(1, "tracking: detections after which a track is shown", use="none")
        track_ciou_norm: float = option(0.01, "tracking: weight of the distance between boxes", use="none")
        loss: str = option(
            YOLO_LOSSES[0],
            f"the loss: {', '.join(YOLO_LOSSES)} (docs/TRAINING.md)",
            use="training",
            own=True,
        )
        assigner: str | None = option(
            None,
            "which boxes a truth trains: darknet, grid, ratio, ota (docs/TRAINING.md); default: the loss's own",
            use="training",
            own=True,
        )
        box_weight: float | None = option(
            None,
            "multiplies the loss of boxes, with a loss other than darknet; default: the loss's own weight; yolov5 and "
            "yolov7 scale the three weights by 3/heads, objectness by (size/640)^2, classes by classes/80",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
            own=True,
        )
        objectness_weight: float | None = option(
            None,
            "multiplies the loss of the objectness, likewise",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
            own=True,
        )
        class_weight: float | None = option(
            None, "multiplies the loss of classes, likewise", minimum=0, maximum=MAX_WEIGHT, use="training", own=True
        )
        anchor_t: float = option(
            4.0,
            "assigner=ratio, ota: a truth trains an anchor where both sides differ by less than this factor",
            minimum=1,
            maximum=1000,
            use="training",
            own=True,
        )
        background_thresh: float | None = option(
            None,
            "assigner=grid: boxes whose IoU with all truths is as small or smaller are not background either; "
            "default: they are",
            minimum=0,
            maximum=1,
            use="training",
            own=True,
        )
        min_pos_iou: float = option(
            0.0,
            "assigner=grid: a truth's best anchor is trained where their IoU exceeds it",
            minimum=0,
            maximum=1,
            use="training",
            own=True,
        )
        objectness_balance: float | None = option(
            None,
            "loss=yolov5, yolov7: multiplies the loss of this head's objectness; default, from the finest head on: "
            "4, 1, 0.4, with more than 3 heads 4, 1, 0.25, 0.06, 0.02",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
            own=True,
        )
        autobalance: int = option(
            0,
            "loss=yolov5, yolov7: 1: objectness_balance is adjusted in training, to equal losses of all heads",
            use="training",
            own=True,
        )
        sort_obj_iou: int = option(
            0,
            "loss=yolov5, yolov7: 1: of several truths that train a box, the one that overlaps it most gives the "
            "target of its objectness; 0: the last",
            use="training",
            own=True,
        )
        focal_gamma: float = option(
            0.0,
            "loss=yolov5, yolov7: exponent of the focal loss of objectness and classes; 0: no focal loss",
            minimum=0,
            maximum=100,
            use="training",
            own=True,
        )
        objectness_positive_weight: float = option(
            1.0,
            "loss=yolov5, yolov7: multiplies the loss of the objectness of boxes that truths train",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
            own=True,
        )
        class_positive_weight: float = option(
            1.0,
            "loss=yolov5, yolov7: multiplies the loss of the truth's class",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
            own=True,
        )

    def __init__(self, options: Any, place: Place) -> None:
        super().__init__(options, place)
        self.set_lead(place)
        if options.logistic and not options.new_coords:
            place.fail("logistic", "without new_coords=1 the head applies it anyway; write new_coords=1, or logistic=0")

    @property
    def loss_name(self) -> str:
        return str(self.options.loss)

    @property
    def classless(self) -> bool:
        """Whether the confidence is the objectness alone: YOLOv7's loss does not train the class of a single one."""
        return self.classes == 1 and self.loss_name == "yolov7"

    @property
    def reads_logits(self) -> bool:
        """Whether the layer before gives logits, not probabilities."""
        return not self.options.new_coords or bool(self.options.logistic)

    def active(self, values: Tensor) -> Tensor:
        """The logistic function of the centre (then stretched), objectness and classes; w and h unchanged, with
        `logistic` their logistic function too."""
        if self.options.logistic:
            values = values.sigmoid()
        xy, wh, rest = values[..., :2], values[..., 2:4], values[..., 4:]
        if not self.options.new_coords:
            xy, rest = xy.sigmoid(), rest.sigmoid()
        return torch.cat((stretched(xy, self.options.scale_x_y), wh, rest), -1)

    def in_cell(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of boxes (…, entries): the centre from the corner of the cell, cells, and width and height as multiples of
        the anchor's; (…, 2) each."""
        return self._in_cell(self.active(values))

    def _in_cell(self, active: Tensor) -> tuple[Tensor, Tensor]:
        wh = active[..., 2:4]
        return active[..., :2], wh * wh * 4 if self.options.new_coords else wh.exp()

    def boxes_at(self, values: Tensor, box: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Boxes:
        corner, anchor = self.place_of(box, grid)
        active = self.active(values)
        in_cell, multiples = self._in_cell(active)
        centre = (corner + in_cell) / pixels(grid, values)
        sides = multiples * anchor / pixels(size, values)
        classes = torch.ones_like(active[..., 5:]) if self.classless else active[..., 5:]
        return Boxes(torch.cat((centre, sides), -1), active[..., 4], classes)

    def likely(self, values: Tensor, thresh: float) -> Tensor:
        objectness = values[..., 4].float()
        return (objectness.sigmoid() if self.reads_logits else objectness) > thresh
