"""[Gaussian_yolo], a yolo head that also says how sure it is of each coordinate (Darknet: gaussian_yolo_layer.c).

Each anchor has a block of channels x, sigma x, y, sigma y, w, sigma w, h, sigma h, objectness, classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darknet_py.layers.head import NMS_KINDS, Candidates, Head, YoloOptions, cells, read_anchors
from darknet_py.layers.layer import Place
from darknet_py.options import option

POINTS = {
    "center": 0.0,
    "left_top": 0.5,
    "right_bottom": -0.5,
}  # the box's centre, seen from the point, in sides of the box


class GaussianYolo(Head, kinds=("Gaussian_yolo",)):
    box_values = 9
    anchors: Tensor  # (masked, 2) widths and heights, pixels of the network's input
    all_anchors: Tensor  # (num, 2), those of the other heads too: a truth trains the best of all

    @dataclass(frozen=True, kw_only=True)
    class Options(YoloOptions):
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS, otherwise="default")
        yolo_point: str = option(
            "center", "the point of the box that x and y mean", choices=tuple(POINTS), otherwise="center"
        )
        uc_normalizer: float = option(1.0, "multiplies the gradient of the uncertainties (sigmas)", use="training")

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
            place, count * (options.classes + 9), "classes", f"{count} mask{'s' * (count > 1)} x ({options.classes}+9)"
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, anchors*(9+classes), h, w): all through the logistic function but w and h, and x and y stretched by scale_x_y."""
        entries = x.unflatten(1, (len(self.anchors), -1))
        active = entries.sigmoid()
        x_, y = self._stretch(active[:, :, 0:1]), self._stretch(active[:, :, 2:3])
        columns = (
            x_,
            active[:, :, 1:2],
            y,
            active[:, :, 3:4],
            entries[:, :, 4:5],
            active[:, :, 5:6],
            entries[:, :, 6:7],
            active[:, :, 7:],
        )
        return torch.cat(columns, 2).flatten(1, 2)

    def _stretch(self, xy: Tensor) -> Tensor:
        scale = self.options.scale_x_y
        return xy if scale == 1 else xy * scale - 0.5 * (scale - 1)

    def decode(
        self, raw: Tensor, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        entries = cells(raw, len(self.anchors))
        objectness = entries[..., 8].float().sigmoid()
        image, row, column, anchor = (objectness > thresh).nonzero(as_tuple=True)
        chosen = entries[image, row, column, anchor].float()
        objectness = objectness[image, row, column, anchor]
        active = chosen.sigmoid()
        grid = torch.tensor(raw.shape[:1:-1], device=raw.device)  # (w, h) of the map
        sides = chosen[:, 4:8:2].exp() * self.anchors[anchor] / torch.tensor(size, device=raw.device)
        point = (torch.stack((column, row), 1) + self._stretch(active[:, 0:4:2])) / grid
        centre = point + POINTS[self.options.yolo_point] * sides
        certainty = 1 - active[:, 1:8:2].mean(1, keepdim=True)
        probs = objectness[:, None] * active[:, 9:] * certainty
        return Candidates(image, torch.cat((centre, sides), 1), objectness, probs * (probs > thresh))

    def describe(self) -> dict[str, Any]:
        options = self.options
        names = (
            "classes", "anchors", "scale_x_y", "nms_kind", "beta_nms", "iou_loss", "iou_thresh_kind", "jitter", "resize",
            "ignore_thresh", "truth_thresh", "iou_thresh", "random", "iou_normalizer", "obj_normalizer", "cls_normalizer",
            "delta_normalizer", "uc_normalizer", "max_delta", "label_smooth_eps", "objectness_smooth", "yolo_point",
        )  # fmt: skip
        mask = options.masked
        return {"mask": mask, "n": len(mask), "total": options.num, "max_boxes": options.max} | {
            name: getattr(options, name) for name in names
        }
