"""How gradients change weights: Darknet's SGD and Adam, as rules in a table (Darknet: convolutional_layer.c,
blas_kernels.cu:adam_update_gpu)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.layers import Layer
from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network
from darknet_py.training.repair import replace_non_finite

DECAYED = ("weights",)  # by SGD; Adam decays biases and scales, too


class UpdateRule(NamedTuple):
    """One way to update weights.

    buffers: names of the tensors kept for each parameter; the first collects the gradients. decays_all: weight decay
    applies to biases and scales, too. change: takes the optimizer, a group's learning rate and its parameters, and
    changes these by means of the buffers.
    """

    buffers: tuple[str, ...]
    decays_all: bool
    change: Callable[[Updates, float, list[Tensor]], None]


class Updates(torch.optim.Optimizer):
    """Updates weights through the buffers that Darknet calls weight_updates: gradients are added to them, an update
    applies them, and what momentum leaves stays in them.

    The rule (SGD, Adam) says how they are applied. Weight decay, `clip` and `grad_centr` do not depend on it.

    Attributes:
        rate, number, batch: of the update that `step` makes: learning rate; number, counted from 1; its images.
        param_groups: parameters with the same options. scale: factor of the learning rate. decayed: with weight decay.
            first_update: number of the first update that changes them; until then gradients add up. clip: limit of the
            weights, 0: none. centred: the mean of each filter's gradient is subtracted.
    """

    def __init__(self, network: Network, trainable: Iterable[tuple[Layer, str, torch.nn.Parameter]]) -> None:
        self.net = network.net
        self.rule = RULES["adam" if self.net.adam else "sgd"]
        groups: dict[tuple[float, ...], list[Tensor]] = {}
        # up to the last layer with train_only_bn, only the rolling statistics are updated
        still = max((layer.index for layer in network.layers if layer.options.train_only_bn), default=-1)
        for layer, name, parameter in trainable:
            options, is_weight = layer.options, name in DECAYED
            convolution = is_weight and isinstance(layer, Convolutional)
            key = (
                options.learning_rate,
                is_weight or self.rule.decays_all,
                first_update(network, layer) if layer.index > still else math.inf,
                (options.clip or self.net.clip) if convolution else 0.0,
                convolution and bool(options.grad_centr) and layer.scales is not None,
            )
            groups.setdefault(key, []).append(parameter)
        if not groups:
            raise DarknetError(f"{network.cfg.path}: all layers are frozen; freeze fewer")
        names = ("scale", "decayed", "first_update", "clip", "centred")
        super().__init__(
            [{"params": parameters, **dict(zip(names, key, strict=True))} for key, parameters in groups.items()], {}
        )
        for tensor in self.parameters():
            self.state[tensor] = {name: torch.zeros_like(tensor) for name in self.rule.buffers}
        self.rate, self.number, self.batch = 0.0, 0, 1

    def parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the weights by the gradients in `grad`, with `rate`, `number` and `batch`."""
        for group in self.param_groups:
            parameters = group["params"]
            updates = self.buffers(parameters, "updates")
            for parameter, update in zip(parameters, updates, strict=True):
                if parameter.grad is not None:
                    update.add_(parameter.grad)
            if self.net.try_fix_nan:
                for update, parameter in zip(updates, parameters, strict=True):
                    update.nan_to_num_(0.0, 0.0, 0.0)
                    parameter.copy_(replace_non_finite(parameter))
            if group["first_update"] == math.inf:
                torch._foreach_zero_(updates)
            elif self.number >= group["first_update"]:
                self._change(group, parameters, updates)

    def _change(self, group: dict[str, Any], parameters: list[Tensor], updates: list[Tensor]) -> None:
        if group["centred"]:
            torch._foreach_sub_(updates, [update.mean((1, 2, 3), keepdim=True) for update in updates])
        if group["decayed"]:
            torch._foreach_add_(updates, parameters, alpha=self.net.decay * self.batch)
        self.rule.change(self, self.rate * group["scale"], parameters)
        if group["clip"]:
            torch._foreach_clamp_min_(parameters, -group["clip"])
            torch._foreach_clamp_max_(parameters, group["clip"])

    def buffers(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """One of the rule's buffers for each of the parameters."""
        return [self.state[parameter][name] for parameter in parameters]


def _sgd(optimizer: Updates, rate: float, parameters: list[Tensor]) -> None:
    """u += gradient + decay*batch*weights;  weights -= rate/batch * u;  u *= momentum."""
    updates = optimizer.buffers(parameters, "updates")
    torch._foreach_add_(parameters, updates, alpha=-rate / optimizer.batch)
    torch._foreach_mul_(updates, optimizer.net.momentum)


def _adam(optimizer: Updates, rate: float, parameters: list[Tensor]) -> None:
    """g = gradient + decay*batch*weights;  m, v = moving means of g, g²

    weights -= rate * m/(1-B1^t) / (sqrt(v/(1-B2^t)) + eps)
    """
    net, number = optimizer.net, optimizer.number
    updates, means, squares = (optimizer.buffers(parameters, name) for name in ("updates", "m", "v"))
    torch._foreach_lerp_(means, updates, 1 - net.B1)
    torch._foreach_mul_(squares, net.B2)
    torch._foreach_addcmul_(squares, updates, updates, 1 - net.B2)
    divisor = torch._foreach_sqrt(torch._foreach_div(squares, 1 - net.B2**number))
    torch._foreach_add_(divisor, net.eps)
    torch._foreach_addcdiv_(parameters, means, divisor, -rate / (1 - net.B1**number))
    torch._foreach_zero_(updates)


RULES: dict[str, UpdateRule] = {
    "sgd": UpdateRule(("updates",), decays_all=False, change=_sgd),
    "adam": UpdateRule(("updates", "m", "v"), decays_all=True, change=_adam),
}
"""Darknet's two, chosen by the option `adam`."""


def first_update(network: Network, layer: Layer) -> float:
    """Number of the first update that changes a layer, from 1 (network_kernels.cu:update_network_gpu)."""
    return max(layer.options.burnin_update * network.net.burn_in, layer.options.dont_update + 1)
