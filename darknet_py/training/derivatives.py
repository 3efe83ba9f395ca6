"""Where Darknet's back-propagation is not the derivative of its forward pass.

Darknet's models were trained with it, and a training step here is Darknet's; `--exact` uses the true derivatives.

- batch norm: three terms with slightly different variances (batch_norm.py);
- gelu: the derivative is taken at the output; the normalize_channels family: a product of deltas (below);
- [shortcut] with weights: the normalisation of the weights is left out; [normalization]: its sums count as constants;
  [local_avgpool]: the gradient is divided by the size of the whole window, even at the edges;
- some layers overwrite the delta of the layer that they read, instead of adding to it: OVERWRITES.

The deltas of [yolo], [region] … are in losses/.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.layers import Layer
from darknet_py.layers.arithmetic import Arithmetic
from darknet_py.layers.batchnorm import Normalised
from darknet_py.layers.dropout import Dropout
from darknet_py.layers.functions import ACTIVATIONS, drop_blocks
from darknet_py.layers.roi_sample import RoiSample
from darknet_py.losses.assign.regions import objects_of, sampled_regions
from darknet_py.network import Network
from darknet_py.training.batch_norm import Statistics, normalise_by_batch

OVERWRITES = {"batchnorm": 0, "activation": 0, "normalization": 0, "sam": 1, "reorg": 0, "reorg3d": 0}
"""Kind of layer → the position of the source whose delta it overwrites; what later layers had added is lost."""


class _GeluByOutput(torch.autograd.Function):
    """gelu with the derivative at the output, not at the input (activations.h:gelu_gradient)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = ACTIVATIONS["gelu"](x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        inner = 0.0356774 * y**3 + 0.797885 * y
        slope = 0.5 * torch.tanh(inner) + (0.0535161 * y**3 + 0.398942 * y) * torch.cosh(inner) ** -2 + 0.5
        return gradients[0] * slope


class _ChannelsByOutput(torch.autograd.Function):
    """The normalize_channels family with Darknet's gradient: delta * sum over channels of (output * delta).

    For normalize_channels itself only where the output is positive (activations.c:gradient_array_normalize_channels).
    """

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


class _AsIf(torch.autograd.Function):
    """The first tensor, with the second one's gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


class Training(Arithmetic):
    """The arithmetic of a network in training, with true derivatives.

    progress: fraction of max_batches that is done, 0..1. truths: of the mini-batch, for layers that choose by them what
    is trained.
    """

    truths: Tensor | None = None

    def __init__(self, statistics: Statistics, time_steps: int) -> None:
        self.statistics, self.time_steps, self.progress = statistics, time_steps, 1.0

    def normalise(self, layer: Normalised, x: Tensor) -> Tensor:
        return normalise_by_batch(layer, x, self.statistics) if layer.training else super().normalise(layer, x)

    def drop_blocks(self, layer: Dropout, x: Tensor) -> Tensor:
        return drop_blocks(x, layer.options, self.progress)

    @torch.no_grad()
    def sample(self, layer: RoiSample, regions: Tensor, images: Tensor) -> Tensor:
        if self.truths is None or not layer.training:
            return super().sample(layer, regions, images)
        objects = objects_of(self.truths, (images.shape[3], images.shape[2]), layer.convention)
        return sampled_regions(regions, objects, layer.options, layer.convention)

    def of_logits(self, probabilities: Tensor, logits: Tensor) -> Tensor:
        return _AsIf.apply(probabilities.detach(), logits) if torch.is_grad_enabled() else probabilities


class DarknetTraining(Training):
    """The arithmetic of a network in training, with Darknet's derivatives."""

    def activate(self, x: Tensor, name: str, *, own: bool = False) -> Tensor:
        if torch.is_grad_enabled() and name == "gelu":
            return _GeluByOutput.apply(x)
        if torch.is_grad_enabled() and name.startswith("normalize_channels"):
            return _ChannelsByOutput.apply(x, name)
        return super().activate(x, name, own=own)

    def as_if(self, value: Tensor, other: Tensor) -> Tensor:
        return _AsIf.apply(value.detach(), other) if torch.is_grad_enabled() else value

    def constant(self, value: Tensor) -> Tensor:
        return value.detach()


def set_arithmetic(network: Network, arithmetic: Arithmetic) -> None:
    """Sets the arithmetic of all layers of a network, including those inside recurrent layers."""
    for module in network.modules():
        if isinstance(module, Layer):
            module.arithmetic = arithmetic


SHARES_DELTA = ("empty", "dropout")  # kinds whose delta is the memory of the layer before (parser.c)


def overwritten(network: Network) -> dict[int, int]:
    """Index of each layer whose delta is overwritten → index of the first layer that does it."""
    memory: dict[int, int] = {-1: -1}  # index of a layer → of the first layer that has the same memory for its delta
    for layer in network.layers:
        memory[layer.index] = memory[layer.index - 1] if layer.kind in SHARES_DELTA else layer.index
    first: dict[int, int] = {}
    for layer in network.layers:
        if layer.kind in OVERWRITES:
            first.setdefault(memory[layer.source_indices[OVERWRITES[layer.kind]]], layer.index)
    return {index: first[memory[index]] for index in memory if memory[index] in first}
