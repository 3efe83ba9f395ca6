"""Mixup: two images blended (Darknet: image_opencv.cpp:blend_images_cv, data.c:blend_truth, load_data_augment)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from darknet_py.data.augment.colour import as_floats
from darknet_py.data.augment.steps import LoadedImage, Recipe, Sample, Size
from darknet_py.layers.needs import Rows
from darknet_py.pictures.resize import Floats

TRIES = 100  # images among which one with an object is sought


@dataclass(frozen=True)
class Mixup:
    """A recipe: half of the samples are one of another recipe, the other half two of them blended, with both's boxes.

    Every row of truths has a seventh number, the weight of its image in the blend. beta: the first image's weight is
    drawn from Beta(beta, beta); 0: half of each, as Darknet.
    """

    of: Recipe
    max_truths: int
    beta: float = 0.0

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        is_mixed = rng.integers(2)
        first = self.of(images, net_size, rng)
        if not is_mixed:
            return Sample(first.image, weighted(first.truths, 1), first.path)
        weight = rng.beta(self.beta, self.beta) if self.beta else 0.5
        second = self.of(images, net_size, rng)
        image = blend(as_floats(first.image), as_floats(second.image), weight)
        truths = weighted(first.truths, weight), weighted(second.truths, 1 - weight)
        return Sample(image, blend_truths(*truths, self.max_truths), first.path)


@dataclass(frozen=True)
class Blended:
    """A recipe: with a probability, two samples of another one are blended, with both's boxes, and all count fully.

    The first one's weight is drawn from Beta(beta, beta) (YOLOv5 to v8).
    """

    of: Recipe
    probability: float
    beta: float
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        first = self.of(images, net_size, rng)
        if rng.random() >= self.probability:
            return first
        return blended(first, self.of(images, net_size, rng), rng.beta(self.beta, self.beta), self.max_truths)


def blended(first: Sample, second: Sample, weight: float, max_truths: int) -> Sample:
    """Two samples in one; pixels are cut to whole levels."""
    image = (first.image * weight + second.image * (1 - weight)).astype(first.image.dtype)
    return Sample(image, blend_truths(first.truths, second.truths, max_truths), first.path)


class DrawnOverlay(NamedTuple):
    """scale: of the second image, after it was fitted. flip: it is mirrored. offset: x, y of the part that is seen, in
    parts of what reaches beyond the first image, 0..1."""

    scale: float
    flip: bool
    offset: tuple[float, float]


@dataclass(frozen=True)
class Overlaid:
    """A recipe: with a probability, half of another recipe's sample and half of a further image, which is fitted to the
    left top, scaled by 0.5..1.5 and cut, and whose boxes are added; both have objects (YOLOX)."""

    of: Recipe
    other: Recipe
    probability: float
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        first = self.of(images, net_size, rng)
        if not len(first.truths) or rng.random() >= self.probability:
            return first
        drawn = DrawnOverlay(rng.uniform(0.5, 1.5), bool(rng.integers(2)), (rng.random(), rng.random()))
        others = (self.other(images, net_size, rng) for _ in range(TRIES))
        other = next((sample for sample in others if len(sample.truths)), None)
        return first if other is None else overlaid(first, other, drawn, self.max_truths)


def overlaid(first: Sample, second: Sample, drawn: DrawnOverlay, max_truths: int) -> Sample:
    """first: of the network's size. second: fitted into it. Beyond what the second covers, it is black."""
    height, width, channels = first.image.shape
    size = int(width * drawn.scale), int(height * drawn.scale)
    image = cv2.resize(second.image, size, interpolation=cv2.INTER_LINEAR).reshape(size[1], size[0], channels)
    image = image[:, ::-1] if drawn.flip else image
    left, top = (
        min(int(part * (have - need)), have - need - 1) if have > need else 0
        for part, have, need in zip(drawn.offset, size, (width, height), strict=True)
    )
    seen = image[top : top + height, left : left + width]
    other = np.zeros_like(first.image)
    other[: seen.shape[0], : seen.shape[1]] = seen
    rows = second.truths.copy()
    exact = np.array([width, height]) * drawn.scale  # boxes are scaled as if the size had not been made whole
    centre, half = rows[:, :2] * exact, rows[:, 2:4] * exact / 2
    low, high = (centre - half).clip(0, size), (centre + half).clip(0, size)
    if drawn.flip:
        low[:, 0], high[:, 0] = size[0] - high[:, 0], size[0] - low[:, 0]
    low, high = (low - (left, top)).clip(0, (width, height)), (high - (left, top)).clip(0, (width, height))
    rows[:, :2], rows[:, 2:4] = (low + high) / 2 / (width, height), (high - low) / (width, height)
    mixed = first.image * np.float32(0.5) + other * np.float32(0.5)
    return Sample(mixed.astype(first.image.dtype), blend_truths(first.truths, rows, max_truths), first.path)


def blend(first: Floats, second: Floats, weight: float = 0.5) -> Floats:
    """`weight` of the first image, and the rest of the second."""
    return first * np.float32(weight) + second * np.float32(1 - weight)


def weighted(rows: Rows, weight: float) -> Rows:
    """(m, 6) rows with a seventh number, the weight of their image."""
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=weight)


def blend_truths(first: Rows, second: Rows, max_truths: int) -> Rows:
    """(m, 6 or 7) rows of both images, the first's first, at most `max_truths`; the second's lose their track_id."""
    second = second.copy()
    second[:, 5] = 0
    return np.concatenate((first, second))[:max_truths]


def mixup_classes(samples: Sequence[Sample], net_size: Size, rng: np.random.Generator) -> Sample:
    """A classifier's mixup: half of each of two samples, images and class vectors."""
    first, second = samples[:2]
    image = blend(as_floats(first.image), as_floats(second.image))
    return Sample(image, (first.truths + second.truths) * np.float32(0.5), first.path)
