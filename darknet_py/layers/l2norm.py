"""[l2norm]: divides the channels of each pixel by their Euclidean norm (pjreddie: l2norm_layer.c)."""

from __future__ import annotations

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place


class L2norm(Layer, kinds=("l2norm",)):
    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()

    def forward(self, x: Tensor) -> Tensor:
        return x / (x * x).sum(1, keepdim=True).sqrt()
