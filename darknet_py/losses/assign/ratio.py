"""The assigner of YOLOv5 and YOLOv7: a truth trains each anchor whose sides differ from its own by less than a factor,
in the cell of its centre and in the neighbours that the centre is near to. All heads are assigned for themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.yolo import Yolo
from darknet_py.losses.assign.level import Assignment, Level
from darknet_py.losses.truths import Truths

READS = frozenset({"anchor_t"})
REACH, AUXILIARY_REACH = 0.5, 1.0  # a neighbour is trained where the centre is less than this from its border; cells
SIDES = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))  # the cell itself, left, above, right, below


def assign_ratio(levels: Sequence[Level], truths: Truths) -> list[Assignment]:
    """What no truth trains is background; nothing is ignored."""
    assigned = [matches(level, truths) for level in levels]
    return [with_background(level, *rows) for level, rows in zip(levels, assigned, strict=True)]


def matches(level: Level, truths: Truths) -> tuple[Tensor, Tensor, Tensor]:
    """image, truth, box, all (p,): first the cells of the centres, then the neighbours, one side after the other; there
    by anchor, then by truth. A box may occur several times.

    Positions are compared in the dtype of the truths, in cells: rounding decides where a centre is on a border.
    """
    assert isinstance(level.options, Yolo.Options)
    image, truth = truths.valid.nonzero(as_tuple=True)
    reach = AUXILIARY_REACH if level.auxiliary else REACH
    grid = constant(level.grid, image.device)
    centre, size = (truths.xywh[image, truth] * grid.repeat(2)).split(2, -1)
    ratio = size / level.in_cells[:, None]  # (anchors, truths, 2)
    anchor, row = (torch.maximum(ratio, 1 / ratio).amax(2) < level.options.anchor_t).nonzero(as_tuple=True)
    centre = centre[row]
    sides = [(away % 1 < reach) & (away > 1) for away in (centre, grid - centre)]  # near left and top, right and bottom
    near = torch.cat((torch.ones_like(sides[0][:, :1]), *sides), 1).T
    side, which = near.nonzero(as_tuple=True)
    step = constant(SIDES, centre.device)[side] * reach
    cell = torch.minimum((centre[which] - step).long().clamp(min=0), grid - 1)
    box = (cell[:, 1] * level.grid[0] + cell[:, 0]) * len(level.in_cells) + anchor[which]
    return image[row[which]], truth[row[which]], box


def with_background(level: Level, image: Tensor, truth: Tensor, box: Tensor) -> Assignment:
    background = torch.ones_like(level.logits[..., 0], dtype=torch.bool)
    background[image, box] = False
    return Assignment(image, truth, box, background)
