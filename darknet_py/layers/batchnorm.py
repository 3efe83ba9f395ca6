"""[batchnorm], and the batch normalisation inside convolutional and connected layers (Darknet: batchnorm_layer.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from darknet_py.layers.layer import Layer, LayerOptions, Place, Stored

BATCH_NORM_NAMES = ("scales", "rolling_mean", "rolling_variance")


class Normalised(Layer):
    """A layer with `biases` and, if it normalises, `scales`, `rolling_mean` and `rolling_variance`, all (channels,)."""

    biases: nn.Parameter
    scales: nn.Parameter | None
    rolling_mean: Tensor
    rolling_variance: Tensor
    weights: nn.Parameter
    momentum: float = 0.1  # fraction by which a training mini-batch renews the rolling statistics
    filters_dim: ClassVar[int] = 0  # the dimension of the weights that belongs to the normalised channels
    folds: ClassVar[tuple[str, ...]] = ("batch_normalize",)

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.eps = place.net.bn_eps
        self.first_variance = 0.0 if place.net.optimizer == "darknet" else 1.0  # PyTorch's
        if place.net.bn_momentum is not None:
            self.momentum = place.net.bn_momentum

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
                self.rolling_variance.fill_(self.first_variance)

    def normalise(self, x: Tensor) -> Tensor:
        """x (n, channels, …), normalised, scaled and shifted; only shifted if the layer does not normalise."""
        if self.scales is None:
            return x + self.biases.view(1, -1, *[1] * (x.ndim - 2))
        return self.arithmetic.normalise(self, x)

    def folded(self) -> Iterator[tuple[str, Tensor]]:
        """`weights` and `biases` with the normalisation folded in, in double (network.c:fuse_conv_batchnorm)."""
        if self.scales is None or "weights" not in self.stored_names:
            yield from super().folded()
            return
        factor = self.scales.double() / (self.rolling_variance.double() + self.eps).sqrt()
        yield "biases", (self.biases.double() - self.rolling_mean.double() * factor).to(self.biases.dtype)
        shape = [1] * self.weights.ndim
        shape[self.filters_dim] = -1
        yield "weights", self.weights * factor.to(self.weights.dtype).view(shape)

    def loaded(self) -> Iterator[Stored]:
        for stored in super().loaded():
            if not (self.options.dontloadscales and stored.name in BATCH_NORM_NAMES):
                yield stored


class BatchNorm(Normalised, kinds=("batchnorm",)):
    """It has no options of its own; its tensors are those of a convolution without weights, in the same order."""

    stored_names = ("biases", *BATCH_NORM_NAMES)
    folds = ()

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()
        self.make_normalisation(self.shape.c, True)

    def initialise(self, generator: torch.Generator) -> None:
        self.initialise_normalisation()

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x)


def uniform_(tensor: Tensor, scale: float, generator: torch.Generator) -> None:
    """Darknet's initial weights: scale x uniform(-1, 1)."""
    nn.init.uniform_(tensor, -scale, scale, generator)
