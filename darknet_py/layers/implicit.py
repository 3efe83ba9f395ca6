"""[implicit], [implicit_add], [implicit_mul]: learned values, equal for all images, that are added or multiply.

[implicit] (Darknet: representation_layer.c) gives them to a later layer. The other two, which are this project's own,
apply them to the layer before; YOLOR and YOLOv7 have them around the convolutions that their heads read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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


class ImplicitAdd(Layer, kinds=("implicit_add",)):
    """Adds a learned value to each channel of the layer before (YOLOR: Wang, Yeh, Liao, 2021)."""

    own = True
    stored_names = ("weights",)
    mean: ClassVar[float] = 0.0  # of the initial values

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        filters: int | None = option(
            None, "number of values: 1 for all channels; default: one for each channel", minimum=1
        )
        std: float = option(0.02, "standard deviation of the initial values", minimum=0, maximum=1000, use="load")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()
        count = options.filters or self.shape.c
        if count not in (1, self.shape.c):
            place.fail(
                "filters", f"{place.before()} {self.shape.c} channels; write filters=1 or filters={self.shape.c}"
            )
        self.weights = self.empty(count)

    def initialise(self, generator: torch.Generator) -> None:
        torch.nn.init.normal_(self.weights, self.mean, self.options.std, generator)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weights.view(1, -1, 1, 1)

    def filters_text(self) -> str:
        return str(self.weights.numel())


class ImplicitMul(ImplicitAdd, kinds=("implicit_mul",)):
    """Multiplies each channel of the layer before by a learned value, or all by the same."""

    mean = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights.view(1, -1, 1, 1)
