"""The grid assigner with cross-entropy losses and label smoothing, in place of Darknet's for [yolo].

Anchors stand in the middle of their cells. One that overlaps no truth by more than 0.5 is background. One in a cell that has some truth's
centre is trained to be its best truth where it overlaps it by more than 0.5; and each truth trains, whatever the overlap, its best ones
among those, of all heads. The rest is ignored. Loss: 2 BCE of x and y + 2 (w, h)^2 + BCE of objectness + BCE of classes, where a class's
target is 1 - eps + eps/classes, and eps/classes for the others (eps: label_smooth_eps); sums over the boxes.
Assigner and weights: those of YOLOv3 in MMDetection (https://arxiv.org/abs/1906.07155).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.losses.assign.darknet import Truths, best_truths
from darknet_py.losses.loss import Context
from darknet_py.losses.predictions import by_autograd

BACKGROUND, POSITIVE = 0.5, 0.5
XY, WH = 2.0, 2.0
EDGE = 1e-6  # targets of x and y stay so far from 0 and 1


def priors(layer: Any, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(anchors, h, w, 4): the anchors, each in the middle of each cell, relative to the picture."""
    device = layer.anchors.device
    columns, rows = ((torch.arange(count, device=device) + 0.5) / count for count in grid)
    centre = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    sides = layer.anchors / torch.tensor(size, device=device)
    shape = (len(sides), grid[1], grid[0], 2)
    return torch.cat((centre.expand(shape), sides[:, None, None].expand(shape)), -1)


def at_truths(boxes: Tensor, truths: Truths) -> tuple[Tensor, Tensor, Tensor]:
    """The anchors in the cells with a truth's centre: rows and columns (n, t) of these cells, and the overlap of each anchor there with
    every truth, (n, t cells, anchors, t)."""
    grid = torch.tensor(boxes.shape[2:0:-1], device=boxes.device)
    column, row = torch.minimum((truths.xywh[..., :2].clamp(min=0) * grid).long(), grid - 1).unbind(-1)
    there = boxes[:, row, column].permute(1, 2, 0, 3)  # (n, t, anchors, 4)
    overlap = iou(there[:, :, :, None], truths.xywh[:, None, None]).nan_to_num(0.0)
    counts = truths.valid[:, :, None, None] & truths.valid[:, None, None]
    return row, column, torch.where(counts, overlap, -1.0)


def assign_grid(layer: Any, truths: Truths, grid: tuple[int, int], context: Context) -> tuple[Tensor, Tensor]:
    """For each box of the head: the number of the truth that it is trained to be, or -1; and whether it is background. Both (n, anchors,
    h, w)."""
    boxes, (n, count) = priors(layer, grid, context.size), truths.valid.shape
    shape = (n, *boxes.shape[:3])
    number = torch.full(shape, -1, device=boxes.device)
    if not count:
        return number, torch.ones(shape, dtype=torch.bool, device=boxes.device)
    best, nearest = best_truths(boxes.expand(*shape, 4), truths)
    background = best <= BACKGROUND
    row, column, overlap = at_truths(boxes, truths)
    images = torch.arange(n, device=boxes.device)[:, None].expand_as(row)[truths.valid]
    marked = torch.zeros((n, *grid[::-1]), dtype=torch.bool, device=boxes.device)
    marked[images, row[truths.valid], column[truths.valid]] = True
    number = torch.where(marked[:, None] & (best > POSITIVE), nearest, number)
    highest = torch.stack(
        [at_truths(priors(other, cells, context.size), truths)[2].amax((1, 2)) for other, cells in context.heads]
    )
    is_best = (overlap == highest.amax(0)[:, None, None]) & (overlap > 0)
    numbers = torch.where(is_best, torch.arange(count, device=boxes.device), -1).amax(3)  # of several truths, the last
    chosen = (numbers >= 0).nonzero(as_tuple=True)
    image, cell, anchor = chosen
    number[image, anchor, row[image, cell], column[image, cell]] = numbers[chosen]
    return number, background & (number < 0)


def _cost(layer: Any, raw: Tensor, rows: Tensor, truths: Truths, context: Context) -> Tensor:
    logits = raw.unflatten(1, (len(layer.anchors), -1)).permute(0, 1, 3, 4, 2)
    grid = (raw.shape[3], raw.shape[2])
    with torch.no_grad():
        number, background = assign_grid(layer, truths, grid, context)
        image, anchor, row, column = (number >= 0).nonzero(as_tuple=True)
        which = number[image, anchor, row, column]
        truth, labels = truths.xywh[image, which], truths.classes[image, which]
        cells = torch.tensor(grid, device=raw.device)
        xy = truth[:, :2] * cells - torch.stack((column, row), 1)
        xy = ((xy - 0.5) / layer.options.scale_x_y + 0.5).clamp(EDGE, 1 - EDGE)
        pixels = torch.tensor(context.size, device=raw.device)
        wh = (truth[:, 2:] * pixels / layer.anchors[anchor]).clamp(min=EDGE).log()
        eps, classes = layer.options.label_smooth_eps, logits.shape[-1] - 5
        wanted = F.one_hot(labels, classes) * (1 - eps) + eps / classes
    trained = logits[image, anchor, row, column]
    total = XY * F.binary_cross_entropy_with_logits(trained[:, :2], xy, reduction="sum")
    total = total + WH * F.mse_loss(trained[:, 2:4], wh, reduction="sum")
    total = total + F.binary_cross_entropy_with_logits(trained[:, 5:], wanted, reduction="sum")
    objectness = F.binary_cross_entropy_with_logits(logits[..., 4], (number >= 0).float(), reduction="none")
    return total + (objectness * (background | (number >= 0))).sum()


grid_loss = by_autograd(_cost)
