"""[batchnorm], and the batch normalisation that convolutional and connected layers carry inside (Darknet: batchnorm_layer.c)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from darknet_py.layers.arithmetic import EPSILON
from darknet_py.layers.layer import Layer, LayerOptions, Place, Stored

BATCH_NORM_NAMES = ("scales", "rolling_mean", "rolling_variance")


class Normalised(Layer):
    """A layer with `biases`, and with `scales`, `rolling_mean` and `rolling_variance` where it normalises."""

    biases: Any
    scales: Any
    rolling_mean: Any
    rolling_variance: Any
    weights: Any
    momentum: ClassVar[float] = 0.1  # fraction of the rolling statistics that each mini-batch of training renews
    filters_dim: ClassVar[int] = 0  # the dimension of the weights that the normalised channels lie along
    folds: ClassVar[tuple[str, ...]] = ("batch_normalize",)

    def make_normalisation(self, channels: int, batch_normalize: bool) -> None:
        self.biases = self.empty(channels)
        self.scales = self.empty(channels) if batch_normalize else None
        self.register_buffer("rolling_mean", torch.empty(channels) if batch_normalize else None)
        self.register_buffer("rolling_variance", torch.empty(channels) if batch_normalize else None)

    def initialise_normalisation(self) -> None:
        with torch.no_grad():
            self.biases.zero_()
            if self.scales is not None:
                self.scales.fill_(1)
                self.rolling_mean.zero_()
                self.rolling_variance.zero_()

    def normalise(self, x: Tensor) -> Tensor:
        """x (n, channels, …), normalised, scaled and shifted; without statistics shifted alone."""
        if self.scales is None:
            return x + self.biases.view(1, -1, *[1] * (x.ndim - 2))
        return self.arithmetic.normalise(self, x)

    def folded(self) -> Iterator[tuple[str, Tensor]]:
        """`weights` and `biases` into which the normalisation is multiplied, in double (network.c:fuse_conv_batchnorm)."""
        if self.scales is None or "weights" not in self.stored_names:
            yield from super().folded()
            return
        factor = self.scales.double() / (self.rolling_variance.double() + EPSILON).sqrt()
        yield "biases", (self.biases.double() - self.rolling_mean.double() * factor).to(self.biases.dtype)
        shape = [1] * self.weights.ndim
        shape[self.filters_dim] = -1
        yield "weights", self.weights * factor.to(self.weights.dtype).view(shape)

    def loaded(self) -> Iterator[Stored]:
        for one in super().loaded():
            if not (self.options.dontloadscales and one.name in BATCH_NORM_NAMES):
                yield one


class BatchNorm(Normalised, kinds=("batchnorm",)):
    """Darknet's [batchnorm] reads no option of its own, and its file order is that of a convolution without weights."""

    stored_names = ("biases", *BATCH_NORM_NAMES)
    folds = ()

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        pass

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()
        self.make_normalisation(self.shape.c, True)

    def initialise(self, generator: torch.Generator) -> None:
        self.initialise_normalisation()

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x)


def uniform_(tensor: Tensor, scale: float, generator: torch.Generator) -> None:
    """Darknet's start: scale x uniform(-1, 1)."""
    nn.init.uniform_(tensor, -scale, scale, generator)
