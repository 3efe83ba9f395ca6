"""Hue, saturation and exposure, in 8 bits as a detector's images are changed, or in floating point as a classifier's
(Darknet: image_opencv.cpp:image_data_augmentation, image.c:distort_image)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

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
