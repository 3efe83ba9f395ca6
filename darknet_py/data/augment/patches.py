"""An image on a larger black one, and a patch of an image that shows enough of its objects: the augmentation of SSD
(Liu et al., 2016), as mmdetection makes it for its YOLOv3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.steps import DrawContext, ImageStep, Size
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

Patch: TypeAlias = tuple[int, int, int, int]  # left, top, width, height, pixels of the image
WHOLE, TRIES = 1.0, 50


def moved(boxes: Rows, size: Size, patch: Patch) -> NDArray[np.float64]:
    """(n, 4) centre and size as fractions of an image → (n, 4) corners in pixels of its patch."""
    centre, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
    return np.concatenate((centre - half, centre + half), 1) - (patch[:2] * 2)


def fractions(corners: NDArray[np.float64], size: Size) -> Rows:
    low, high = corners[:, :2], corners[:, 2:]
    return (np.concatenate(((low + high) / 2, high - low), 1) / (size * 2)).astype(np.float32)


class PatchStep(ImageStep):
    """What both steps share: `draw` gives the image's size and the patch, which may reach beyond the image."""

    def move(self, boxes: Rows, drawn: tuple[Size, Patch]) -> Rows:
        """Boxes are cut at the patch's borders. Those whose centre is outside come out without an area, as training
        leaves these out without a word; OUTSIDE would be taken for a wrong label."""
        size, patch = drawn
        corners, result = moved(boxes, size, patch), patch[2:]
        centre = (corners[:, :2] + corners[:, 2:]) / 2
        kept = ((centre > 0) & (centre < result)).all(1, keepdims=True)
        return fractions(corners.clip(0, result * 2), result) * kept

    def resized(self, size: Size, drawn: tuple[Size, Patch]) -> Size:
        return drawn[1][2:]

    def apply(self, image: Image, drawn: tuple[Size, Patch], truths: Rows, rng: np.random.Generator) -> Image:
        left, top, patch_width, patch_height = drawn[1]
        result = np.zeros((patch_height, patch_width, image.shape[2]), image.dtype)
        seen = image[max(top, 0) : top + patch_height, max(left, 0) : left + patch_width]
        result[max(-top, 0) :, max(-left, 0) :][: seen.shape[0], : seen.shape[1]] = seen
        return result


@dataclass(frozen=True)
class Expand(PatchStep):
    """Half of the images lie somewhere in a black one, up to `most` times as wide and high."""

    most: float = 2.0

    def draw(self, context: DrawContext, dice: Dice) -> tuple[Size, Patch]:
        (width, height), place = context.size, dice.place
        if place.uniform(0, 1) > 0.5:
            return context.size, (0, 0, width, height)
        ratio = place.uniform(1, self.most)
        left, top = (int(place.uniform(0, side * ratio - side)) for side in context.size)
        return context.size, (-left, -top, int(width * ratio), int(height * ratio))


@dataclass(frozen=True)
class OverlapCrop(PatchStep):
    """A patch in which each object keeps some IoU with the patch, which is drawn from `overlaps`, or any; or the whole
    image. Where 50 patches in a row do not do, another overlap is drawn.

    smallest: side of the patch, as a fraction of the image's.
    """

    overlaps: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    smallest: float = 0.3

    def draw(self, context: DrawContext, dice: Dice) -> tuple[Size, Patch]:
        (width, height), modes = context.size, (WHOLE, *self.overlaps, 0.0)
        boxes = moved(context.boxes, context.size, (0, 0, width, height))
        while True:
            overlap = dice.place.choice(modes)
            if overlap == WHOLE:
                return context.size, (0, 0, width, height)
            for _ in range(TRIES):
                patch = self._patch(context.size, dice.place)
                if patch is not None and shows(patch, boxes, overlap):
                    return context.size, patch

    def _patch(self, size: Size, place: np.random.Generator) -> Patch | None:
        """One try; None: its proportions are beyond 1:2."""
        width, height = (place.uniform(self.smallest * side, side) for side in size)
        if not 0.5 <= height / width <= 2:
            return None
        left, top = place.uniform(0, size[0] - width), place.uniform(0, size[1] - height)
        return int(left), int(top), int(left + width) - int(left), int(top + height) - int(top)


def shows(patch: Patch, boxes: NDArray[np.float64], overlap: float) -> bool:
    """Whether a patch has an area, an IoU of at least `overlap` with each of the boxes (n, 4; corners, pixels), and the
    centre of one, if there are any."""
    low, size = np.array(patch[:2]), np.array(patch[2:])
    if not size.all():
        return False
    if not len(boxes):
        return True
    inner = (np.minimum(boxes[:, 2:], low + size) - np.maximum(boxes[:, :2], low)).clip(0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + size.prod() - inner
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool((inner / union).min() >= overlap and ((centre > low) & (centre < low + size)).all(1).any())
