"""[logistic]: the logistic function, with a cross-entropy loss in training (pjreddie: logistic_layer.c)."""

from __future__ import annotations

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.layers.needs import ClassNeeds


class Logistic(Layer, kinds=("logistic",)):
    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input

    def needs(self) -> ClassNeeds:
        return ClassNeeds(self.shape.count)

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()
