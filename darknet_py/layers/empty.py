"""[empty] and [silence]: the input passes unchanged (Darknet: parser.c)."""

from __future__ import annotations

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place


class Empty(Layer, kinds=("empty", "silence")):
    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input

    def forward(self, x: Tensor) -> Tensor:
        return x
