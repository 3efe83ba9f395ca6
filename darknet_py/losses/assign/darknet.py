"""Darknet's assigner: a truth trains the best of all anchors in the cell of its centre (Darknet: yolo_layer.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.boxes import MEASURES, iou
from darknet_py.devices import constant
from darknet_py.losses.assign.level import Assignment, Level, best_truths, iou_thresh_of
from darknet_py.losses.truths import Truths

READS = frozenset({"iou_thresh", "iou_thresh_kind", "ignore_thresh"})


class Assigned(NamedTuple):
    """Truths and the boxes they train, in Darknet's order. All (k,): image, truth (its number), box (its number in the
    head)."""

    image: Tensor
    truth: Tensor
    box: Tensor


def assign_darknet(levels: Sequence[Level], truths: Truths) -> list[Assignment]:
    """Each truth trains the best of all anchors, by the IoU of sizes, where a head has it; with iou_thresh < 1 every
    other anchor with a better IoU too. A box that overlaps a truth by more than ignore_thresh is ignored, the others
    are background."""
    result = []
    for level in levels:
        overlap = best_truths(level.predicted, truths)[0]
        background = overlap <= level.options.ignore_thresh
        result.append(Assignment(*anchors_of_truths(level, truths), background))
    return result


def anchors_of_truths(
    level: Level, truths: Truths, *, points: Tensor | None = None, best_alone: bool = False
) -> Assigned:
    """Which boxes of a head the truths train.

    points: (n, t, 2), what lies in the cell that is trained, if not the truths' centres. best_alone: the best anchor
    and no other, whatever iou_thresh says.
    """
    device, options, anchors, mask = level.anchors.device, level.options, level.anchors, level.mask
    shifted = torch.cat((torch.zeros_like(truths.xywh[..., :2]), truths.xywh[..., 2:]), -1)[..., None, :]
    boxes = torch.cat((torch.zeros_like(anchors), anchors), 1)
    fit = iou(boxes, shifted)  # (n, t, all)
    best = torch.where(fit.amax(2) > 0, fit.argmax(2), 0)
    is_masked = torch.arange(len(anchors), device=device)[:, None] == constant(mask, device)
    own, place = is_masked.any(1), is_masked.long().argmax(1)  # of equals the first, as int_index finds
    is_best = torch.nn.functional.one_hot(best, len(anchors)).bool()
    chosen = is_best & own
    if (thresh := iou_thresh_of(options)) < 1 and not best_alone:
        chosen = chosen | ((MEASURES[options.iou_thresh_kind](boxes, shifted) > thresh) & own & ~is_best)
    chosen = chosen & truths.valid[..., None]
    image, truth, anchor = chosen.nonzero(as_tuple=True)
    # a truth's best anchor comes first, then the others in their order
    first = (anchor != best[image, truth]).long()
    order = ((image * chosen.shape[1] + truth) * 2 + first).argsort(stable=True)
    image, truth, anchor = image[order], truth[order], anchor[order]
    where = truths.xywh[..., :2] if points is None else points
    cells = (where[image, truth] * constant(level.grid, device)).long()
    column, row = cells[:, 0].clamp(0, level.grid[0] - 1), cells[:, 1].clamp(0, level.grid[1] - 1)
    return Assigned(image, truth, (row * level.grid[0] + column) * len(mask) + place[anchor])


def turns(boxes: Tensor) -> list[Tensor]:
    """Rows in turns, such that no box (k,) occurs twice in a turn: Darknet works its list through one by one, and
    several truths that train one box find what the ones before left there."""
    if not len(boxes):
        return []
    order = boxes.argsort(stable=True)
    ordered = boxes[order]
    start = torch.ones_like(ordered, dtype=torch.bool)
    start[1:] = ordered[1:] != ordered[:-1]
    position = torch.arange(len(boxes), device=boxes.device)
    first = torch.where(start, position, 0).cummax(0).values
    turn = torch.empty_like(boxes)
    turn[order] = position - first
    return [(turn == k).nonzero().squeeze(1) for k in range(int(turn.max()) + 1)]
