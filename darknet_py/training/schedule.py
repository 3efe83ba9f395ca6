"""The learning rate of each iteration (Darknet: network.c:get_current_rate)."""

from __future__ import annotations

import math
import random

from darknet_py.layers.net import NetOptions


def learning_rate(net: NetOptions, iteration: int, generator: random.Random | None = None) -> float:
    """The rate of an iteration; Darknet counts an iteration's images first, so the first update of a run has number 1.

    `generator` is for the policy `random` alone; without it an iteration has the same rate in every run and process.
    """
    rate = net.learning_rate
    if iteration < net.burn_in:
        return float(rate * (iteration / net.burn_in) ** net.power)
    if net.policy == "step":
        return float(rate * net.scale ** (iteration // net.step))
    if net.policy == "steps":
        scales = (*net.scales, *[1.0] * len(net.steps))
        return math.prod((rate, *(scale for step, scale in zip(_reached(net, iteration), scales, strict=False))))
    if net.policy == "exp":
        return float(rate * net.gamma**iteration)
    if net.policy == "poly":
        return _power(1 - iteration / net.max_batches, net.power) * rate if net.max_batches else rate
    if net.policy == "random":
        return float(rate * (generator or random.Random(iteration)).random() ** net.power)
    if net.policy == "sigmoid":
        return rate / (1 + math.exp(net.gamma * (iteration - net.step)))
    if net.policy == "sgdr":
        return _sgdr(net, iteration)
    return rate


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


def _sgdr(net: NetOptions, iteration: int) -> float:
    start, length = 0, net.max_batches if net.sgdr_cycle is None else net.sgdr_cycle
    while length > 0 and start + length < iteration:
        start += length
        length *= net.sgdr_mult
    low = net.learning_rate_min
    return low + 0.5 * (net.learning_rate - low) * (1 + math.cos((iteration - start) * math.pi / max(length, 1)))
