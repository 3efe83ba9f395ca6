"""[deconvolutional]: a transposed convolution (pjreddie: deconvolutional_layer.c; AlexeyAB's parser has none)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.activation import activation_option
from darknet_py.layers.batchnorm import BATCH_NORM_NAMES, Normalised
from darknet_py.layers.layer import LayerOptions, Place, Shape, positive
from darknet_py.options import option


class Deconvolutional(Normalised, kinds=("deconvolutional", "deconv")):
    stored_names = ("biases", *BATCH_NORM_NAMES, "weights")
    filters_dim = 1

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        filters: int = option(1, "channels of the output", minimum=1)
        size: int = option(1, "width and height of the kernel, pixels", minimum=1)
        stride: int = option(1, "distance of neighbouring input pixels in the output, pixels", minimum=1)
        pad: int = option(0, "1: size/2 pixels (integer division) are cut off on each side, and `padding` is ignored")
        padding: int = option(0, "pixels that are cut off on each side, where pad=0", minimum=0)
        activation: str = activation_option("logistic")
        batch_normalize: int = option(0, "1: normalise with the rolling mean and variance before the bias")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.padding = options.size // 2 if options.pad else options.padding
        height, width = ((n - 1) * options.stride + options.size - 2 * self.padding for n in (shape.h, shape.w))
        positive(place, "padding", (height, width), f"a padding of {self.padding}")
        self.shape = Shape.image(options.filters, height, width)
        self.check_count(place, "filters", "the output", self.shape.count)
        self.check_count(place, "filters", "the weights", shape.c * options.filters * options.size**2)
        self.make_normalisation(options.filters, bool(options.batch_normalize))
        self.weights = self.empty(shape.c, options.filters, options.size, options.size)

    def initialise(self, generator: torch.Generator) -> None:
        self.initialise_normalisation()
        growth = self.shape.h * self.shape.w / (self.input.h * self.input.w)
        torch.nn.init.normal_(self.weights, 0.0, 0.02 * growth, generator)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.biases if self.scales is None else None
        x = F.conv_transpose2d(x, self.weights, bias, self.options.stride, self.padding)
        x = x if self.scales is None else self.normalise(x)
        return self.arithmetic.activate(x, self.options.activation, own=True)

    def describe(self) -> dict[str, object]:
        names = ("filters", "size", "stride", "activation", "batch_normalize")
        return {name: getattr(self.options, name) for name in names} | {"pad": self.padding}

    def filters_text(self) -> str:
        return str(self.options.filters)

    def size_text(self) -> str:
        return f"{self.options.size} x {self.options.size}/ {self.options.stride}"
