"""The ground truth of a mini-batch, as losses and assigners read it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Truths(NamedTuple):
    """The truths of a mini-batch, without the empty ends of their lists.

    xywh: (n, t, 4), fractions of the image. classes: (n, t) int64. valid: (n, t) bool, of a class that the head knows.
    rows: (n, t, 6 or 7), Darknet's rows as they came.
    """

    xywh: Tensor
    classes: Tensor
    valid: Tensor
    rows: Tensor


def as_truths(rows: Tensor, classes: int, class_map: Tensor | None = None) -> Truths:
    """Darknet's rows (n, max, 6) of x, y, w, h, class, track; a list ends at the first x of 0, unknown classes are
    passed over.

    class_map: (m,), the head's class for each of the labels' (`map`).
    """
    return _truths(rows, rows[..., 0] != 0, classes, class_map)


def truths_to_the_edge(rows: Tensor, classes: int, class_map: Tensor | None = None) -> Truths:
    """`as_truths` for the losses of other systems: a list ends at the first w of 0, so that x may be 0."""
    return _truths(rows, rows[..., 2] != 0, classes, class_map)


def _truths(rows: Tensor, present: Tensor, classes: int, class_map: Tensor | None) -> Truths:
    listed = present.cumprod(1).bool()
    longest = int(listed.sum(1).max()) if listed.numel() else 0
    rows, listed = rows[:, :longest], listed[:, :longest]
    labels = rows[..., 4].long()
    known = (labels < classes) & (labels >= 0)
    if class_map is not None:
        known &= labels < len(class_map)
        labels = class_map[labels.clamp(0, len(class_map) - 1)]
    return Truths(rows[..., :4], labels, listed & known, rows)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(m,) classes → (m, classes) bool; there may be no class."""
    return labels[:, None] == torch.arange(classes, device=labels.device)


def truth_vectors(labels: Tensor, classes: int, smooth: float) -> Tensor:
    """(k, classes): 1 for the class, 0 for the others; moved inwards by label smoothing."""
    truth = one_hot(labels, classes).float()
    return truth * (1 - smooth) + 0.5 * smooth if smooth else truth
