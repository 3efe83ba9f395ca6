"""[yolo], the head of YOLOv3, v4 and v7 (Darknet: yolo_layer.c).

Each of the head's anchors has a block of channels x, y, w, h, objectness, classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darknet_py.layers.head import NMS_KINDS, Candidates, Head, YoloOptions, cells, read_anchors
from darknet_py.layers.layer import Place
from darknet_py.options import option


class Yolo(Head, kinds=("yolo",)):
    anchors: Tensor  # (masked, 2) widths and heights, pixels of the network's input
    all_anchors: Tensor  # (num, 2), those of the other heads too: a truth trains the best of all

    @dataclass(frozen=True, kw_only=True)
    class Options(YoloOptions):
        new_coords: int = option(
            0, "1: the layer before ends in the logistic function, and a box is (2w)^2 anchors wide"
        )
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS[:3], otherwise="default")
        focal_loss: int = option(0, "1: focal loss for classes", use="training")
        show_details: int = option(
            1,
            "0: the reported loss is the sum of all squared deltas, for each iou_loss (gradients are the same)",
            use="training",
        )
        embedding_layer: int = option(999999, "tracking: the layer with the embeddings of the boxes", use="none")
        track_history_size: int = option(5, "tracking: number of frames that are remembered", use="none")
        sim_thresh: float = option(0.8, "tracking: minimum similarity of the same object", use="none")
        dets_for_track: int = option(1, "tracking: detections that start a track", use="none")
        dets_for_show: int = option(1, "tracking: detections after which a track is shown", use="none")
        track_ciou_norm: float = option(0.01, "tracking: weight of the distance between boxes", use="none")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.nms_kind, self.beta_nms = options.classes, options.nms_kind, options.beta_nms
        self.read_map(place, options.map)
        self.register_buffer(
            "anchors", read_anchors(place, options.anchors, options.num, options.mask), persistent=False
        )
        everyone = read_anchors(place, options.anchors, max(options.num, len(self.anchors)), ())
        self.register_buffer("all_anchors", everyone, persistent=False)
        count = len(self.anchors)
        self.set_input(
            place, count * (options.classes + 5), "classes", f"{count} mask{'s' * (count > 1)} x ({options.classes}+5)"
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, anchors*(5+classes), h, w): centre, objectness and classes through the logistic function, w and h as they are."""
        entries = x.unflatten(1, (len(self.anchors), -1))
        xy, wh, rest = entries[:, :, :2], entries[:, :, 2:4], entries[:, :, 4:]
        if not self.options.new_coords:
            xy, rest = xy.sigmoid(), rest.sigmoid()
        return torch.cat((self.stretch(xy), wh, rest), 2).flatten(1, 2)

    def stretch(self, xy: Tensor) -> Tensor:
        """The centre's place in its cell, by scale_x_y."""
        scale = self.options.scale_x_y
        return xy if scale == 1 else xy * scale - 0.5 * (scale - 1)

    def decode(
        self, raw: Tensor, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        entries = cells(raw, len(self.anchors))
        new_coords = self.options.new_coords
        objectness = entries[..., 4].float() if new_coords else entries[..., 4].float().sigmoid()
        image, row, column, anchor = (objectness > thresh).nonzero(as_tuple=True)
        chosen = entries[image, row, column, anchor].float()
        objectness = objectness[image, row, column, anchor]
        xy, wh, classes = chosen[:, :2], chosen[:, 2:4], chosen[:, 5:]
        if not new_coords:
            xy, classes = xy.sigmoid(), classes.sigmoid()
        grid = torch.tensor(raw.shape[:1:-1], device=raw.device)  # (w, h) of the map
        centre = (torch.stack((column, row), 1) + self.stretch(xy)) / grid
        sides = (wh * wh * 4 if new_coords else wh.exp()) * self.anchors[anchor] / torch.tensor(size, device=raw.device)
        probs = objectness[:, None] * classes
        return Candidates(image, torch.cat((centre, sides), 1), objectness, probs * (probs > thresh))

    def describe(self) -> dict[str, Any]:
        options = self.options
        names = (
            "classes", "anchors", "scale_x_y", "new_coords", "nms_kind", "beta_nms", "iou_loss", "iou_thresh_kind", "jitter",
            "resize", "ignore_thresh", "truth_thresh", "iou_thresh", "random", "iou_normalizer", "obj_normalizer",
            "cls_normalizer", "delta_normalizer", "max_delta", "label_smooth_eps", "objectness_smooth", "focal_loss", "show_details",
        )  # fmt: skip
        mask = options.masked
        return {"mask": mask, "n": len(mask), "total": options.num, "max_boxes": options.max} | {
            name: getattr(options, name) for name in names if hasattr(options, name)
        }
