"""The loss of [Gaussian_yolo] (Darknet: gaussian_yolo_layer.c): each coordinate is a normal distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darknet_py.boxes import iou_gradient
from darknet_py.layers.gaussian_yolo import MEANS, SIGMAS, GaussianYolo
from darknet_py.losses.loss import Delta, Loss, State, by_layer, squared_sum
from darknet_py.losses.yolo import FAMILY_READS, YoloDelta, limited, whole

SIGMA_CONST = 0.3  # added to each sigma in the density
EPSILON = 1e-9


class GaussianYoloDelta(YoloDelta):
    numbers = 8
    layer: GaussianYolo

    def points(self) -> Tensor:
        return self.truths.xywh[..., :2] - self.layer.shift * self.truths.xywh[..., 2:]

    def inverse(self, ratio: Tensor) -> Tensor:
        return ratio.log()

    @property
    def focal(self) -> bool:
        return False

    def box_delta(self, cells: Tensor, truth: Tensor, normalizer: Tensor) -> Tensor:
        point = truth[:, :2] - self.layer.shift * truth[:, 2:]
        mean, sigma = self.out[cells, MEANS].double(), self.out[cells, SIGMAS].double()  # C computes these in double
        distance = (self.target(cells, truth, point) - mean) / sigma
        density = (-0.5 * distance**2).exp() / (math.sqrt(2 * math.pi) * (sigma + SIGMA_CONST))
        scale = 2 - truth[:, 2:3] * truth[:, 3:4]
        weight = 0.5 * density / (density + EPSILON) * scale
        by_mean = weight * distance / sigma
        by_sigma = weight * (distance**2 / sigma - 1 / (sigma + SIGMA_CONST)) * self.options.uc_normalizer
        if self.options.iou_loss != "mse":
            gradient = iou_gradient(whole(self.pred(cells)), truth, self.options.iou_loss)
            centre = gradient[:, :2] - self.layer.shift * gradient[:, 2:]
            by_mean = torch.cat((centre, gradient[:, 2:] * self.out[cells, 4:8:2].exp()), 1)
        delta = torch.stack((by_mean * normalizer, by_sigma), 2).flatten(1)
        return limited(delta.float(), self.options.max_delta)

    def again(self, delta: Tensor, labels: Tensor) -> Tensor:
        """Darknet looks at class 0, whatever the truth's class."""
        return delta[:, 0] != 0

    def ignore(self, ignored: Tensor, match: Tensor, number: Tensor) -> None:
        if not self.options.objectness_smooth:
            super().ignore(ignored, match, number)
            return
        cells = ignored.nonzero().squeeze(1)
        goal = match[cells] ** 2
        self.delta[cells, self.numbers] = self.options.obj_normalizer * (goal - self.objectness[cells])
        if len(cells):
            self.class_delta(cells, self.truths.classes[cells // self.count, number[cells]])

    def keeps_objectness(self) -> bool:
        return False

    def averages(self) -> bool:
        return True

    def average(self) -> None:
        count = (self.delta[:, self.numbers + 1 :] > 0).sum(1).clamp(min=1)
        self.delta[:, : self.numbers] /= count[:, None]

    def cost(self, overlaps: Tensor, giou: Tensor) -> Tensor:
        return squared_sum(self.delta)


def gaussian_yolo_delta(layer: GaussianYolo, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """raw: (n, anchors*(9+classes), h, w). truths: (n, max, 6) x, y, w, h, class, track."""
    return GaussianYoloDelta(layer, raw, truths, state).result()


GAUSSIAN_YOLO = Loss(by_layer(gaussian_yolo_delta), FAMILY_READS | {"uc_normalizer"})
