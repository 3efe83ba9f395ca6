"""Cutmix: a part of another image is pasted in (Darknet: data.c:load_data_augment). Darknet does this to classifiers'
images alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darknet_py.data.augment.dice import rand_int
from darknet_py.data.augment.steps import Sample, Size
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Floats

MIN_SIDE, MAX_SIDE = 0.3, 0.8  # of the image's, for the patch


def cutmix_classes(samples: Sequence[Sample], net_size: Size, rng: np.random.Generator) -> Sample:
    """The second sample's patch on the first; their class vectors weigh as the areas do."""
    (first, second), patch = samples[:2], draw_patch(net_size, rng)
    return Sample(*cutmix((first.image, second.image), (first.truths, second.truths), patch), first.path)


def draw_patch(net_size: Size, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width, height of the patch, pixels of the network's input: 30..80 % of each side, anywhere."""
    w, h = (
        rand_int(float(np.float32(side) * np.float32(MIN_SIDE)), float(np.float32(side) * np.float32(MAX_SIDE)), rng)
        for side in net_size
    )
    return rand_int(0, net_size[0] - w - 1, rng), rand_int(0, net_size[1] - h - 1, rng), w, h


def cutmix(
    images: Sequence[Image], classes: Sequence[Floats], patch: tuple[int, int, int, int]
) -> tuple[Image, Floats]:
    """The second image's patch on the first, and the class vectors weighted by area."""
    left, top, width, height = patch
    result = images[0].copy()
    result[top : top + height, left : left + width] = images[1][top : top + height, left : left + width]
    fraction = np.float32(width * height / (result.shape[0] * result.shape[1]))
    return result, classes[0] * (1 - fraction) + classes[1] * fraction
