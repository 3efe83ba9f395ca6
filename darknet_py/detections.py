"""What a detector finds in one image: numbers in arrays, and one object at a time for those who want to look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Detection(NamedTuple):
    """One object: `box` is left, top, right, bottom in pixels; `relative` is centre x, y, width, height as parts of the picture.

    Boxes are as the network gives them and may reach beyond the picture.
    """

    class_id: int
    name: str
    confidence: float
    box: tuple[float, float, float, float]
    relative: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections(Sequence[Detection]):
    """What was found in one picture, the surest first.

    class_ids: (m,) int64. confidences: (m,) float32, 0..1. xywh: (m, 4) float32, centre and size as parts of the picture.
    size: (width, height) of the picture, pixels. names: of all classes.
    """

    class_ids: NDArray[np.int64]
    confidences: NDArray[np.float32]
    xywh: NDArray[np.float32]
    size: tuple[int, int]
    names: Sequence[str]

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """(m, 4) left, top, right, bottom, pixels."""
        centre, half = self.xywh[:, :2], self.xywh[:, 2:] / 2
        size = np.array([*self.size, *self.size], np.float32)
        return np.concatenate((centre - half, centre + half), 1, dtype=np.float32) * size

    def __len__(self) -> int:
        return len(self.class_ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        class_id = int(self.class_ids[index])
        box, relative = self.xyxy[index].tolist(), self.xywh[index].tolist()
        return Detection(class_id, self.names[class_id], float(self.confidences[index]), tuple(box), tuple(relative))

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))
