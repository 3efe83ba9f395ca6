"""SimOTA: each truth trains as many boxes as the ones that fit it best overlap it in sum, those of the smallest cost.

YOLOX, Ge et al., 2021 (https://arxiv.org/abs/2107.08430), in its two official forms.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.losses.assign.owners import inside, owners
from darknet_py.losses.overlaps import iou

MOST = 10  # boxes that a truth trains at most
OVERLAP_COST = 3.0  # weight of -log(IoU)
EPS = 1e-8  # keeps the logarithm finite
UNION = 1e-16  # keeps the quotient of empty rows finite


class Form(NamedTuple):
    """Which boxes may be trained, by the middle of their cell: those less than `radius` cells from a truth's centre,
    along each axis; with `inside`, also those in a truth. penalty: of the cost, where a box is not near the centre of
    this truth (with `inside`, not both near its centre and in it)."""

    radius: float
    inside: bool
    penalty: float


SIMOTA = {"simota": Form(1.5, False, 1e6), "simota_0.3": Form(2.5, True, 1e5)}
"""The option `assigner` → the form: of today, and of the releases to 0.3.0, after which the published weights were
trained."""


class Matches(NamedTuple):
    """owner: (n, k) int64, the truth that trains each box, -1: background. overlap: (n, t, k), the IoU of each box with
    each truth. cost: (n, t, k), infinite where the truth may not train the box."""

    owner: Tensor
    overlap: Tensor
    cost: Tensor


def assign_simota(
    predicted: Tensor, cells: tuple[Tensor, Tensor], class_cost: Tensor, truths: Tensor, valid: Tensor, form: Form
) -> Matches:
    """
    Args:
        predicted: (n, k, 4), left, top, right, bottom. cells: middle and size of the boxes' cells, (k, 2) each.
        class_cost: (n, t, k), see `class_costs`. truths: (n, t, 4), centre and size; all in pixels of the input.
        valid: (n, t) bool, which rows are truths.
    """
    (centre, stride), (n, t), k = cells, valid.shape, predicted.shape[1]
    low_high, middle, reach = corners(truths), truths[:, :, None, :2], form.radius * stride
    overlap = iou(predicted[:, None], low_high[:, :, None], UNION)
    near = inside(centre, torch.cat((middle - reach, middle + reach), -1)) & valid[..., None]
    good, candidate = near, near
    if form.inside:
        within = inside(centre, low_high) & valid[..., None]
        good, candidate = near & within, near | within
    possible = candidate.any(1, keepdim=True) & valid[..., None]
    cost = class_cost - OVERLAP_COST * (overlap + EPS).log() + form.penalty * ~good
    cost = torch.where(possible, cost, torch.inf)
    if not t:
        return Matches(owners(possible, cost), overlap, cost)
    most = min(MOST, k)
    count = (overlap * possible).topk(most, -1).values.sum(-1).int().clamp(min=1)
    cheapest = cost.topk(most, -1, largest=False).indices
    claimed = torch.arange(most, device=cost.device) < count[..., None]
    claims = torch.zeros_like(possible.expand(n, t, k)).scatter(2, cheapest, claimed) & possible
    return Matches(owners(claims, -cost), overlap, cost)


def class_costs(objectness: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """(n, k) and (n, k, classes) logits, (n, t) classes of the truths → (n, t, k): cross entropy of a box's class
    probabilities to a truth's class, summed over the classes; a probability is the root of class times objectness."""
    probs = (classes.sigmoid() * objectness.sigmoid()[..., None]).sqrt()
    others = -(-probs).log1p().clamp(min=-100)
    own = -probs.log().clamp(min=-100)
    index = labels[:, None].expand(-1, classes.shape[1], -1)
    return (others.sum(-1, keepdim=True) + (own - others).gather(2, index)).transpose(1, 2)
