"""Gaussian blur, of a whole image or of its background (Darknet: image_opencv.cpp:image_data_augmentation,
data.c:load_data_augment)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from darknet_py.data.augment.dice import Dice, rand_int
from darknet_py.data.augment.steps import DrawContext, ImageStep
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

BACKGROUND_KERNEL = 17  # pixels
CLASSIFIER_KERNEL = 15  # pixels, of blur=1


@dataclass(frozen=True)
class Blur(ImageStep):
    """A third of the images stay sharp, of a third the background is blurred, and a third is blurred as a whole (with
    blur=1: the background, too). Drawn: 0 nothing, 1 the background, otherwise the kernel's size, pixels."""

    blur: int = 0

    def draw(self, context: DrawContext, dice: Dice) -> int:
        return (0, 1, self.blur)[rand_int(0, 2, dice.rest)] if self.blur else 0

    def apply(self, image: Image, drawn: int, truths: Rows, rng: np.random.Generator) -> Image:
        return blurred(image, drawn, truths)


def blurred(image: Image, blur: int, rows: Rows) -> Image:
    """A blur of everything but the objects (1), or of all, with a kernel of `blur` pixels.

    That kernel is at most 1/8 of the smallest side of an object; where this gives 1, the background alone is blurred.
    rows: (m, 6) truths of the image, x, y, w, h first.
    """
    height, width = image.shape[:2]
    sides = rows[:, 2:4] * np.array([width, height], np.float32)
    if blur > 1:
        blur = min(blur, int(sides.min(initial=np.inf)) // 8 if len(rows) else 0)
    if not blur:
        return image
    result = gaussian(image, BACKGROUND_KERNEL if blur == 1 else blur // 2 * 2 + 1)
    if blur == 1:
        corners = rows[:, :2] * np.array([width, height], np.float32) - sides / 2
        corners = corners.astype(np.int64)  # towards 0, as in C
        ends = np.minimum(corners + sides.astype(np.int64), (width, height))
        for (left, top), (right, bottom) in zip(corners.clip(0).tolist(), ends.tolist(), strict=True):
            result[top:bottom, left:right] = image[top:bottom, left:right]
    return result


@dataclass(frozen=True)
class ClassifierBlur(ImageStep):
    """A quarter of a classifier's samples is blurred: with a kernel of 15 pixels (blur=1), or of `blur` pixels. Drawn:
    whether."""

    blur: int

    def draw(self, context: DrawContext, dice: Dice) -> bool:
        return bool(dice.rest.integers(4) == 0)

    def apply(self, image: Image, drawn: bool, truths: Rows, rng: np.random.Generator) -> Image:
        return gaussian(image, CLASSIFIER_KERNEL if self.blur == 1 else self.blur // 2 * 2 + 1) if drawn else image


def gaussian(image: Image, kernel: int) -> Image:
    """An image blurred by a kernel of so many pixels, an odd number."""
    return cv2.GaussianBlur(np.ascontiguousarray(image), (kernel, kernel), 0).reshape(image.shape)
