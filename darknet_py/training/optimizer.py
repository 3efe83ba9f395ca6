"""How gradients change weights: Darknet's SGD and Adam, PyTorch's SGD and AdamW, as rules in a table (Darknet:
convolutional_layer.c, blas_kernels.cu:adam_update_gpu)."""

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
from darknet_py.training.schedule import scaled_decay, warm_up

NORM_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_


class UpdateRule(NamedTuple):
    """One way to update weights.

    buffers: names of the tensors kept for each parameter; the first collects the gradients. decays: (a parameter, its
    name) → whether weight decay applies to it. change: takes the optimizer, a group's learning rate, its weight decay
    and its parameters, and changes these by means of the buffers.
    """

    buffers: tuple[str, ...]
    decays: Callable[[Tensor, str], bool]
    change: Callable[[Updates, float, float, list[Tensor]], None]


class Updates(torch.optim.Optimizer):
    """Updates weights through the buffers that Darknet calls weight_updates: gradients are added to them, an update
    applies them, and what momentum leaves stays in them.

    The rule says how they are applied. `clip`, `clip_norm` and `grad_centr` do not depend on it.

    Attributes:
        rate, bias_rate, momentum, number, batch: of the update that `step` makes: learning rates; momentum; number,
            counted from 1; its images.
        waits: `step` only collects gradients. updates: how many changed the weights in this run.
        param_groups: parameters with the same options. scale: factor of the learning rate. decayed: with weight decay.
            first_update: number of the first update that changes them; until then gradients add up. clip: limit of the
            weights, 0: none. centred: the mean of each filter's gradient is subtracted. bias: they are
            biases, and have a learning rate of their own in the warm-up.
    """

    def __init__(self, network: Network, trainable: Iterable[tuple[Layer, str, torch.nn.Parameter]]) -> None:
        self.net = network.net
        self.rule = RULES["adam" if self.net.adam and self.net.optimizer == "darknet" else self.net.optimizer]
        self.decay = scaled_decay(self.net)
        has_bias_rate = self.net.burn_in_bias_rate is not None
        groups: dict[tuple[float, ...], list[Tensor]] = {}
        # up to the last layer with train_only_bn, only the rolling statistics are updated
        still = max((layer.index for layer in network.layers if layer.options.train_only_bn), default=-1)
        for layer, name, parameter in trainable:
            options = layer.options
            convolution = name == "weights" and isinstance(layer, Convolutional)
            key = (
                options.learning_rate,
                self.rule.decays(parameter, name),
                first_update(network, layer) if layer.index > still else math.inf,
                (options.clip or self.net.clip) if convolution else 0.0,
                convolution and bool(options.grad_centr) and layer.scales is not None,
                has_bias_rate and name == "biases",
            )
            groups.setdefault(key, []).append(parameter)
        if not groups:
            raise DarknetError(f"{network.cfg.path}: all layers are frozen; freeze fewer")
        names = ("scale", "decayed", "first_update", "clip", "centred", "bias")
        super().__init__(
            [{"params": parameters, **dict(zip(names, key, strict=True))} for key, parameters in groups.items()], {}
        )
        for tensor in self.parameters():
            self.state[tensor] = {name: torch.zeros_like(tensor) for name in self.rule.buffers}
        self.rate, self.bias_rate, self.momentum, self.number, self.batch = 0.0, 0.0, 0.0, 0, 1
        self.waits, self.updates = False, 0

    def parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Updates the weights by the gradients in `grad` and those collected before; if it `waits`, only collects."""
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
        if self.waits:
            return
        if self.net.clip_norm:
            self._limit_norm()
        for group in self.param_groups:
            parameters = group["params"]
            updates = self.buffers(parameters, "updates")
            if group["first_update"] == math.inf:
                torch._foreach_zero_(updates)
            elif self.number >= group["first_update"]:
                self._change(group, parameters, updates)
        self.updates += 1

    def _limit_norm(self) -> None:
        """Scales all gradients by the same factor, so that their norm is at most `clip_norm`."""
        updates = self.buffers(list(self.parameters()), "updates")
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(updates)))
        torch._foreach_mul_(updates, (self.net.clip_norm / (norm + NORM_EPSILON)).clamp(max=1.0))

    def _change(self, group: dict[str, Any], parameters: list[Tensor], updates: list[Tensor]) -> None:
        if group["centred"]:
            torch._foreach_sub_(updates, [update.mean((1, 2, 3), keepdim=True) for update in updates])
        rate = self.bias_rate if group["bias"] else self.rate
        self.rule.change(self, rate * group["scale"], self.decay if group["decayed"] else 0.0, parameters)
        if group["clip"]:
            torch._foreach_clamp_min_(parameters, -group["clip"])
            torch._foreach_clamp_max_(parameters, group["clip"])

    def buffers(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """One of the rule's buffers for each of the parameters."""
        return [self.state[parameter][name] for parameter in parameters]


def _darknet(optimizer: Updates, rate: float, decay: float, parameters: list[Tensor]) -> None:
    """u += gradient + decay*batch*weights;  weights -= rate/batch * u;  u *= momentum."""
    updates = optimizer.buffers(parameters, "updates")
    _add(updates, parameters, decay * optimizer.batch)
    torch._foreach_add_(parameters, updates, alpha=-rate / optimizer.batch)
    torch._foreach_mul_(updates, optimizer.momentum)


def _adam(optimizer: Updates, rate: float, decay: float, parameters: list[Tensor]) -> None:
    """g = gradient + decay*batch*weights, then the step of Adam."""
    _add(optimizer.buffers(parameters, "updates"), parameters, decay * optimizer.batch)
    _adam_step(optimizer, rate, optimizer.number, parameters)


def _adam_step(optimizer: Updates, rate: float, number: int, parameters: list[Tensor]) -> None:
    """m, v = moving means of g, g²;  weights -= rate * m/(1-B1^number) / (sqrt(v/(1-B2^number)) + eps)."""
    net = optimizer.net
    updates, means, squares = (optimizer.buffers(parameters, name) for name in ("updates", "m", "v"))
    torch._foreach_lerp_(means, updates, 1 - net.B1)
    torch._foreach_mul_(squares, net.B2)
    torch._foreach_addcmul_(squares, updates, updates, 1 - net.B2)
    divisor = torch._foreach_sqrt(torch._foreach_div(squares, 1 - net.B2**number))
    torch._foreach_add_(divisor, net.eps)
    torch._foreach_addcdiv_(parameters, means, divisor, -rate / (1 - net.B1**number))
    torch._foreach_zero_(updates)


def _sgd(optimizer: Updates, rate: float, decay: float, parameters: list[Tensor]) -> None:
    """g = gradient + decay*weights;  v = momentum*v + g;  weights -= rate * v, with Nesterov's momentum
    rate * (g + momentum*v)."""
    updates, velocities = (optimizer.buffers(parameters, name) for name in ("updates", "velocity"))
    _add(updates, parameters, decay)
    torch._foreach_mul_(velocities, optimizer.momentum)
    torch._foreach_add_(velocities, updates)
    if optimizer.net.nesterov:
        torch._foreach_add_(updates, velocities, alpha=optimizer.momentum)
        torch._foreach_add_(parameters, updates, alpha=-rate)
    else:
        torch._foreach_add_(parameters, velocities, alpha=-rate)
    torch._foreach_zero_(updates)


def _adamw(optimizer: Updates, rate: float, decay: float, parameters: list[Tensor]) -> None:
    """weights *= 1 - rate*decay;  then Adam with the gradient as it is (Loshchilov and Hutter, 2019)."""
    torch._foreach_mul_(parameters, 1 - rate * decay)
    _adam_step(optimizer, rate, optimizer.updates + 1, parameters)


def _add(updates: list[Tensor], parameters: list[Tensor], decay: float) -> None:
    if decay:
        torch._foreach_add_(updates, parameters, alpha=decay)


def _is_weight(parameter: Tensor, name: str) -> bool:
    return name == "weights"


def _is_matrix(parameter: Tensor, name: str) -> bool:
    """Weights of convolutions and connected layers, not those that are added to channels or multiply them."""
    return name == "weights" and parameter.ndim > 1


def _is_any(parameter: Tensor, name: str) -> bool:
    return True


RULES: dict[str, UpdateRule] = {
    "darknet": UpdateRule(("updates",), _is_weight, _darknet),
    "adam": UpdateRule(("updates", "m", "v"), _is_any, _adam),
    "sgd": UpdateRule(("updates", "velocity"), _is_matrix, _sgd),
    "adamw": UpdateRule(("updates", "m", "v"), _is_matrix, _adamw),
}
"""The value of the option `optimizer` → its rule; with `adam`, Darknet's is "adam"."""


def first_update(network: Network, layer: Layer) -> float:
    """Number of the first update that changes a layer, from 1 (network_kernels.cu:update_network_gpu)."""
    return max(layer.options.burnin_update * warm_up(network.net), layer.options.dont_update + 1)
