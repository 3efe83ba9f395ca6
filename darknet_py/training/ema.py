"""Moving averages of the weights, in a table: Darknet's by `ema_alpha` (Darknet: network.c:ema_update, ema_apply)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network

APPLIED_BEFORE_END = 1000  # updates before the end at which the average replaces the weights


class Ema:
    """Darknet's exponential moving average of the convolutions' weights, biases and scales.

    It starts in the middle of training; APPLIED_BEFORE_END updates before the end it replaces the weights
    (network.c:train_network_waitkey).

    Attributes:
        values: "layers.K.NAME" → the average; {} before it starts.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.alpha = network, network.net.ema_alpha
        max_batches = network.net.max_batches
        self.start, self.end = max_batches // 2, max_batches - APPLIED_BEFORE_END
        self.values: dict[str, Tensor] = {}

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"layers.{layer.index}.{stored.name}": stored.tensor
            for layer in self.network.layers
            if isinstance(layer, Convolutional)
            for stored in layer.stored()
            if isinstance(stored.tensor, nn.Parameter)
        }

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """To be called after each update of the weights; iteration: its number, counted from 1."""
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


AVERAGES: dict[str, Callable[[Network], Ema]] = {"darknet": Ema}
"""Kinds of moving averages."""
