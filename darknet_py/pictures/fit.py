"""How an image comes into the network's input, and the way back for boxes: Darknet's two ways (resize.py), and those of
later programs, which resize bytes by OpenCV and keep the aspect ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.pictures.levels import WHITE
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Floats, Size, letterbox, letterbox_fractions, resize


class Fit(Protocol):
    """A way into the network's input.

    clips: boxes end at the image's borders.
    """

    @property
    def clips(self) -> bool: ...

    def __call__(self, image: Image, width: int, height: int) -> Image:
        """(h, w, channels) uint8, uint16 or float 0..1 → (height, width, channels), of the same dtype, or float32."""
        ...

    def fractions(self, images: Sequence[Size], network: Size) -> tuple[Floats, Floats]:
        """Where images of these sizes lie in the input, as fractions of it; see `letterbox_fractions`."""
        ...


@dataclass(frozen=True)
class DarknetFit:
    """Darknet's ways: stretched, or letterboxed (letter_box=1)."""

    keeps_aspect: bool
    clips: bool = False

    def __call__(self, image: Image, width: int, height: int) -> Floats:
        return (letterbox if self.keeps_aspect else resize)(image, width, height)

    def fractions(self, images: Sequence[Size], network: Size) -> tuple[Floats, Floats]:
        if self.keeps_aspect:
            return letterbox_fractions(images, network)
        return np.ones((len(images), 2), np.float32), np.zeros((len(images), 2), np.float32)

    def __str__(self) -> str:
        return "aspect ratio kept, padded with grey 0.5" if self.keeps_aspect else "stretched"


@dataclass(frozen=True)
class Letterbox:
    """The aspect ratio is kept, on grey or black.

    whole: from a size in pixels to a whole number. fill: the level around the image, 0..255. centred: in the middle (an
    odd pixel goes to the right or the bottom), otherwise at the left top. exact: boxes go back by the margins before
    they were rounded, as YOLOv5's do, half a pixel off where a margin is odd.
    """

    whole: Callable[[float], int]
    fill: int
    centred: bool
    exact: bool = False
    clips: bool = False

    def __call__(self, image: Image, width: int, height: int) -> Image:
        rows, columns, channels = image.shape
        ratio = min(width / columns, height / rows)
        size = (max(self.whole(columns * ratio), 1), max(self.whole(rows * ratio), 1))
        if size != (columns, rows):
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).reshape(size[1], size[0], channels)
        result = np.full((height, width, channels), self.fill * (WHITE.get(image.dtype, 1.0) / 255), image.dtype)
        left, top = self._margins(np.array([width, height]) - size).astype(int)
        result[top : top + size[1], left : left + size[0]] = image
        return result

    def _margins(self, free: NDArray[np.float64]) -> NDArray[np.float64]:
        """Left and top of what is free, (…, 2) pixels."""
        return np.rint(free / 2 - 0.1) if self.centred else np.zeros_like(free)

    def fractions(self, images: Sequence[Size], network: Size) -> tuple[Floats, Floats]:
        size, network_size = np.array(images, np.float64).reshape(-1, 2), np.array(network, np.float64)
        inner = size * (network_size / size).min(1, keepdims=True)
        free = network_size - inner
        margins = free / 2 if self.exact and self.centred else self._margins(free)
        return (inner / network_size).astype(np.float32), (margins / network_size).astype(np.float32)

    def __str__(self) -> str:
        around = f"grey {self.fill} of 255" if self.fill else "black"
        return f"aspect ratio kept, {'in the middle' if self.centred else 'at the left top'} of {around}"


FITS: dict[str, Fit] = {
    "yolov5": Letterbox(round, 114, centred=True, exact=True, clips=True),
    "yolov8": Letterbox(round, 114, centred=True, clips=True),
    "yolox": Letterbox(int, 114, centred=False),
    "mmdet": Letterbox(lambda side: math.floor(side + 0.5), 0, centred=False),
}


def fit_of(name: str, keeps_aspect: bool) -> Fit:
    """The way that the option image_fit names; Darknet's stretching where the aspect ratio is not to be kept."""
    return FITS[name] if keeps_aspect and name in FITS else DarknetFit(keeps_aspect)
