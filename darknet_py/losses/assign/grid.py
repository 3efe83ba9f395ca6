"""The grid assigner: anchors in the cells that hold a truth's centre, by their overlap with the truths, over all heads
at once.

Anchors stand in the middle of their cells. One that overlaps no truth by more than `ignore_thresh` is background. One
in a cell that has some truth's centre is trained to be its best truth where it overlaps it by more than `iou_thresh`;
and each truth trains its best ones among those, of all heads, where they overlap by more than `min_pos_iou`. The rest
is ignored, and so are those that would be background but overlap no truth by more than `background_thresh`.
(GridAssigner of MMDetection, https://arxiv.org/abs/1906.07155.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.devices import constant
from darknet_py.layers.yolo import Yolo
from darknet_py.losses.assign.level import Assignment, Level, best_truths, iou_thresh_of
from darknet_py.losses.truths import Truths

READS = frozenset({"ignore_thresh", "background_thresh", "iou_thresh", "min_pos_iou"})
POSITIVE = 0.5  # iou_thresh, where the cfg writes none


def assign_grid(levels: Sequence[Level], truths: Truths) -> list[Assignment]:
    n, count = truths.valid.shape
    priors = [level.priors() for level in levels]
    if not count:
        none = torch.zeros(0, dtype=torch.int64, device=truths.xywh.device)
        shapes = [(n, len(boxes)) for boxes in priors]
        return [Assignment(none, none, none, none.new_ones(shape).bool()) for shape in shapes]
    overlaps = [_at_truths(level, boxes, truths) for level, boxes in zip(levels, priors, strict=True)]
    highest = torch.stack([overlap.amax((1, 2)) for _, overlap in overlaps]).amax(0)  # (n, t), of all heads
    return [
        _assign(level, boxes, truths, first, overlap, highest)
        for level, boxes, (first, overlap) in zip(levels, priors, overlaps, strict=True)
    ]


def _at_truths(level: Level, priors: Tensor, truths: Truths) -> tuple[Tensor, Tensor]:
    """The anchors in the cells with a truth's centre: (n, t) the first box of that cell, and the overlap of each anchor
    there with every truth, (n, t cells, anchors, t)."""
    grid = constant(level.grid, priors.device)
    column, row = torch.minimum((truths.xywh[..., :2].clamp(min=0) * grid).long(), grid - 1).unbind(-1)
    count = len(level.mask)
    first = (row * level.grid[0] + column) * count
    anchors = priors[first[..., None] + torch.arange(count, device=priors.device)]  # (n, t, anchors, 4)
    overlap = iou(anchors[:, :, :, None], truths.xywh[:, None, None]).nan_to_num(0.0)
    counts = truths.valid[:, :, None, None] & truths.valid[:, None, None]
    return first, torch.where(counts, overlap, -1.0)


def _assign(
    level: Level, priors: Tensor, truths: Truths, first: Tensor, overlap: Tensor, highest: Tensor
) -> Assignment:
    """priors: (k, 4), the head's anchors. first, overlap: see `_at_truths`. highest: (n, t), the largest overlap of
    each truth with the anchors of any head in any cell that has a truth's centre."""
    (n, count), device, anchors, options = truths.valid.shape, priors.device, overlap.shape[2], level.options
    assert isinstance(options, Yolo.Options)
    best, nearest = best_truths(priors.expand(n, -1, 4), truths)
    background = best <= options.ignore_thresh
    if options.background_thresh is not None:
        background &= (best > options.background_thresh) | ~truths.valid.any(1, keepdim=True)
    images = torch.arange(n, device=device)[:, None].expand_as(first)[truths.valid]
    marked = torch.zeros((n, len(priors) // anchors), dtype=torch.bool, device=device)
    marked[images, first[truths.valid] // anchors] = True
    marked = marked.repeat_interleave(anchors, 1)
    number = torch.where(marked & (best > iou_thresh_of(options, POSITIVE)), nearest, -1)
    is_best = (overlap == highest[:, None, None]) & (overlap > options.min_pos_iou)
    numbers = torch.where(is_best, torch.arange(count, device=device), -1).amax(3)  # of several truths, the last
    chosen = (numbers >= 0).nonzero(as_tuple=True)
    image, cell, anchor = chosen
    number[image, first[image, cell] + anchor] = numbers[chosen]
    image, box = (number >= 0).nonzero(as_tuple=True)
    return Assignment(image, number[image, box], box, background & (number < 0))
