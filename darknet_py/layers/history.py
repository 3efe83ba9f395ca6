"""[history]: concatenates the last inputs, the newest first (Darknet: conv_lstm_layer.c, history part)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class History(Layer, kinds=("history",)):
    """In inference, with single time steps, Darknet keeps no history: the channels of older inputs are 0."""

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        history_size: int = option(4, "number of inputs that are concatenated", minimum=1)

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.shape = Shape.image(shape.c * options.history_size, shape.h, shape.w)
        self.check_count(place, "history_size", "the output", self.shape.count)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.shape.c - x.shape[1]))
