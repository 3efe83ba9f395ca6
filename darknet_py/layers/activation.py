"""[activation], and the activation functions that every other layer names (Darknet: activations.h, activations.c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option

CHANNEL_EPSILON = 0.0001  # keeps the sums of the normalize_channels family from 0


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


class _GeluByOutput(torch.autograd.Function):
    """Darknet takes gelu's derivative at the output, not at the input (activations.h:gelu_gradient)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = _gelu(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        inner = 0.0356774 * y**3 + 0.797885 * y
        slope = 0.5 * torch.tanh(inner) + (0.0535161 * y**3 + 0.398942 * y) * torch.cosh(inner) ** -2 + 0.5
        return gradients[0] * slope


class _ChannelsByOutput(torch.autograd.Function):
    """Darknet's gradient of the normalize_channels family: delta times the sum over channels of output times delta; for the plain one
    only where the output is not 0 (activations.c:gradient_array_normalize_channels). No derivative, but what its models learned with."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str) -> Tensor:
        output = ACTIVATIONS[name](x)
        ctx.save_for_backward(output)
        ctx.only_positive = name == "normalize_channels"
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        delta = -gradients[0]
        scaled = delta * (output * delta).sum(1, keepdim=True)
        return -(torch.where(output > 0, scaled, delta) if ctx.only_positive else scaled), None


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

# Functions that may overwrite their input: for use on a tensor that nobody else reads, when no gradient is wanted.
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky": lambda x: F.leaky_relu_(x, 0.1),
    "relu": F.relu_,
    "logistic": torch.sigmoid_,
    "tanh": torch.tanh_,
    "relu6": lambda x: F.relu6(x, inplace=True),
    "mish": lambda x: F.mish(x, inplace=True),
    "swish": lambda x: F.silu(x, inplace=True),
}


def activation_option(default: str) -> Any:
    """The option `activation`; Darknet goes on with relu where it does not know the word."""
    return option(default, "the activation function", choices=tuple(ACTIVATIONS), otherwise="relu")


def activate(x: Tensor, name: str, *, own: bool = False, exact: bool = True) -> Tensor:
    """Applies an activation. `own`: nobody else reads `x`, it may be overwritten. `exact`: its gradient is the true derivative; if not, it
    is Darknet's."""
    if own and name in IN_PLACE and not torch.is_grad_enabled():
        return IN_PLACE[name](x)
    if not exact and torch.is_grad_enabled():
        if name == "gelu":
            return _GeluByOutput.apply(x)
        if name.startswith("normalize_channels"):
            return _ChannelsByOutput.apply(x, name)
    return ACTIVATIONS[name](x)


class Activation(Layer, kinds=("activation",)):
    overwrites = 0

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        activation: str = activation_option("linear")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input

    def forward(self, x: Tensor) -> Tensor:
        return activate(x, self.options.activation, exact=self.exact)
