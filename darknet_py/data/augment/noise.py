"""Gaussian noise (Darknet: image_opencv.cpp:image_data_augmentation)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darknet_py.data.augment.colour import as_bytes
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.steps import DrawContext, ImageStep
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

MAX_DEVIATION = 127  # of 255


@dataclass(frozen=True)
class Noise(ImageStep):
    """Half of the images get noise of this standard deviation, of 255. Drawn: the deviation, or 0; the noise itself
    comes with `apply`."""

    deviation: int = 0

    def draw(self, context: DrawContext, dice: Dice) -> int:
        return self.deviation if self.deviation and dice.rest.integers(2) else 0

    def apply(self, image: Image, drawn: int, truths: Rows, rng: np.random.Generator) -> Image:
        return noisy(image, drawn, rng)


def noisy(image: Image, deviation: int, rng: np.random.Generator) -> Image:
    """Noise of a deviation 0..127 of 255. Darknet draws it into bytes, so what is below 0 is lost: it only
    brightens."""
    if not deviation:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(min(max(deviation, 0), MAX_DEVIATION))
    if image.dtype == np.uint8:
        return cv2.add(image, as_bytes(noise)).reshape(image.shape)
    return np.clip(image + noise.clip(0, 255) / np.float32(255), 0, 1)
