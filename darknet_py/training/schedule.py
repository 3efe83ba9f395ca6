"""What changes with the iterations: the learning rate, and the length of image sequences (Darknet: network.c)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from darknet_py.layers.net import NetOptions

Policy = Callable[[NetOptions, int], float]
"""([net], number of the iteration) → the learning rate after burn-in."""


def learning_rate(net: NetOptions, iteration: int) -> float:
    """The learning rate of an iteration (network.c:get_current_rate).

    iteration: counted from 1, as Darknet counts an iteration's images before its update. The same in each run and
    process.
    """
    if iteration < net.burn_in:
        return net.learning_rate * _power(iteration / net.burn_in, net.power)
    return POLICIES[net.policy](net, iteration)


def _constant(net: NetOptions, iteration: int) -> float:
    return net.learning_rate


def _step(net: NetOptions, iteration: int) -> float:
    return net.learning_rate * _power(net.scale, iteration // net.step)


def _steps(net: NetOptions, iteration: int) -> float:
    scales = (*net.scales, *[1.0] * len(net.steps))
    return math.prod(
        (net.learning_rate, *(scale for step, scale in zip(_reached(net, iteration), scales, strict=False)))
    )


def _exp(net: NetOptions, iteration: int) -> float:
    return net.learning_rate * _power(net.gamma, iteration)


def _poly(net: NetOptions, iteration: int) -> float:
    if not net.max_batches:
        return net.learning_rate
    return _power(1 - iteration / net.max_batches, net.power) * net.learning_rate


def _random(net: NetOptions, iteration: int) -> float:
    return net.learning_rate * _power(random.Random(iteration).random(), net.power)


def _sigmoid(net: NetOptions, iteration: int) -> float:
    return net.learning_rate / (1 + _exponential(net.gamma * (iteration - net.step)))


def _sgdr(net: NetOptions, iteration: int) -> float:
    start, length = 0, net.max_batches if net.sgdr_cycle is None else net.sgdr_cycle
    while length > 0 and start + length < iteration:
        start += length
        length *= net.sgdr_mult
    low = net.learning_rate_min
    return low + 0.5 * (net.learning_rate - low) * (1 + math.cos((iteration - start) * math.pi / max(length, 1)))


POLICIES: dict[str, Policy] = {
    "constant": _constant,
    "step": _step,
    "steps": _steps,
    "exp": _exp,
    "poly": _poly,
    "random": _random,
    "sigmoid": _sigmoid,
    "sgdr": _sgdr,
}
"""The value of the option `policy` → its learning rate (network.c:get_current_rate)."""


def sequence_length(net: NetOptions, iteration: int) -> int:
    """Mini-batches in a sequence of images (network.c:get_sequence_value, get_current_seq_subdivisions)."""
    sequences = net.subdivisions  # per batch
    if net.sequential_subdivisions is not None:
        sequences = min(net.sequential_subdivisions, net.subdivisions)
    if net.track:
        scales = (*net.seq_scales, *[1.0] * len(net.steps))
        for _, scale in zip(_reached(net, iteration), scales, strict=False):
            sequences = int(sequences * scale)
        sequences = min(max(sequences, 1), net.subdivisions)
    return max(net.subdivisions // sequences, 1) if sequences else 1


def _reached(net: NetOptions, iteration: int) -> list[int]:
    """The steps before the first one that is still ahead."""
    count = next((k for k, step in enumerate(net.steps) if step > iteration), len(net.steps))
    return list(net.steps[:count])


def _power(base: float, exponent: float) -> float:
    """As C's pow: infinity instead of an error; NaN for a fractional power of a negative base."""
    try:
        value = base**exponent
    except (ZeroDivisionError, OverflowError):
        return math.inf
    return math.nan if isinstance(value, complex) else float(value)


def _exponential(value: float) -> float:
    """As C's exp: infinity instead of an error."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
