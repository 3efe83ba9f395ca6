"""Hue, saturation and exposure, in 8 bits as a detector's images are changed, or in floating point as a classifier's
(Darknet: image_opencv.cpp:image_data_augmentation, image.c:distort_image)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.data.augment.dice import Dice, rand_scale
from darknet_py.data.augment.steps import DrawContext, ImageStep
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Floats

MAX_VALUES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class DrawnColour(NamedTuple):
    """hue: what is added, -1..1 as a fraction of the circle. saturation, exposure: factors."""

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0


NEUTRAL = DrawnColour()


@dataclass(frozen=True)
class ColourShift(ImageStep):
    """Hue moves by up to ±hue (a fraction of the circle), saturation and exposure change by up to these factors, up or
    down.

    in_floats: images of 8 bits become float32, and are changed as all others are; otherwise they stay what they are.
    """

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    in_floats: bool = False

    def draw(self, context: DrawContext, dice: Dice) -> DrawnColour:
        hue, saturation = dice.colour.uniform(-abs(self.hue), abs(self.hue)), rand_scale(self.saturation, dice.colour)
        return DrawnColour(hue, saturation, rand_scale(self.exposure, dice.colour))

    def apply(self, image: Image, drawn: DrawnColour, truths: Rows, rng: np.random.Generator) -> Image:
        if image.dtype == np.uint8 and not self.in_floats:
            return distort_bytes(image, drawn)
        return distort(as_floats(image), drawn)


@dataclass(frozen=True)
class HueTables(ImageStep):
    """Hue, saturation and value are multiplied by factors within 1 ± these fractions, in 8 bits, as YOLOv5 to v8 do.

    Hues turn past 180; what is drawn are the three factors.
    """

    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0

    def draw(self, context: DrawContext, dice: Dice) -> NDArray[np.float64]:
        return dice.colour.uniform(-1, 1, 3) * [self.hue, self.saturation, self.value] + 1

    def apply(self, image: Image, drawn: NDArray[np.float64], truths: Rows, rng: np.random.Generator) -> Image:
        levels = np.arange(256) * drawn[:, None]
        table = np.stack((levels[0] % 180, *levels[1:].clip(0, 255)), 1).astype(np.uint8)
        return in_hsv(image, lambda hsv: cv2.LUT(hsv, table[None]))


@dataclass(frozen=True)
class HueOffsets(ImageStep):
    """Hue, saturation and value move by whole levels within ± these, each with a probability of 1/2, as YOLOX does.

    What is drawn are the three offsets.
    """

    hue: float = 5.0
    saturation: float = 30.0
    value: float = 30.0

    def draw(self, context: DrawContext, dice: Dice) -> NDArray[np.int16]:
        offsets = dice.colour.uniform(-1, 1, 3) * [self.hue, self.saturation, self.value]
        return (offsets * dice.colour.integers(0, 2, 3)).astype(np.int16)

    def apply(self, image: Image, drawn: NDArray[np.int16], truths: Rows, rng: np.random.Generator) -> Image:
        def moved(hsv: Image) -> Image:
            levels = hsv.astype(np.int16) + drawn
            levels[..., 0] %= 180
            return levels.clip(0, 255).astype(np.uint8)

        return in_hsv(image, moved)


class DrawnPhotometry(NamedTuple):
    """brightness: added, as a fraction of white. contrast, saturation: factors. hue: added, degrees. order: of the
    channels. contrast_first: contrast changes before the colours, otherwise after them."""

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    order: tuple[int, ...] = (0, 1, 2)
    contrast_first: bool = True


@dataclass(frozen=True)
class Photometry(ImageStep):
    """Brightness, contrast, saturation and hue, each in half of the images, and the channels' order, in floats that may
    leave 0..1 (SSD's, as mmdetection makes it)."""

    brightness: float = 32 / 255
    factors: tuple[float, float] = (0.5, 1.5)
    hue: float = 18.0

    def draw(self, context: DrawContext, dice: Dice) -> DrawnPhotometry:
        rng, without = dice.colour, DrawnPhotometry()
        brightness, contrast, saturation, hue, order, first = rng.integers(0, 2, 6).astype(bool).tolist()
        return DrawnPhotometry(
            rng.uniform(-self.brightness, self.brightness) if brightness else without.brightness,
            rng.uniform(*self.factors) if contrast else without.contrast,
            rng.uniform(*self.factors) if saturation else without.saturation,
            rng.uniform(-self.hue, self.hue) if hue else without.hue,
            tuple(rng.permutation(3).tolist()) if order else without.order,
            first,
        )

    def apply(self, image: Image, drawn: DrawnPhotometry, truths: Rows, rng: np.random.Generator) -> Image:
        floats = as_floats(image) + np.float32(drawn.brightness)
        if drawn.contrast_first or image.shape[2] != 3:
            floats *= np.float32(drawn.contrast)
        if image.shape[2] != 3:
            return floats
        hsv = cv2.cvtColor(floats, cv2.COLOR_RGB2HSV)  # hue in degrees
        hsv[..., 1] *= np.float32(drawn.saturation)
        if drawn.saturation > 1:
            hsv[..., 1] = hsv[..., 1].clip(0, 1)
        hsv[..., 0] = (hsv[..., 0] + np.float32(drawn.hue)) % 360
        floats = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if not drawn.contrast_first:
            floats *= np.float32(drawn.contrast)
        return floats[..., list(drawn.order)]


def in_hsv(image: Image, change: Callable[[Image], Image]) -> Image:
    """An RGB image, changed in OpenCV's 8-bit HSV; images without colours stay as they are, and so does the fourth of
    four channels. Images of 16 bits and floats come out as uint8."""
    if image.dtype != np.uint8:
        image = as_bytes(as_floats(image) * np.float32(255))
    if image.shape[2] < 3:
        return image
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2HSV)
    colours = cv2.cvtColor(change(hsv), cv2.COLOR_HSV2RGB)
    return colours if image.shape[2] == 3 else np.concatenate((colours, image[..., 3:]), 2)


def as_floats(image: Image) -> Floats:
    """uint8, uint16 or float → float32 in 0..1."""
    return np.multiply(image, np.float32(1 / MAX_VALUES.get(image.dtype, 1)), dtype=np.float32)


def as_bytes(values: Floats) -> Image:
    """Numbers of about 0..255, rounded to uint8."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def distort_bytes(image: Image, drawn: DrawnColour) -> Image:
    """A uint8 image, changed with OpenCV's 8-bit HSV.

    Hues are 0..179 there, and do not turn past 0: they stop at it. Grey images have an exposure alone; of four
    channels, the fourth stays.
    """
    if drawn == NEUTRAL:
        return image
    levels = np.arange(256, dtype=np.float32)
    if image.shape[2] < 3:
        return cv2.LUT(image, as_bytes(levels * np.float32(drawn.exposure))).reshape(image.shape)
    table = np.stack(
        (
            levels + np.float32(179 * drawn.hue),
            levels * np.float32(drawn.saturation),
            levels * np.float32(drawn.exposure),
        ),
        1,
    )
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2HSV)
    colours = cv2.cvtColor(cv2.LUT(hsv, as_bytes(table)[None]), cv2.COLOR_HSV2RGB)
    return colours if image.shape[2] == 3 else np.concatenate((colours, image[..., 3:]), 2)


def distort(image: Floats, drawn: DrawnColour) -> Floats:
    """A float image in 0..1, changed as image.c:distort_image does; the result is in 0..1.

    Hues turn past both ends (one that lands on exactly 1 is red here; image.c makes it magenta). Grey images have an
    exposure alone; of four channels, the fourth stays.
    """
    if drawn == NEUTRAL:
        return image
    if image.shape[2] < 3:
        return np.clip(image * np.float32(drawn.exposure), 0, 1)
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv *= np.array([1, drawn.saturation, drawn.exposure], np.float32)
    hsv[..., 0] += np.float32(360 * (drawn.hue % 1))
    colours: Floats = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)
    return colours if image.shape[2] == 3 else np.concatenate((colours, image[..., 3:]), 2)
