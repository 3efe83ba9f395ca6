"""[implicit]: learned values, equal for all images, which a later layer adds or multiplies.

Darknet: representation_layer.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Implicit(Layer, kinds=("implicit",)):
    stored_names = ("weights",)

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        mean: float = option(
            0.0, "mean of the initial values (0 where they are added, 1 where they multiply)", use="load"
        )
        std: float = option(0.2, "initial values are uniform in mean +- std", use="load")
        filters: int = option(128, "channels of the output", minimum=1)
        atoms: int = option(1, "rows of the output", minimum=1)

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = Shape.image(options.filters, options.atoms, 1)
        self.check_count(place, "filters", "the output", self.shape.count)
        self.weights = self.empty(self.shape.count)

    def initialise(self, generator: torch.Generator) -> None:
        mean, std = self.options.mean, abs(self.options.std)
        torch.nn.init.uniform_(self.weights, mean - std, mean + std, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.view(1, *self.shape[:3]).expand(x.shape[0], -1, -1, -1)

    def filters_text(self) -> str:
        return str(self.options.filters)
