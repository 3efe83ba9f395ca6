"""[dropout]: zeroes random values, or blocks of them, in training only (Darknet: dropout_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option


class Dropout(Layer, kinds=("dropout",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        probability: float = option(0.2, "probability that a value is zeroed, 0..1", use="training")
        dropblock: int = option(
            0, "1: blocks of neighbouring pixels are zeroed together; they grow during training", use="training"
        )
        dropblock_size_rel: float = option(0.0, "side of a block as a fraction of the map's, 0..1", use="training")
        dropblock_size_abs: float = option(0.0, "side of a block, pixels of the map", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input
        if options.dropblock:
            place.image()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.options.dropblock:
            return self.arithmetic.drop_blocks(self, x)
        kept = torch.rand(x.shape, device=x.device) >= self.options.probability
        return x * kept / (1 - self.options.probability) if self.options.probability != 1 else x * 0

    def describe(self) -> dict[str, object]:
        names = ("probability", "dropblock", "dropblock_size_rel", "dropblock_size_abs")
        return {name: getattr(self.options, name) for name in names}
