"""[connected]: each output is a weighted sum of all inputs (Darknet: connected_layer.c)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.activation import CONVOLUTIONS_ONLY, activation_option
from darknet_py.layers.batchnorm import BATCH_NORM_NAMES, Normalised, uniform_
from darknet_py.layers.layer import LayerOptions, Place, Shape, Stored
from darknet_py.options import option


class Connected(Normalised, kinds=("connected", "conn")):
    zeroed = CONVOLUTIONS_ONLY
    momentum = 0.05
    stored_names = ("biases", "weights", *BATCH_NORM_NAMES)

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        output: int = option(1, "values of the output", minimum=1)
        activation: str = activation_option("logistic")
        batch_normalize: int = option(0, "1: normalise with the rolling mean and variance before the bias")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.input = Shape.image(place.input.count, 1, 1)
        self.check_count(place, "output", "the weights", options.output * place.input.count)
        self.make_normalisation(options.output, bool(options.batch_normalize))
        self.weights = self.empty(options.output, place.input.count)
        self.shape = Shape.image(options.output, 1, 1)

    def stored(self) -> Iterator[Stored]:
        for stored in super().stored():
            yield stored._replace(transposed="by header") if stored.name == "weights" else stored

    def initialise(self, generator: torch.Generator) -> None:
        self.initialise_normalisation()
        uniform_(self.weights, math.sqrt(2.0 / self.input.count), generator)

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) → (n, output, 1, 1)"""
        x = x.flatten(1)
        x = F.linear(x, self.weights, self.biases) if self.scales is None else self.normalise(F.linear(x, self.weights))
        return self.arithmetic.activate(x, self.options.activation, own=True).view(-1, self.options.output, 1, 1)

    def describe(self) -> dict[str, object]:
        return {
            "outputs": self.options.output,
            "batch_normalize": self.options.batch_normalize,
            "activation": self.options.activation,
        }

    def filters_text(self) -> str:
        return str(self.options.output)
