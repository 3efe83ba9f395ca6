"""What changes with the iterations: learning rates, momentum, how many iterations an update has, epochs, and the length
of image sequences (Darknet: network.c)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from darknet_py.layers.net import NetOptions
from darknet_py.layers.recipe import POLICIES as OWN_POLICIES

Policy = Callable[[NetOptions, int], float]
"""([net], number of the iteration, from 1) → the learning rate after burn-in; of this project's own, in it too."""


def learning_rate(net: NetOptions, iteration: int) -> float:
    """The learning rate of an iteration (network.c:get_current_rate).

    iteration: counted from 1, as Darknet counts an iteration's images before its update. The same in each run and
    process.
    """
    if net.policy in OWN_POLICIES:
        return _between(0.0, POLICIES[net.policy](net, iteration), _power(warm_up_progress(net, iteration), net.power))
    if iteration < (length := warm_up(net)):
        return net.learning_rate * _power(iteration / length, net.power)
    return POLICIES[net.policy](net, iteration)


def bias_rate(net: NetOptions, iteration: int) -> float:
    """The learning rate of biases: in the warm-up it comes from `burn_in_bias_rate`."""
    if net.burn_in_bias_rate is None or net.policy not in OWN_POLICIES:
        return learning_rate(net, iteration)
    rate = POLICIES[net.policy](net, iteration)
    return _between(net.burn_in_bias_rate, rate, _power(warm_up_progress(net, iteration), net.power))


def momentum(net: NetOptions, iteration: int) -> float:
    """The momentum of an iteration's update."""
    if net.burn_in_momentum is None:
        return net.momentum
    return _between(net.burn_in_momentum, net.momentum, warm_up_progress(net, iteration))


def accumulated(net: NetOptions, iteration: int) -> int:
    """How many iterations' gradients are added up for one update; in the warm-up it rises from 1."""
    if not net.nominal_batch:
        return 1
    return max(round(_between(1.0, net.nominal_batch / net.batch, warm_up_progress(net, iteration))), 1)


def ends_update(net: NetOptions, iteration: int, waiting: int) -> bool:
    """Whether an iteration's gradients change the weights, with those of the `waiting` iterations before it."""
    if net.accumulate_modulo:
        return (iteration - 1) % accumulated(net, iteration) == 0
    return waiting + 1 >= accumulated(net, iteration)


def scaled_decay(net: NetOptions) -> float:
    """The weight decay, times the images of an update over those that `nominal_batch` asks for."""
    if not net.nominal_batch:
        return net.decay
    return net.decay * net.batch * max(round(net.nominal_batch / net.batch), 1) / net.nominal_batch


def warm_up(net: NetOptions) -> int:
    """Iterations of warm-up."""
    return max(net.burn_in, round(net.burn_in_epochs * net.max_batches / (net.epochs or 1)))


def warm_up_progress(net: NetOptions, iteration: int) -> float:
    """How much of the warm-up is over, 0..1, when an iteration begins (counted from 1)."""
    length = warm_up(net)
    return min((iteration - 1) / length, 1.0) if length > 0 else 1.0


def epoch_of(net: NetOptions, iteration: int) -> int:
    """The number, from 0, of the epoch that an iteration (counted from 1) is part of."""
    return (iteration - 1) * net.epochs // max(net.max_batches, 1) if net.epochs else iteration - 1


def is_plain(net: NetOptions, iteration: int) -> bool:
    """Whether an iteration (counted from 1) is in one of the `close_mosaic` last epochs."""
    return net.close_mosaic > 0 and epoch_of(net, iteration) >= _epochs(net) - net.close_mosaic


def _epochs(net: NetOptions) -> int:
    return net.epochs or net.max_batches


def _between(start: float, end: float, share: float) -> float:
    """Linear: share 0 gives the start, 1 the end."""
    return start + (end - start) * share


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


def _linear(net: NetOptions, iteration: int) -> float:
    return _between(net.learning_rate, net.learning_rate_min, _progress(net, iteration))


def _cosine(net: NetOptions, iteration: int) -> float:
    return _between(net.learning_rate, net.learning_rate_min, _half_wave(_progress(net, iteration)))


def _progress(net: NetOptions, iteration: int) -> float:
    """The fraction of all epochs that is over; after the epoch in which the warm-up ends, of `policy_delay` ago."""
    epoch = epoch_of(net, iteration)
    late = net.policy_delay if epoch > epoch_of(net, warm_up(net) + 1) else 0
    return min(max(epoch - late, 0) / max(_epochs(net), 1), 1.0)


def _warmcos(net: NetOptions, iteration: int) -> float:
    """YOLOX's yoloxwarmcos, without the warm-up."""
    start, end = warm_up(net), net.max_batches * (1 - net.close_mosaic / max(_epochs(net), 1))
    share = min(max((iteration - 1 - start) / max(end - start, 1), 0.0), 1.0)
    return _between(net.learning_rate, net.learning_rate_min, _half_wave(share))


def _half_wave(share: float) -> float:
    """0..1 → 0..1 along a cosine."""
    return (1 - math.cos(share * math.pi)) / 2


POLICIES: dict[str, Policy] = {
    "constant": _constant,
    "step": _step,
    "steps": _steps,
    "exp": _exp,
    "poly": _poly,
    "random": _random,
    "sigmoid": _sigmoid,
    "sgdr": _sgdr,
    "cosine": _cosine,
    "linear": _linear,
    "warmcos": _warmcos,
}
"""The value of the option `policy` → its learning rate (network.c:get_current_rate; the last three: Ultralytics' and
YOLOX's schedules)."""


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
