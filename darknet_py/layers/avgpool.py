"""[avgpool]: the mean of each channel (Darknet: avgpool_layer.c)."""

from __future__ import annotations

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape


class Avgpool(Layer, kinds=("avgpool", "avg")):
    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.shape = Shape.image(place.image().c, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)
