"""What is found in one image: arrays of numbers, or one object at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from darknet_py.errors import ImageError
from darknet_py.pictures.draw import Style, draw
from darknet_py.pictures.read import Image, as_image, read_image


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


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Sequence[Detection]):
    """The objects found in one image: by a `Detector` the most confident first, by evaluation in Darknet's raw order.

    class_ids: (m,) int64. confidences: (m,) float32, 0..1. xywh: (m, 4) float32, centre and size as fractions of the
    image. size: (width, height) of the image, pixels. names: of all classes.

    Two are equal if their arrays, size and names are.
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

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> list[Detection]: ...
    def __getitem__(self, index: int | slice) -> Detection | list[Detection]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        class_id = int(self.class_ids[index])
        box, relative = self.xyxy[index].tolist(), self.xywh[index].tolist()
        return Detection(class_id, self.names[class_id], float(self.confidences[index]), tuple(box), tuple(relative))

    def __iter__(self) -> Iterator[Detection]:
        columns = (self.class_ids, self.confidences, self.xyxy, self.xywh)
        for class_id, confidence, box, relative in zip(*(column.tolist() for column in columns), strict=True):
            yield Detection(class_id, self.names[class_id], confidence, tuple(box), tuple(relative))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (self.size, list(self.names)) == (other.size, list(other.names)) and all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
                (self.class_ids, other.class_ids),
                (self.confidences, other.confidences),
                (self.xywh, other.xywh),
            )
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can change

    def __repr__(self) -> str:
        """`<Detections 640x480: 2 dog, 1 cat>`."""
        return f"<Detections {self.size[0]}x{self.size[1]}: {self.counts()}>"

    def counts(self) -> str:
        """How many objects of each class, the most frequent first: `2 dog, 1 cat`."""
        ids, counts = np.unique(self.class_ids, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return ", ".join(f"{counts[k]} {self.names[ids[k]]}" for k in order) or "nothing"

    def to_dict(self, **head: Any) -> dict[str, Any]:
        """One image as Darknet's JSON has it (network.c:detection_to_json), and each box in pixels too.

        Args:
            head: what stands before the objects: frame_id, filename …
        """
        objects = [
            {
                "class_id": detection.class_id,
                "name": detection.name,
                "relative_coordinates": dict(
                    zip(("center_x", "center_y", "width", "height"), rounded(detection.relative, 6), strict=True)
                ),
                "confidence": round(detection.confidence, 6),
                "box": dict(zip(("left", "top", "right", "bottom"), rounded(detection.box, 2), strict=True)),
            }
            for detection in self
        ]
        return {**head, "objects": objects}

    def to_supervision(self) -> dict[str, Any]:
        """The arguments of `supervision.Detections(**detections.to_supervision())`.

        xyxy: (m, 4) float32, pixels. confidence: (m,) float32. class_id: (m,) int64. data: {"class_name": (m,) str}.
        """
        names = np.array([self.names[k] for k in self.class_ids], dtype=str)
        confidence, class_id = self.confidences.copy(), self.class_ids.copy()
        return {"xyxy": self.xyxy, "confidence": confidence, "class_id": class_id, "data": {"class_name": names}}

    def draw(self, image: Any, *, order: str = "rgb", **style: Any) -> Image:
        """A copy of the image, uint8 RGB, with a box and a label for each object.

        Args:
            image: the one they were found in: a path, or what `as_image` takes.
            order: "rgb" or "bgr": of the given image and of the result.
            style: line_width, font_size, labels, boxes; see `Style`.

        Raises:
            ImageError: the image cannot be read, or has another size.
        """
        pixels = read_image(image) if isinstance(image, (str, os.PathLike)) else as_image(image, 3, order)
        if pixels.shape[1::-1] != self.size:
            width, height = pixels.shape[1::-1]
            raise ImageError(f"{self!r} cannot be drawn on an image of {width}x{height}; give the one they are of")
        drawn = draw(pixels, self, Style(**style))
        return drawn if order == "rgb" else np.ascontiguousarray(drawn[..., ::-1])


def rounded(values: tuple[float, ...], digits: int) -> list[float]:
    """As JSON files have them."""
    return [round(value, digits) for value in values]
