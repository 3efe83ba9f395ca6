"""What an assigner sees, and what it says: one level for each head of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.devices import constant
from darknet_py.layers.yolo import BEST_ALONE, YoloFamily, YoloOptions
from darknet_py.losses.truths import Truths

CHUNK = 16  # truths per image that are compared with all boxes at once; bounds memory, not the result


class Level(NamedTuple):
    """One head. Sizes and positions are fractions of the network's input; boxes are in Darknet's order (cells by row,
    then anchors).

    predicted: (n, k, 4) boxes, detached. grid: (width, height) of the map. anchors: (all, 2), those of the other heads
    too.
    mask: numbers of this head's anchors. options: of the head, for the thresholds of an assigner.
    size: (width, height) of the input, pixels. in_cells: (own, 2), this head's anchors in cells. logits: (n, k,
    entries), the values of the boxes, detached.
    auxiliary: the head is auxiliary; predicted and logits are its lead head's. aided: auxiliary heads are trained too.
    """

    predicted: Tensor
    grid: tuple[int, int]
    anchors: Tensor
    mask: list[int]
    options: YoloOptions
    size: tuple[int, int]
    in_cells: Tensor
    logits: Tensor
    auxiliary: bool = False
    aided: bool = False

    def priors(self) -> Tensor:
        """(k, 4): the head's anchors, each in the middle of each cell."""
        device, sides = self.anchors.device, self.anchors[self.mask]
        columns, rows = ((torch.arange(count, device=device) + 0.5) / count for count in self.grid)
        centre = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[:, :, None]
        shape = (self.grid[1], self.grid[0], len(sides), 2)
        return torch.cat((centre.expand(shape), sides.expand(shape)), -1).flatten(0, 2)


class Assignment(NamedTuple):
    """image, truth, box: (p,) int64: this truth of this image trains the box of this number; a box may be trained by
    several.
    background: (n, k) bool, boxes that are trained to be nothing; what is neither is ignored."""

    image: Tensor
    truth: Tensor
    box: Tensor
    background: Tensor


Assigner: TypeAlias = Callable[[Sequence[Level], Truths], list[Assignment]]


def level_of(
    layer: YoloFamily,
    predicted: Tensor,
    logits: Tensor,
    grid: tuple[int, int],
    size: tuple[int, int],
    *,
    aided: bool = False,
) -> Level:
    """The level of a head with Darknet's anchors; see `Level`."""
    pixels = constant(size, predicted.device)
    in_cells = layer.anchors * constant(grid, predicted.device) / pixels
    anchors, options = layer.all_anchors / pixels, layer.options
    return Level(
        predicted.detach(), grid, anchors, options.masked, options,
        size, in_cells, logits.detach(), layer.auxiliary, aided,
    )  # fmt: skip


def iou_thresh_of(options: YoloOptions, usual: float = BEST_ALONE) -> float:
    """The option `iou_thresh` of a head, or what is usual for its assigner."""
    return usual if options.iou_thresh is None else float(options.iou_thresh)


def best_truths(predicted: Tensor, truths: Truths) -> tuple[Tensor, Tensor]:
    """For each box the best IoU with any truth of its image, and that truth's number.

    predicted: (n, …, 4). Returns two (n, …); 0 and 0 where no truth overlaps.
    """
    shape = predicted.shape[:-1]
    boxes = predicted.flatten(1, -2)  # (n, boxes, 4)
    best = boxes.new_zeros(boxes.shape[:2])
    number = torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
    for start in range(0, truths.xywh.shape[1], CHUNK):
        chunk = slice(start, start + CHUNK)
        overlap = iou(boxes[:, :, None], truths.xywh[:, None, chunk]) * truths.valid[:, None, chunk]
        value, index = overlap.nan_to_num(0.0).max(2)
        better = value > best
        best = torch.where(better, value, best)
        number = torch.where(better, index + start, number)
    return best.view(shape), number.view(shape)


def last_of_each(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The different numbers among these (k,), and for each the last row that names it."""
    numbers, which = boxes.unique(return_inverse=True)
    last = torch.zeros_like(numbers).scatter_reduce(0, which, torch.arange(len(boxes), device=boxes.device), "amax")
    return numbers, last
