"""The assigner of YOLOv7 (https://arxiv.org/abs/2207.02696): of the boxes that ratio.py finds for the truths of
an image, each truth trains as many as the best of them overlap it in sum, those of the smallest cost, of all heads at
once.

As in the original, truths are scaled to pixels by the input's height on both axes (on an input that is not
square, they are misplaced: training warns of it), and a box that is found twice may be trained by two truths. The host
waits for the device where it counts the boxes, and for each kind of truth that has to choose between such two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.devices import constant
from darknet_py.losses.assign.level import Assignment, Level
from darknet_py.losses.assign.owners import owners
from darknet_py.losses.assign.ratio import matches, with_background
from darknet_py.losses.assign.simota import EPS, OVERLAP_COST, class_costs
from darknet_py.losses.overlaps import iou
from darknet_py.losses.truths import Truths

MOST, AIDED_MOST = 10, 20  # boxes that a truth trains at most; with auxiliary heads


def assign_ota(levels: Sequence[Level], truths: Truths) -> list[Assignment]:
    found = [matches(level, truths) for level in levels]
    image, box = (torch.cat([rows[part] for rows in found]) for part in (0, 2))
    number = torch.cat([torch.full_like(rows[0], place) for place, rows in enumerate(found)])
    logits = torch.cat([level.logits[rows[0], rows[2]] for level, rows in zip(levels, found, strict=True)])
    boxes = torch.cat([level.predicted[rows[0], rows[2]] for level, rows in zip(levels, found, strict=True)])
    place, real = _by_image(image, len(truths.valid))
    owner = _owners(boxes[place], logits[place], real, truths, levels[0])
    images, column = (owner >= 0).nonzero(as_tuple=True)
    chosen, owner = place[images, column], owner[images, column]
    result = []
    for index, level in enumerate(levels):
        own = number[chosen] == index
        result.append(with_background(level, images[own], owner[own], box[chosen[own]]))
    return result


def _by_image(image: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(p,) numbers of images → (n, c) for each image the places of its rows, in their order, and (n, c) bool, which of
    them are rows; c: of the image with most rows."""
    order = image.argsort(stable=True)
    counts = torch.bincount(image, minlength=count)
    column = torch.arange(int(counts.max()), device=image.device)
    real = column < counts[:, None]
    place = torch.zeros_like(real, dtype=torch.int64)
    place[real] = order
    return place, real


def _owners(boxes: Tensor, logits: Tensor, real: Tensor, truths: Truths, level: Level) -> Tensor:
    """boxes (n, c, 4), logits (n, c, entries), real (n, c) → (n, c), the truth that trains each box, -1: none."""
    predicted = corners(boxes * constant(level.size, boxes.device, boxes.dtype).repeat(2))
    wanted = corners(truths.xywh * level.size[1])
    possible = real[:, None] & truths.valid[..., None]
    overlap = iou(predicted[:, None], wanted[:, :, None], 0.0).nan_to_num(0.0) * possible
    labels = truths.classes.clamp(0, logits.shape[-1] - 6)
    cost = class_costs(logits[..., 4], logits[..., 5:], labels) - OVERLAP_COST * (overlap + EPS).log()
    cost = torch.where(possible, cost, torch.inf)
    most = min(AIDED_MOST if level.aided else MOST, cost.shape[2])
    count = overlap.topk(most, -1).values.sum(-1).int().clamp(min=1)
    return owners(_cheapest(cost, possible, count), -cost)


def _cheapest(cost: Tensor, possible: Tensor, count: Tensor) -> Tensor:
    """(n, t, c) bool: of each truth's possible boxes so many, `count` (n, t), of the smallest cost.

    A box that was found twice costs the same twice. Where not both belong to the cheapest, which of them `topk` takes
    depends on the length of the row and on the count. To choose as the original does, such rows are taken together
    where they agree in both, without their empty ends: a loop over lengths and counts, in which the host waits for the
    device.
    """
    if not cost.shape[2]:
        return torch.zeros_like(possible)
    dearest = cost.sort(2).values.gather(2, count[..., None].long() - 1)
    chosen = possible & (cost <= dearest)
    image, truth = (possible.any(2) & (chosen.sum(2) != count)).nonzero(as_tuple=True)
    chosen[image, truth] = False
    kinds, kind = torch.stack((possible[image, truth].sum(1), count[image, truth]), 1).unique(
        dim=0, return_inverse=True
    )
    for number, (length, most) in enumerate(kinds.tolist()):
        own = (kind == number).nonzero().squeeze(1)
        rows = cost[image[own], truth[own], :length]
        chosen[image[own, None], truth[own, None], rows.topk(most, largest=False).indices] = True
    return chosen
