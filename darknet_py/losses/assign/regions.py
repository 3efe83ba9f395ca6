"""Which truths train which anchors and regions of a two-stage network, and which of these are drawn (Faster R-CNN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.regions import Convention, number_in_image, pixels_of
from darknet_py.layers.roi_sample import RoiSample
from darknet_py.layers.rpn import Rpn
from darknet_py.losses.truths import as_truths
from darknet_py.options import MAX_INT

Draw: TypeAlias = Callable[[Tensor], Tensor]
"""(n, k) bool, which ones may be drawn → (n, k) float, their order of precedence: the lowest are drawn."""


class Objects(NamedTuple):
    """The truths of a mini-batch as boxes. boxes: (n, t, 4) left, top, right, bottom, pixels; t is at least 1. valid:
    (n, t) bool. classes: (n, t) int64."""

    boxes: Tensor
    valid: Tensor
    classes: Tensor


class Match(NamedTuple):
    """label: (n, k) int64: 1: object, 0: background, -1: neither. truth: (n, k) int64, the one that overlaps most."""

    label: Tensor
    truth: Tensor


def random_order(candidates: Tensor) -> Tensor:
    return torch.rand(candidates.shape, device=candidates.device)


def objects_of(rows: Tensor, size: tuple[int, int], convention: Convention) -> Objects:
    """Darknet's rows (n, max, 6), of whatever class. size: (width, height) of the input, pixels."""
    truths = as_truths(rows, MAX_INT)
    missing = int(not truths.valid.shape[1])
    boxes = F.pad(pixels_of(truths.xywh, size, convention), (0, 0, 0, missing))
    return Objects(boxes, F.pad(truths.valid, (0, missing)), F.pad(truths.classes, (0, missing)))


def overlaps(boxes: Tensor, truths: Tensor, convention: Convention) -> Tensor:
    """IoU (…, t, k) of boxes (…, k, 4) and truths (…, t, 4)."""
    a, b = truths[..., :, None, :], boxes[..., None, :, :]
    area, other = ((c[..., 2:] - c[..., :2] + convention.pixel).prod(-1) for c in (a, b))
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + convention.pixel
    common = sides.clamp(min=0).prod(-1)
    return common / (area + other - common)


def matched(
    overlap: Tensor,
    valid: Tensor,
    options: Rpn.Options | RoiSample.Options,
    *,
    least: float = 0.0,
    best: bool = False,
    clobber: bool = False,
) -> Match:
    """Boxes by their overlaps (n, t, k) with truths, of which some are `valid` (n, t).

    options: `truth_thresh`, from which a box is an object; `ignore_thresh`, below which it is background, where the
    overlap is `least` or more. best: the boxes that overlap a truth most are objects in any case; clobber: not if they
    are background.
    """
    overlap = torch.where(valid[..., None], overlap, -1.0)
    value, truth = overlap.max(1)
    value = value.clamp(min=0)
    background = (value < options.ignore_thresh) & (value >= least)
    label = torch.where(background, 0, -1)
    objects = value >= options.truth_thresh
    if best:
        highest = (overlap == overlap.amax(2, keepdim=True)) & valid[..., None]
        objects |= highest.any(1) & ~(background & clobber)
    return Match(torch.where(objects, 1, label), truth)


def sampled(label: Tensor, count: int, most: int, draw: Draw) -> Tensor:
    """(n, k) bool: up to `most` objects of each image, and background up to `count` in all."""
    objects = _lowest(label == 1, draw, torch.full_like(label[:, :1], most))
    return objects | _lowest(label == 0, draw, count - objects.sum(1, keepdim=True))


def _lowest(candidates: Tensor, draw: Draw, limit: Tensor) -> Tensor:
    order = draw(candidates).masked_fill(~candidates, torch.inf)
    return candidates & (order.argsort(1).argsort(1) < limit)


def sampled_regions(
    regions: Tensor, objects: Objects, options: RoiSample.Options, convention: Convention, draw: Draw = random_order
) -> Tensor:
    """The regions (m, 6) that are trained, from proposals (k, 5) and the truths themselves; see [roi_sample].

    options: those of [roi_sample]. The host waits for the device where it counts the regions of an image and those that
    are drawn.
    """
    n, device = len(objects.boxes), regions.device
    image = regions[:, 0].long()
    number = number_in_image(image, n)
    most = int(number.max()) + 1 if len(number) else 0
    boxes, exist = regions.new_zeros((n, most, 4)), torch.zeros((n, most), dtype=torch.bool, device=device)
    boxes[image, number], exist[image, number] = regions[:, 1:5], True
    boxes = torch.cat((boxes, objects.boxes.to(boxes.dtype)), 1)
    exist = torch.cat((exist, objects.valid), 1)
    overlap = overlaps(boxes, objects.boxes, convention)
    match = matched(overlap, objects.valid, options, least=options.background_thresh)
    label = torch.where(exist, match.label, -1)
    share = options.samples * options.positives
    chosen = sampled(label, options.samples, round(share) if convention.pixel else int(share), draw)
    image, place = chosen.nonzero(as_tuple=True)
    truth = torch.where(label == 1, match.truth, -1)[image, place]
    return torch.cat((image[:, None].to(boxes.dtype), boxes[image, place], truth[:, None].to(boxes.dtype)), 1)
