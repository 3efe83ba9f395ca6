"""A running average of the weights, as `ema_alpha` asks for (Darknet: network.c:train_network_waitkey, ema_update, ema_apply)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network

APPLIED_BEFORE_END = 1000  # updates; from there on training goes on from the average


class Ema:
    """Averages the convolutions' weights, biases and scales from the middle of training on.

    Attributes:
        values: "layers.K.NAME" → the average; empty before it begins.
    """

    def __init__(self, network: Network, alpha: float, max_batches: int) -> None:
        self.network, self.alpha = network, alpha
        self.start, self.end = max_batches // 2, max_batches - APPLIED_BEFORE_END
        self.values: dict[str, Tensor] = {}

    def _tensors(self, network: Network) -> dict[str, Tensor]:
        return {
            f"layers.{layer.index}.{one.name}": one.tensor
            for layer in network.layers
            if isinstance(layer, Convolutional)
            for one in layer.stored()
            if isinstance(one.tensor, nn.Parameter)
        }

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """To be called after each update of the weights."""
        if not self.alpha or iteration < self.start:
            return
        tensors = self._tensors(self.network)
        if not self.values:
            self.values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        elif iteration == self.end:
            self.apply(self.network)
        elif iteration < self.end:
            for name, tensor in tensors.items():
                self.values[name].lerp_(tensor, 1 - self.alpha)

    @torch.no_grad()
    def apply(self, network: Network) -> None:
        for name, tensor in self._tensors(network).items():
            tensor.copy_(self.values[name])

    def averaged(self) -> Network:
        """A copy of the network for evaluation, with the average's weights where there is one."""
        result = copy.deepcopy(self.network)
        result.reset_state()
        if self.values:
            self.apply(result)
        return result
