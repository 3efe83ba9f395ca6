"""The training data that a layer with a loss needs: it says so itself, and data/ and training/ follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]


class TruthFormat(Protocol):
    """The form in which an image's ground truth reaches the loss."""

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        """Rows (m, 6) of x, y, w, h, class, track_id → an array of the same shape for all images.

        x, y, w, h are fractions of the image. A seventh number is the truth's weight, where images are blended.
        """
        ...


@dataclass(frozen=True)
class BoxList:
    """(max_truths, 6 or 7): the rows, padded with zeros (Darknet: data.c:fill_truth_detection)."""

    max_truths: int

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        return np.pad(rows[: self.max_truths], ((0, max(self.max_truths - len(rows), 0)), (0, 0)))


@dataclass(frozen=True)
class CellGrid:
    """(side*side*(1+classes+4),): the truths by the cells of their centres (Darknet: data.c:fill_truth_region).

    For each cell: 1 if it has an object, the classes (one-hot), x and y as fractions of the cell, w and h as fractions
    of the image. Of several objects in a cell, the first counts.
    """

    side: int
    classes: int

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        column, row = np.minimum((rows[:, :2] * self.side).astype(np.int64), self.side - 1).T
        cells, first = np.unique(row * self.side + column, return_index=True)
        result = np.zeros((self.side**2, 1 + self.classes + 4), np.float32)
        chosen = rows[first]
        result[cells, 0] = 1
        result[cells, 1 + chosen[:, 4].astype(np.int64)] = 1
        result[cells, 1 + self.classes : 3 + self.classes] = (
            chosen[:, :2] * self.side - np.stack((column, row), 1)[first]
        )
        result[cells, 3 + self.classes :] = chosen[:, 2:4]
        return result.reshape(-1)


@dataclass(frozen=True)
class BoxNeeds:
    """Images with boxes.

    classes: number of the head's classes. max_truths: maximum number of truths per image. truth_format: how these reach
    the loss. augmentation: the name of a list of steps in data/augment. jitter, resize: for Darknet's list (see the
    head's options). random: the network's size varies in training: 0: never, 1: by up to 1.4, other values: by up to
    this factor.
    """

    classes: int
    max_truths: int
    truth_format: TruthFormat
    augmentation: str = "darknet"
    jitter: float = 0.0
    resize: float = 1.0
    random: float = 0.0


@dataclass(frozen=True)
class ClassTree:
    """A class tree: the parent of each class (-1: none) and its group of siblings, both (classes,) int64."""

    parents: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class ClassNeeds:
    """Images with a vector of class targets, (classes,) float32. tree: the ancestors of a true class are true too."""

    classes: int
    tree: ClassTree | None = None
    augmentation: str = "darknet_classifier"


Needs: TypeAlias = BoxNeeds | ClassNeeds
