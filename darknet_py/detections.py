"""What is found in one image: arrays of numbers, or one object at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Detection(NamedTuple):
    """One object.

    box: left, top, right, bottom in pixels. relative: centre x, y, width, height as fractions of the image. Boxes are
    as the network gives them and may extend beyond the image.
    """

    class_id: int
    name: str
    confidence: float
    box: tuple[float, float, float, float]
    relative: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections(Sequence[Detection]):
    """The objects found in one image: by a `Detector` the most confident first, by evaluation in Darknet's raw order.

    class_ids: (m,) int64. confidences: (m,) float32, 0..1. xywh: (m, 4) float32, centre and size as fractions of the
    image. size: (width, height) of the image, pixels. names: of all classes.
    """

    class_ids: NDArray[np.int64]
    confidences: NDArray[np.float32]
    xywh: NDArray[np.float32]
    size: tuple[int, int]
    names: Sequence[str]

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """(m, 4) float32: left, top, right, bottom in pixels."""
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
