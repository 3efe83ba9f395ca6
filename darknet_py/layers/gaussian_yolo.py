"""[Gaussian_yolo], a yolo head that also predicts an uncertainty of each coordinate (Darknet: gaussian_yolo_layer.c).

Each anchor has a block of channels x, sigma x, y, sigma y, w, sigma w, h, sigma h, objectness, classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.choices import NMS_KINDS
from darknet_py.layers.head import Boxes, pixels, stretched
from darknet_py.layers.yolo import YoloFamily, YoloOptions
from darknet_py.options import option

POINTS = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}
"""Point of the box → the centre's offset from it, as a fraction of the box's sides."""
MEANS, SIGMAS = slice(0, 8, 2), slice(1, 8, 2)  # x, y, w, h, and their standard deviations


class GaussianYolo(YoloFamily, kinds=("Gaussian_yolo",)):
    box_values = 9
    table_names = (*YoloFamily.table_names, "uc_normalizer", "yolo_point")

    @dataclass(frozen=True, kw_only=True)
    class Options(YoloOptions):
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS, fallback="default")
        yolo_point: str = option(
            "center", "the point of the box that x and y predict", choices=tuple(POINTS), fallback="center"
        )
        uc_normalizer: float = option(1.0, "multiplies the gradient of the uncertainties (sigmas)", use="training")

    @property
    def shift(self) -> float:
        """From the point that x and y predict to the box's centre, as a fraction of the box's sides."""
        return POINTS[self.options.yolo_point]

    def active(self, values: Tensor) -> Tensor:
        """The logistic function of all but w and h; x and y are stretched by scale_x_y."""
        active = values.sigmoid()
        scale = self.options.scale_x_y
        x, y = (stretched(active[..., k : k + 1], scale) for k in (0, 2))
        w, h = values[..., 4:5], values[..., 6:7]
        return torch.cat((x, active[..., 1:2], y, active[..., 3:4], w, active[..., 5:6], h, active[..., 7:]), -1)

    def boxes_at(self, values: Tensor, box: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Boxes:
        """Class probabilities are multiplied by the certainty, 1 - the mean sigma."""
        corner, anchor = self.place_of(box, grid)
        active = self.active(values)
        sides = values[..., 4:8:2].exp() * anchor / pixels(size, values)
        point = (corner + active[..., 0:4:2]) / pixels(grid, values)
        certainty = 1 - active[..., SIGMAS].mean(-1, keepdim=True)
        return Boxes(torch.cat((point + self.shift * sides, sides), -1), active[..., 8], active[..., 9:] * certainty)

    def likely(self, values: Tensor, thresh: float) -> Tensor:
        return values[..., 8].float().sigmoid() > thresh
