"""[local]: a convolution with separate weights for each output pixel (Darknet: local_layer.c)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.activation import CONVOLUTIONS_ONLY, activation_option
from darknet_py.layers.batchnorm import uniform_
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape, positive
from darknet_py.options import option


class Local(Layer, kinds=("local",)):
    zeroed = CONVOLUTIONS_ONLY
    stored_names = ("biases", "weights")

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        filters: int = option(1, "channels of the output", minimum=1)
        size: int = option(1, "width and height of the kernel, pixels", minimum=1)
        stride: int = option(1, "step in both directions, pixels", minimum=1)
        pad: int = option(0, "1: one pixel of zeros on each side")
        activation: str = activation_option("logistic")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        if options.pad and options.size != 3:
            place.fail(
                "pad",
                f"Darknet computes the output's size as for size=3, but size={options.size}; write pad=0 or size=3",
            )
        self.padding = 1 if options.pad else 0
        height, width = ((n + 2 * self.padding - options.size) // options.stride + 1 for n in (shape.h, shape.w))
        positive(place, "size", (height, width), f"a kernel of size {options.size}")
        self.shape = Shape.image(options.filters, height, width)
        self.check_count(place, "filters", "the weights", self.shape.count * shape.c * options.size**2)
        self.biases = self.empty(self.shape.count)
        self.weights = self.empty(height * width, options.filters, shape.c * options.size**2)

    def initialise(self, generator: torch.Generator) -> None:
        """As in Darknet, only the first pixel's weights are random, the others start at 0."""
        torch.nn.init.zeros_(self.biases)
        torch.nn.init.zeros_(self.weights)
        uniform_(self.weights[:1], math.sqrt(2.0 / self.weights.shape[2]), generator)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.unfold(x, self.options.size, 1, self.padding, self.options.stride)  # (n, c*size*size, pixels)
        x = torch.einsum("pok,nkp->nop", self.weights, windows).flatten(1) + self.biases
        return self.arithmetic.activate(x.view(-1, *self.shape[:3]), self.options.activation, own=True)

    def describe(self) -> dict[str, object]:
        names = ("filters", "size", "stride", "pad", "activation")
        return {name: getattr(self.options, name) for name in names}

    def filters_text(self) -> str:
        return str(self.options.filters)

    def size_text(self) -> str:
        return f"{self.options.size} x {self.options.size}/ {self.options.stride}"
