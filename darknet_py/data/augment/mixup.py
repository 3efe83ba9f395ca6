"""Mixup: two images blended (Darknet: image_opencv.cpp:blend_images_cv, data.c:blend_truth, load_data_augment)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from darknet_py.data.augment.colour import as_floats
from darknet_py.data.augment.steps import LoadedImage, Recipe, Sample, Size
from darknet_py.layers.needs import Rows
from darknet_py.pictures.resize import Floats


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
