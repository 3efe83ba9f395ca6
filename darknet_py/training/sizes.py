"""Which size the network has in which iteration, and how many pictures then: `random`, `resize_step`, `dynamic_minibatch` (Darknet:
detector.c:train_detector)."""

from __future__ import annotations

import math

import numpy as np

from darknet_py.layers.net import NetOptions

PERIOD = 10  # iterations that one size lasts
CLASSIFIER_PERIOD = 40  # the same of classifiers
LAST = 100  # iterations at the end, at the largest size, for the rolling statistics
MEMORY_PART = 0.8  # of the memory that a larger mini-batch may take
DEFAULT_COEFFICIENT = 1.4  # of random=1


def network_size(net: NetOptions, random: float, iteration: int, first: int, seed: int) -> tuple[int, int]:
    """(width, height) in an iteration (counted from 1). `first`: the iteration in which this training began; a resumed run asks with
    the same, and gets the same sizes."""
    if not random:
        return net.width, net.height
    coefficient = DEFAULT_COEFFICIENT if random == 1 else random
    largest = _size(net, coefficient)
    period = (iteration - first) // PERIOD
    begins = first + period * PERIOD
    if period == 0 or begins - 1 > net.max_batches - LAST:
        return largest
    generator = np.random.default_rng([seed, 0x512E, period])
    scale = generator.uniform(1, coefficient)
    scale = scale if generator.integers(2) else 1 / scale
    width, height = _size(net, scale)
    if scale < 1 and (width > net.width or height > net.height):
        return net.width, net.height
    return max(width, int(net.resize_step)), max(height, int(net.resize_step))


def classifier_size(net: NetOptions, iteration: int, first: int, seed: int) -> tuple[int, int]:
    """(width, height) of a classifier in an iteration; with `random` in [net] another square every 40 (pjreddie's classifier.c)."""
    if not net.random:
        return net.width, net.height
    period = (iteration - first) // CLASSIFIER_PERIOD
    side = int(np.random.default_rng([seed, 0x512F, period]).integers(4, 15)) * 32
    return side, side


def mini_batch_of(net: NetOptions, random: float, size: tuple[int, int]) -> int:
    """Pictures of a mini-batch at this size: as many as dynamic_minibatch fits in the memory that the largest size takes."""
    count = max(net.batch // net.subdivisions, 1)
    if not (net.dynamic_minibatch and random):
        return count
    largest = _size(net, DEFAULT_COEFFICIENT if random == 1 else random)
    fits = count * largest[0] * largest[1] // (size[0] * size[1])
    with_room = int(fits * MEMORY_PART)
    return with_room if with_room > count else fits


def _size(net: NetOptions, scale: float) -> tuple[int, int]:
    step = int(net.resize_step)
    width, height = (math.floor(scale * side / step + 1.5) * step for side in (net.width, net.height))
    return width, height
