"""The loss of [contrastive]: embeddings of the same thing come together, the others part (Darknet:
softmax_layer.c:forward_contrastive_layer, blas.c:grad_contrastive_loss_positive, …; after
https://arxiv.org/abs/2004.11362).

A sample is a whole image, two of which in a row are views of one; or, with `yolo_layer`, a box of that head that a
truth trains, and boxes with the truth's track number are the same thing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from darknet_py.losses.assign.darknet import anchors_of_truths
from darknet_py.losses.assign.level import last_of_each, level_of
from darknet_py.losses.loss import Delta, Loss, State, by_layer, full, squared_sum
from darknet_py.losses.truths import as_truths

CERTAIN = 0.9999  # the probability of a pair that nothing competes with
TRACK = 5  # place of the track number in a truth
CHUNK = 1 << 23  # comparisons at once; bounds memory, not the result


class Samples(NamedTuple):
    """cell: (m,) which of the embeddings, ascending. label: (m,) the same for the same thing. group: (m,) only samples
    of one group (class and step in time) are compared. kind: (m,) the class."""

    cell: Tensor
    label: Tensor
    group: Tensor
    kind: Tensor


def contrastive_delta(layer: Any, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """raw: (n, anchors*size, h, w) embeddings (for whole images (n, size)). truths: those of the [yolo] layer, or (n,
    classes)."""
    n, options = raw.shape[0], layer.options
    height, width = raw.shape[2:] if raw.ndim == 4 else (1, 1)
    anchors = len(layer.yolo.anchors) if layer.yolo else 1
    entries = full(raw).reshape(n, anchors, -1, height * width).transpose(2, 3)
    samples = (
        boxes(layer, truths, state, (width, height)) if layer.yolo else whole_images(layer, truths, height * width)
    )
    z = entries.flatten(0, 2)[samples.cell]
    delta = torch.zeros_like(entries).flatten(0, 2)
    delta[samples.cell] = deltas(z, samples, options, whole=not layer.yolo)
    delta = delta.view_as(entries).transpose(2, 3).reshape(raw.shape) * options.cls_normalizer
    delta = delta.clamp(-options.max_delta, options.max_delta)
    return Delta(delta, squared_sum(delta), {"count": delta.new_tensor(float(len(z)))})


def whole_images(layer: Any, truths: Tensor, cells: int) -> Samples:
    """Every image is labelled by the last class that is true of it, or, without one, as the same as its neighbour."""
    n = len(truths)
    true = truths.view(n, -1) > layer.truth_thresh
    numbers = torch.arange(true.shape[1], device=truths.device)
    label = torch.where(true.any(1), torch.where(true, numbers, 0).amax(1), torch.arange(n, device=truths.device) // 2)
    time = torch.arange(n, device=truths.device) // max(n // layer.time_steps, 1)
    label, time = (value.repeat_interleave(cells) for value in (label, time))
    return Samples(torch.arange(n * cells, device=truths.device), label, time, torch.zeros_like(label))


def boxes(layer: Any, rows: Tensor, state: State, grid: tuple[int, int]) -> Samples:
    """The boxes of the head that are some truth's best; of several truths of a box, the last counts. One with a track
    number under 0 is compared with none."""
    yolo, (width, height) = layer.yolo, grid
    truths, anchors = as_truths(rows, yolo.options.classes, yolo.class_map), len(layer.yolo.anchors)
    level = level_of(yolo, rows.new_zeros(0), rows.new_zeros(0), grid, state.size)
    found = anchors_of_truths(level, truths, best_alone=True)
    cells = (found.image * anchors + found.box % anchors) * width * height + found.box // anchors
    cell, taken = last_of_each(cells)
    image, number = found.image[taken], found.truth[taken]
    kind = truths.classes[image, number]
    label = rows[image, number, TRACK].long()
    time = image // max(len(rows) // layer.time_steps, 1)
    alone = -1 - torch.arange(len(taken), device=rows.device)
    return Samples(cell, label, torch.where(label < 0, alone, time * yolo.options.classes + kind), kind)


def deltas(z: Tensor, samples: Samples, options: Any, *, whole: bool) -> Tensor:
    """(m, size): minus the gradient of each embedding z (m, size)."""
    label, group = samples.label, samples.group
    if not len(z):
        return z
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    compared = (group[:, None] == group) & ~itself
    length = z.norm(dim=1)
    cosine = torch.where(compared, z @ z.T / (length[:, None] * length), 0.0)
    power = torch.where(compared, (cosine / options.temperature).exp(), 0.0)
    others = power.sum(0) - power  # of a pair (i, j): all pairs (k, j) but this
    probability = torch.where(compared, power / others, 0.0)
    alone = compared & (others <= 0)
    same = (label[:, None] == label) & ~itself
    if whole:
        times = torch.where(itself, 0, same.sum(1, keepdim=True) - same.long())
        attracted = same
    else:
        alone = alone | (probability > 1)
        times = negatives(samples, compared, same, options.contrastive_neg_max)
        attracted = same & compared
    probability = torch.where(alone, CERTAIN, probability)  # of whole images Darknet's is infinite here
    towards = attracted * (1 - probability)
    away = times * probability
    scale = 1 / (same.sum(1).clamp(min=1) * options.temperature * length)
    along = ((towards - away) * cosine).sum(1, keepdim=True) * z
    return -scale[:, None] * (along + (away - towards) @ z)


def negatives(samples: Samples, compared: Tensor, same: Tensor, most: int) -> Tensor:
    """(m, m): how often sample i is pushed from sample k: once for each partner j of i whose class is k's. Darknet goes
    through these j and k in order, and stops when it has come by `most` of them."""
    count = len(compared)
    partners = int(same.sum(1).max())
    partner = same.long().argsort(dim=1, descending=True, stable=True)[
        :, :partners
    ]  # (m, partners), the first same.sum(1) of which are
    real = torch.arange(partners, device=same.device) < same.sum(1, keepdim=True)
    itself = torch.eye(count, dtype=torch.bool, device=same.device)
    differs = (samples.label[:, None] != samples.label) & ~itself
    result = torch.zeros_like(compared, dtype=torch.long)
    for rows in torch.arange(count, device=same.device).split(max(CHUNK // max(partners * count, 1), 1)):
        passed = real[rows, :, None] & differs[rows, None] & (samples.kind[partner[rows]][..., None] == samples.kind)
        used = passed & compared[rows, None]
        ends = (used & (passed.flatten(1).cumsum(1).view_as(passed) >= most)).flatten(1).long()
        before = (ends.cumsum(1) - ends).view_as(passed) == 0
        result[rows] = (used & before).sum(1)
    return result


CONTRASTIVE = Loss(
    by_layer(contrastive_delta),
    frozenset({"temperature", "cls_normalizer", "max_delta", "contrastive_neg_max"}),
)
