"""Tensor functions that layers share: the activations (Darknet: activations.h, activations.c) and dropblock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULT_BLOCK = 7  # pixels of a dropped block's side, where no size is written
FULL_SIZE_FROM = 0.85  # fraction of max_batches after which dropped blocks have their full size and probability
CHANNEL_EPSILON = 0.0001  # added to the sums of the normalize_channels family, so that they are not 0


def _stair(x: Tensor) -> Tensor:
    floor = x.floor()
    return torch.where(floor % 2 == 0, 0.0, x - floor) + (x / 2).floor()


def _plse(x: Tensor) -> Tensor:
    return torch.where(x < -4, 0.01 * (x + 4), torch.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5))


def _lhtan(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x))


def _hard_mish(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, 0.0))


def _selu(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0507 * x, 1.0507 * 1.6732 * (x.exp() - 1))


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(0.797885 * x + 0.035677 * x**3))


def _normalize_channels(x: Tensor) -> Tensor:
    positive = F.relu(x)
    return positive / (positive.sum(1, keepdim=True) + CHANNEL_EPSILON)


def _normalize_channels_softmax(x: Tensor) -> Tensor:
    exponential = x.exp()
    return exponential / (exponential.sum(1, keepdim=True) + CHANNEL_EPSILON)


def _normalize_channels_softmax_maxval(x: Tensor) -> Tensor:
    return _normalize_channels_softmax(x - x.amax(1, keepdim=True))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "relu": F.relu,
    "logistic": torch.sigmoid,
    "mish": F.mish,
    "swish": F.silu,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "ramp": lambda x: F.relu(x) + 0.1 * x,
    "elu": F.elu,
    "selu": _selu,
    "gelu": _gelu,
    "relie": lambda x: F.leaky_relu(x, 0.01),
    "revleaky": lambda x: F.leaky_relu(x, 0.1),
    "loggy": lambda x: 2 * torch.sigmoid(x) - 1,
    "plse": _plse,
    "stair": _stair,
    "hardtan": lambda x: x.clamp(-1, 1),
    "lhtan": _lhtan,
    "hard_mish": _hard_mish,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _normalize_channels_softmax,
    "normalize_channels_softmax_maxval": _normalize_channels_softmax_maxval,
}

# Activations that overwrite their input: for tensors that nothing else reads, when no gradient is needed.
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky": lambda x: F.leaky_relu_(x, 0.1),
    "relu": F.relu_,
    "logistic": torch.sigmoid_,
    "tanh": torch.tanh_,
    "relu6": lambda x: F.relu6(x, inplace=True),
    "mish": lambda x: F.mish(x, inplace=True),
    "swish": lambda x: F.silu(x, inplace=True),
}


def _mish_of_sigmoid(x: Tensor) -> Tensor:
    """x * tanh(log(1 + e^x)) without exponentials that overflow: with s = sigmoid(x) and q = s * (2 - s), it is
    x * q / (2 - q)."""
    s = x.sigmoid()
    q = s * (-s + 2.0)
    return x * q / (-q + 2.0)


# Activations as a fused graph computes them fastest.
IN_A_TRACE: dict[str, Callable[[Tensor], Tensor]] = {"mish": _mish_of_sigmoid}


class BlockOptions(Protocol):
    """What dropblock reads of [dropout]."""

    @property
    def probability(self) -> float: ...
    @property
    def dropblock_size_rel(self) -> float: ...
    @property
    def dropblock_size_abs(self) -> float: ...


def drop_blocks(x: Tensor, options: BlockOptions, progress: float) -> Tensor:
    """Zeroes at most one block per channel of x (n, c, h, w), and scales up the rest of an image to make up for it.

    Darknet: dropout_layer_kernels.cu. progress: fraction of max_batches that is done, 0..1; blocks grow with it.
    """
    n, channels, height, width = x.shape
    grown = min(progress / FULL_SIZE_FROM, 1.0)
    absolute = int(options.dropblock_size_abs) or (0 if options.dropblock_size_rel else DEFAULT_BLOCK)
    relative = options.dropblock_size_rel
    sides = [int((absolute or relative * length) * grown) for length in (width, height)]
    side = min(max(1, sides[0]), width, max(1, sides[1]), height)
    chance = torch.rand((n, channels, height * width), device=x.device)
    lowest, index = chance.min(2)
    hit = lowest < options.probability * grown / side**2
    left, top = (_start(at, length, side) for at, length in ((index % width, width), (index // width, height)))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    in_rows = (rows >= top[..., None]) & (rows < top[..., None] + side)
    in_columns = (columns >= left[..., None]) & (columns < left[..., None] + side)
    dropped = in_rows[..., :, None] & in_columns[..., None, :] & hit[..., None, None]
    fraction = hit.sum(1) * side**2 / (channels * height * width)
    return x * ~dropped / (1 - fraction).view(-1, 1, 1, 1)


def _start(at: Tensor, length: int, side: int) -> Tensor:
    """The first row or column of a block at `at`: beyond length - side, Darknet takes the excess instead."""
    return torch.where(at > length - side, at - (length - side), at).clamp(0, length - side)
