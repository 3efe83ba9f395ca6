"""Random numbers of augmentation: where they come from, and the two distributions that Darknet draws
(utils.c:rand_scale, rand_int)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Dice(NamedTuple):
    """The generators of an image's random numbers: one for all, or several where images have some of the numbers in
    common.

    image: which image of the data set. zoom: of `resize`. place: jitter and flip. colour: hue, saturation, exposure.
    rest: everything else (blur, noise, mosaic, the order of the truths).
    """

    image: np.random.Generator
    zoom: np.random.Generator
    place: np.random.Generator
    colour: np.random.Generator
    rest: np.random.Generator

    @classmethod
    def of(cls, rng: np.random.Generator) -> Dice:
        """All numbers from one generator."""
        return cls(rng, rng, rng, rng, rng)


def rand_scale(maximum: float, rng: np.random.Generator) -> float:
    """Uniform in 1..maximum, or with probability 1/2 the inverse of such a number. 0 counts as 1
    (data.c:load_thread)."""
    low, high = sorted((1.0, maximum or 1.0))
    scale = rng.uniform(low, high)
    return scale if rng.integers(2) else 1 / scale


def rand_int(minimum: float, maximum: float, rng: np.random.Generator) -> int:
    """An integer in minimum..maximum, both included; Darknet drops their fractions."""
    low, high = sorted((int(minimum), int(maximum)))
    return int(rng.integers(low, high, endpoint=True))
