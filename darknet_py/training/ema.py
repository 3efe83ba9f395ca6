"""Moving averages of the weights: Darknet's (network.c:ema_update, ema_apply), and one of all tensors whose decay
rises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darknet_py.layers import Layer
from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network

APPLIED_BEFORE_END = 1000  # updates before the end at which the average replaces the weights


class Ema:
    """Darknet's exponential moving average of the convolutions' weights, biases and scales.

    It starts in the middle of training; APPLIED_BEFORE_END updates before the end it replaces the weights
    (network.c:train_network_waitkey).

    Attributes:
        values: "layers.K.NAME" → the average; {} before it starts.
        is_result: the average is what training is for; the final weights are it.
    """

    is_result = False

    def __init__(self, network: Network) -> None:
        self.network, self.alpha = network, network.net.ema_alpha
        max_batches = network.net.max_batches
        self.start, self.end = max_batches // 2, max_batches - APPLIED_BEFORE_END
        self.values: dict[str, Tensor] = {}

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"layers.{layer.index}.{stored.name}": stored.tensor
            for layer in self.network.layers
            for stored in layer.stored()
            if self.includes(layer, stored.tensor)
        }

    def includes(self, layer: Layer, tensor: Tensor) -> bool:
        """Whether a tensor of a layer is averaged."""
        return isinstance(layer, Convolutional) and isinstance(tensor, nn.Parameter)

    @torch.no_grad()
    def update(self, iteration: int, updates: int) -> None:
        """To be called after each update of the weights.

        iteration: its number, counted from 1. updates: how many there were in this run.
        """
        if not self.alpha or iteration < self.start:
            return
        tensors = self._tensors()
        if not self.values:
            self.values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        elif iteration == self.end:
            for name, tensor in tensors.items():
                tensor.copy_(self.values[name])
        elif iteration < self.end:
            for name, tensor in tensors.items():
                self.values[name].lerp_(tensor, 1 - self.alpha)

    @contextmanager
    def applied(self) -> Iterator[Network]:
        """The network with the averages as its weights, where there are any; they are swapped back at the end."""
        self._swap()
        try:
            yield self.network
        finally:
            self._swap()

    def _swap(self) -> None:
        tensors = self._tensors() if self.values else {}
        for name, tensor in tensors.items():
            tensor.data, self.values[name] = self.values[name], tensor.data


class RisingEma(Ema):
    """An average of all parameters and rolling statistics from the first update on (YOLOv5 to v8, YOLOX).

    Its decay rises with the updates u: ema_alpha * (1 - exp(-u/ema_ramp)).
    """

    is_result = True

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.values = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def includes(self, layer: Layer, tensor: Tensor) -> bool:
        return True

    @torch.no_grad()
    def update(self, iteration: int, updates: int) -> None:
        decay = self.alpha * (1 - math.exp(-updates / self.network.net.ema_ramp))
        tensors = self._tensors()
        averages = [self.values[name] for name in tensors]
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, list(tensors.values()), alpha=1 - decay)


def moving_average(network: Network) -> Ema:
    """The moving average that [net] asks for."""
    return RisingEma(network) if network.net.ema_ramp else Ema(network)
