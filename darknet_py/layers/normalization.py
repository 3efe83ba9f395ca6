"""[normalization]: local response normalisation (Darknet: normalization_layer.c).

Each value is divided by a power of the sum of squares of the neighbouring channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option


class Normalization(Layer, kinds=("normalization", "lrn")):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        alpha: float = option(0.0001, "weight of the sum of squares (not divided by size)")
        beta: float = option(0.75, "exponent of the sum")
        kappa: float = option(1.0, "added to the weighted sum")
        size: int = option(5, "channels in the sum: (size-1)/2 before, size/2 after", minimum=1)

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()

    def forward(self, x: Tensor) -> Tensor:
        """Darknet's running sum starts with the channels 0..size/2-1 and then moves on by a channel at a time: channel
        size/2 never enters it, yet leaves it later. So each sum is the window's, minus the square of that channel."""
        size = self.options.size
        squares = x * x
        window = F.pad(squares.unsqueeze(1), (0, 0, 0, 0, (size - 1) // 2, size // 2))
        sums = F.avg_pool3d(window, (size, 1, 1), 1).squeeze(1) * size
        if size // 2 < x.shape[1]:
            sums = sums - squares[:, size // 2].unsqueeze(1)
        sums = self.arithmetic.constant(sums)
        return x * (self.options.kappa + self.options.alpha * sums) ** -self.options.beta
