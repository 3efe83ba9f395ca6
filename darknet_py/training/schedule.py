"""The learning rate of each iteration (Darknet: network.c:get_current_rate)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from darknet_py.layers.net import NetOptions

Policy = Callable[[NetOptions, int], float]
"""([net], number of the iteration) → the learning rate, without burn-in."""


def learning_rate(net: NetOptions, iteration: int) -> float:
    """The rate of an iteration, the same in every run and process; Darknet counts an iteration's images first, so the first update of a
    run has number 1."""
    if iteration < net.burn_in:
        return float(net.learning_rate * (iteration / net.burn_in) ** net.power)
    return POLICIES[net.policy](net, iteration)


def _constant(net: NetOptions, iteration: int) -> float:
    return net.learning_rate


def _step(net: NetOptions, iteration: int) -> float:
    return float(net.learning_rate * net.scale ** (iteration // net.step))


def _steps(net: NetOptions, iteration: int) -> float:
    scales = (*net.scales, *[1.0] * len(net.steps))
    return math.prod(
        (net.learning_rate, *(scale for step, scale in zip(_reached(net, iteration), scales, strict=False)))
    )


def _exp(net: NetOptions, iteration: int) -> float:
    return float(net.learning_rate * net.gamma**iteration)


def _poly(net: NetOptions, iteration: int) -> float:
    if not net.max_batches:
        return net.learning_rate
    return _power(1 - iteration / net.max_batches, net.power) * net.learning_rate


def _random(net: NetOptions, iteration: int) -> float:
    return float(net.learning_rate * random.Random(iteration).random() ** net.power)


def _sigmoid(net: NetOptions, iteration: int) -> float:
    return net.learning_rate / (1 + math.exp(net.gamma * (iteration - net.step)))


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
"""The option `policy` → its rate (network.c:get_current_rate)."""


def sequence(net: NetOptions, iteration: int) -> int:
    """How many pictures in a row one sequence has (network.c:get_sequence_value, get_current_seq_subdivisions)."""
    parts = (
        net.subdivisions if net.sequential_subdivisions is None else min(net.sequential_subdivisions, net.subdivisions)
    )
    if net.track:
        scales = (*net.seq_scales, *[1.0] * len(net.steps))
        for _, scale in zip(_reached(net, iteration), scales, strict=False):
            parts = int(parts * scale)
        parts = min(max(parts, 1), net.subdivisions)
    return max(net.subdivisions // parts, 1) if parts else 1


def _reached(net: NetOptions, iteration: int) -> list[int]:
    """The steps up to the first that is not reached yet."""
    count = next((k for k, step in enumerate(net.steps) if step > iteration), len(net.steps))
    return list(net.steps[:count])


def _power(base: float, exponent: float) -> float:
    """C's pow: a negative base has no fractional power."""
    try:
        value = base**exponent
    except ZeroDivisionError:
        return math.inf
    return math.nan if isinstance(value, complex) else float(value)
