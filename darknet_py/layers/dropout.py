"""[dropout]: in inference its input unchanged (Darknet: dropout_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option


class Dropout(Layer, kinds=("dropout",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        probability: float = option(0.2, "of a value to be zeroed, 0..1", use="training")
        dropblock: int = option(0, "1: blocks of neighbouring pixels are zeroed together (GPU)", use="training")
        dropblock_size_rel: float = option(0.0, "side of a block relative to the map's, 0..1", use="training")
        dropblock_size_abs: float = option(0.0, "side of a block, pixels of the map", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input

    def forward(self, x: Tensor) -> Tensor:
        return x

    def describe(self) -> dict[str, Any]:
        names = ("probability", "dropblock", "dropblock_size_rel", "dropblock_size_abs")
        return {name: getattr(self.options, name) for name in names}
