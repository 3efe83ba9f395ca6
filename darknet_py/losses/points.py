"""What the losses of [anchor_free] heads share: raw outputs as one list of boxes, and which heads go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.anchor_free import AnchorFree, corners_of_cells
from darknet_py.losses.loss import Output, Value, full, sum_of


class Points(NamedTuple):
    """All boxes of a group of heads, one head after the other.

    box: (n, k, 4 or 4*(reg_max+1)), objectness: (n, k) or None, classes: (n, k, classes), as the network gives them.
    corners: (n, k, 4), left, top, right, bottom, cells. centre: (k, 2), the middle of each box's cell, cells. stride:
    (k, 2), the size of a cell, pixels of the input. counts: boxes of each head.
    """

    box: Tensor
    objectness: Tensor | None
    classes: Tensor
    corners: Tensor
    centre: Tensor
    stride: Tensor
    counts: tuple[int, ...]


def points(outputs: Sequence[Output], size: tuple[int, int]) -> Points:
    """size: (width, height) of the network's input, pixels."""
    boxes, objectness, classes, corners, centres, strides = [], [], [], [], [], []
    for layer, raw in outputs:
        grid = (raw.shape[3], raw.shape[2])
        box, by_box, by_class = layer.values(full(raw))
        boxes.append(box)
        classes.append(by_class)
        corners.append(layer.corners(box, grid))
        centres.append(corners_of_cells(grid, box).repeat(layer.boxes_in_cell, 1) + 0.5)
        strides.append(
            constant((size[0] / grid[0], size[1] / grid[1]), box.device, box.dtype).expand(len(centres[-1]), 2)
        )
        if by_box is not None:
            objectness.append(by_box)
    return Points(
        torch.cat(boxes, 1), torch.cat(objectness, 1) if objectness else None, torch.cat(classes, 1),
        torch.cat(corners, 1), torch.cat(centres), torch.cat(strides), tuple(len(centre) for centre in centres),
    )  # fmt: skip


def by_channel(head: AnchorFree, box: float, objectness: float, classes: float) -> Tensor:
    """(channels,) of a head's raw output: the same numbers for all boxes."""
    count, has_objectness = head.boxes_in_cell, bool(head.options.objectness)
    parts = ((head.box_values - has_objectness, box), (has_objectness, objectness), (head.classes, classes))
    return torch.cat([torch.full((count * width,), float(value)) for width, value in parts])


def sum_of_groups(outputs: Sequence[Output], parts_of: Callable[[Sequence[Output]], dict[str, Tensor]]) -> Value:
    """The loss of all heads: the parts of those that detect, and of the auxiliary ones, which are assigned apart.

    parts_of: gives the parts, weighted scalars in the graph, of heads that are assigned together.
    """
    parts: dict[str, Tensor] = {}
    for auxiliary, prefix in ((False, ""), (True, "auxiliary ")):
        if group := [output for output in outputs if output.layer.auxiliary == auxiliary]:
            parts |= {f"{prefix}{name}": part for name, part in parts_of(group).items()}
    return sum_of(parts)
