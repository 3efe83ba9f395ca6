"""The IoU family of the YOLO systems after Darknet's, as losses differentiate it: boxes by their corners, and a small
number that keeps each quotient defined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from darknet_py.devices import constant

EPS = 1e-10


class _Pair(NamedTuple):
    """Boxes a and b: their widths and heights (…, 2), the vector between their centres and the sides of the hull (the
    smallest box around both), all (…, 2); IoU and union (…)."""

    size_a: Tensor
    size_b: Tensor
    between: Tensor
    hull: Tensor
    iou: Tensor
    union: Tensor


def _pair(a: Tensor, b: Tensor, eps: float, height_eps: float | None = None) -> _Pair:
    low_a, high_a = a.split(2, -1)
    low_b, high_b = b.split(2, -1)
    height_only = constant((0.0, eps if height_eps is None else height_eps), a.device, a.dtype)
    size_a, size_b = high_a - low_a + height_only, high_b - low_b + height_only
    inter = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = size_a.prod(-1) + size_b.prod(-1) - inter + eps
    between = (low_b + high_b - low_a - high_a) / 2
    hull = torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)
    return _Pair(size_a, size_b, between, hull, inter / union, union)


def iou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Intersection over union of predictions `a` and truths `b` (…, 4): left, top, right, bottom, which broadcast
    against each other; (…)."""
    return _pair(a, b, eps).iou


def giou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019)."""
    pair = _pair(a, b, eps)
    hull = pair.hull.prod(-1) + eps
    return pair.iou - (hull - pair.union) / hull


def diou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """Distance IoU (Zheng et al., 2019)."""
    return _diou(_pair(a, b, eps), eps)


def _diou(pair: _Pair, eps: float) -> Tensor:
    return pair.iou - pair.between.square().sum(-1) / (pair.hull.square().sum(-1) + eps)


def ciou(a: Tensor, b: Tensor, eps: float = EPS, *, height_eps: float | None = None, angle_eps: float = 0.0) -> Tensor:
    """Complete IoU (Zheng et al., 2019); the factor of the aspect ratios' term carries no gradient.

    height_eps: what is added to the heights; None: eps. angle_eps: what is added once more in the aspect ratios.
    """
    pair = _pair(a, b, eps, height_eps)
    angle_a, angle_b = (torch.atan(size[..., 0] / (size[..., 1] + angle_eps)) for size in (pair.size_a, pair.size_b))
    v = 4 / math.pi**2 * (angle_b - angle_a).square()
    with torch.no_grad():
        alpha = v / (v - pair.iou + 1 + eps)
    return _diou(pair, eps) - v * alpha


def siou(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """SCYLLA-IoU (Gevorgyan, 2022): terms for the distance of the centres, which counts more where they lie on a
    diagonal, and for the shapes."""
    pair = _pair(a, b, eps)
    between = pair.between + eps
    # the sine of twice the angle between the axes and the line through the centres
    angle = 2 * between.prod(-1).abs() / between.square().sum(-1)
    distance = (1 - torch.exp((angle - 2)[..., None] * (between / pair.hull).square())).sum(-1)
    differs = (pair.size_a - pair.size_b).abs() / torch.maximum(pair.size_a, pair.size_b)
    shape = (1 - torch.exp(-differs)).pow(4).sum(-1)
    return pair.iou - (distance + shape) / 2


Overlap: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]

OVERLAPS: dict[str, Overlap] = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou, "siou": siou}
"""The option `iou_loss` → the function."""
