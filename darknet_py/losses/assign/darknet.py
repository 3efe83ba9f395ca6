"""Which truths train which boxes: Darknet's own assigner, for all pictures of a mini-batch at once (Darknet: yolo_layer.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darknet_py.boxes import MEASURES, iou

CHUNK = 16  # truths per picture that are compared with all boxes at once; bounds memory, not the result


class Truths(NamedTuple):
    """The truths of a mini-batch, without the empty ends of their lists.

    xywh: (n, t, 4) relative to the picture. classes: (n, t) int64. valid: (n, t) bool, of a class that the head knows.
    """

    xywh: Tensor
    classes: Tensor
    valid: Tensor


def read_truths(truths: Tensor, classes: int, class_map: Tensor | None = None) -> Truths:
    """Darknet's rows (n, max, 6) of x, y, w, h, class, track; a list ends at the first x of 0, and unknown classes are passed over.

    class_map: (m,), the head's class for each of the labels' (`map`).
    """
    listed = (truths[..., 0] != 0).cumprod(1).bool()
    longest = int(listed.sum(1).max()) if listed.numel() else 0
    truths, listed = truths[:, :longest], listed[:, :longest]
    labels = truths[..., 4].long()
    known = (labels < classes) & (labels >= 0)
    if class_map is not None:
        known &= labels < len(class_map)
        labels = class_map[labels.clamp(0, len(class_map) - 1)]
    return Truths(truths[..., :4], labels, listed & known)


def best_truths(pred: Tensor, truths: Truths) -> tuple[Tensor, Tensor]:
    """For each box the best IoU with any truth of its picture, and that truth's number.

    pred: (n, …, 4). Returns two (n, …); 0 and 0 where no truth overlaps.
    """
    shape = pred.shape[:-1]
    boxes = pred.flatten(1, -2)  # (n, boxes, 4)
    best = boxes.new_zeros(boxes.shape[:2])
    number = torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
    for start in range(0, truths.xywh.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        overlap = iou(boxes[:, :, None], truths.xywh[:, None, part]) * truths.valid[:, None, part]
        value, index = overlap.nan_to_num(0.0).max(2)
        better = value > best
        best = torch.where(better, value, best)
        number = torch.where(better, index + start, number)
    return best.view(shape), number.view(shape)


class Assigned(NamedTuple):
    """Truths and the boxes they train, in Darknet's order. All (k,): image, truth (its number), anchor (in the whole list), mask (in the
    head), row, column."""

    image: Tensor
    truth: Tensor
    anchor: Tensor
    mask: Tensor
    row: Tensor
    column: Tensor

    def cells(self, shape: Sequence[int]) -> Tensor:
        """(k,): the boxes' places in a head of (n, anchors, h, w, …)."""
        return ((self.image * shape[1] + self.mask) * shape[2] + self.row) * shape[3] + self.column


def one_box_each(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The different boxes among these (k,), and for each the last row that names it."""
    boxes, which = cells.unique(return_inverse=True)
    last = torch.zeros_like(boxes).scatter_reduce(0, which, torch.arange(len(cells), device=cells.device), "amax")
    return boxes, last


def assign(
    truths: Truths,
    points: Tensor,
    grid: tuple[int, int],
    anchors: Tensor,
    mask: list[int],
    iou_thresh: float,
    kind: str,
) -> Assigned:
    """Each truth trains the best of all anchors, by the IoU of sizes, if that is this head's; and with iou_thresh < 1 every other
    anchor of this head with a better `kind` than it.

    points: (n, t, 2), what lies in the cell that is trained, relative to the picture. grid: (width, height) of the map.
    anchors: (all, 2), relative to the network's input.
    """
    device = anchors.device
    zeros = torch.zeros_like(anchors)
    shifted = torch.cat((torch.zeros_like(truths.xywh[..., :2]), truths.xywh[..., 2:]), -1)[..., None, :]
    boxes = torch.cat((zeros, anchors), 1)
    fit = iou(boxes, shifted)  # (n, t, all)
    best = torch.where(fit.amax(2) > 0, fit.argmax(2), 0)
    place = torch.full((len(anchors),), -1, device=device)
    for position in range(len(mask) - 1, -1, -1):  # int_index finds the first of equals
        place[mask[position]] = position
    mine = place >= 0
    is_best = torch.nn.functional.one_hot(best, len(anchors)).bool()
    chosen = is_best & mine
    if iou_thresh < 1:
        chosen = chosen | ((MEASURES[kind](boxes, shifted) > iou_thresh) & mine & ~is_best)
    chosen = chosen & truths.valid[..., None]
    image, truth, anchor = chosen.nonzero(as_tuple=True)
    # a truth's best anchor comes first, then the others in their order
    first = (anchor != best[image, truth]).long()
    order = ((image * chosen.shape[1] + truth) * 2 + first).argsort(stable=True)
    image, truth, anchor = image[order], truth[order], anchor[order]
    cells = (points[image, truth] * torch.tensor(grid, device=device)).long()
    column, row = cells[:, 0].clamp(0, grid[0] - 1), cells[:, 1].clamp(0, grid[1] - 1)
    return Assigned(image, truth, anchor, place[anchor], row, column)


def assigned_boxes(
    layer: Any,
    truths: Truths,
    grid: tuple[int, int],
    size: tuple[int, int],
    *,
    points: Tensor | None = None,
    best_alone: bool = False,
) -> Assigned:
    """`assign` for a head of the yolo family, by its options. size: (width, height) of the network's input, pixels. points: if not the
    truths' centres. best_alone: whatever iou_thresh says."""
    options = layer.options
    anchors = layer.all_anchors / torch.tensor(size, device=truths.xywh.device)
    where = truths.xywh[..., :2] if points is None else points
    return assign(
        truths, where, grid, anchors, options.masked, 1.0 if best_alone else options.iou_thresh, options.iou_thresh_kind
    )


def turns(cells: Tensor) -> list[Tensor]:
    """Rows in turns, such that no cell occurs twice in a turn: Darknet works its list through one by one, and several truths that
    train one box find what the ones before left there."""
    if not len(cells):
        return []
    order = cells.argsort(stable=True)
    ordered = cells[order]
    start = torch.ones_like(ordered, dtype=torch.bool)
    start[1:] = ordered[1:] != ordered[:-1]
    position = torch.arange(len(cells), device=cells.device)
    first = torch.where(start, position, 0).cummax(0).values
    turn = torch.empty_like(cells)
    turn[order] = position - first
    return [(turn == k).nonzero().squeeze(1) for k in range(int(turn.max()) + 1)]
