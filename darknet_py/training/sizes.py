"""The input size of the network in each iteration, and the number of images that goes with it: `random`, `resize_step`,
`dynamic_minibatch` (Darknet: detector.c:train_detector)."""

from __future__ import annotations

import math

import numpy as np

from darknet_py.layers.net import NetOptions

PERIOD = 10  # iterations between two changes of the size …
CLASSIFIER_PERIOD = 40  # … and for classifiers
FINAL_ITERATIONS = 100  # at the maximum size, for the rolling statistics
MEMORY_FRACTION = 0.8  # of the memory of the maximum size that a dynamic mini-batch may take
DEFAULT_COEFFICIENT = 1.4  # of random=1


def network_size(net: NetOptions, random: float, iteration: int, first: int, seed: int) -> tuple[int, int]:
    """(width, height) of a detector's input in an iteration, pixels.

    random: the head's option of that name; 0: the size is fixed. iteration: counted from 1. first: the iteration that
    the run started with; a resumed run passes the same one, and so gets the same sizes.
    """
    if not random:
        return net.width, net.height
    coefficient = DEFAULT_COEFFICIENT if random == 1 else random
    maximum = _size(net, coefficient)
    period = (iteration - first) // PERIOD
    start = first + period * PERIOD
    if period == 0 or start - 1 > net.max_batches - FINAL_ITERATIONS:
        return maximum
    generator = np.random.default_rng([seed, 0x512E, period])
    scale = generator.uniform(1, coefficient)
    scale = scale if generator.integers(2) else 1 / scale
    width, height = _size(net, scale)
    if scale < 1 and (width > net.width or height > net.height):
        return net.width, net.height
    return max(width, int(net.resize_step)), max(height, int(net.resize_step))


def classifier_size(net: NetOptions, iteration: int, first: int, seed: int) -> tuple[int, int]:
    """(width, height) of a classifier's input; `random` in [net]: a new square every 40 (pjreddie's classifier.c)."""
    if not net.random:
        return net.width, net.height
    period = (iteration - first) // CLASSIFIER_PERIOD
    side = int(np.random.default_rng([seed, 0x512F, period]).integers(4, 15)) * 32
    return side, side


def mini_batch_of(net: NetOptions, random: float, size: tuple[int, int]) -> int:
    """Images in a mini-batch of this size; with `dynamic_minibatch`, as many as the maximum size's memory holds."""
    count = max(net.batch // net.subdivisions, 1)
    if not (net.dynamic_minibatch and random):
        return count
    maximum = _size(net, DEFAULT_COEFFICIENT if random == 1 else random)
    fits = count * maximum[0] * maximum[1] // (size[0] * size[1])
    reduced = int(fits * MEMORY_FRACTION)
    return reduced if reduced > count else fits


def _size(net: NetOptions, scale: float) -> tuple[int, int]:
    step = int(net.resize_step)
    width, height = (math.floor(scale * side / step + 1.5) * step for side in (net.width, net.height))
    return width, height
