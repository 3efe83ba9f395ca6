"""[crop]: a window of the image, random in training, else the middle; values of 0..1 become -1..1.

Darknet: crop_layer.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Crop(Layer, kinds=("crop",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        crop_height: int = option(1, "height of the output, pixels", minimum=1)
        crop_width: int = option(1, "width of the output, pixels", minimum=1)
        noadjust: int = option(0, "1: values stay in 0..1")
        flip: int = option(0, "1: mini-batches are mirrored with probability 1/2", use="training")
        angle: float = option(0.0, "rotation within +-angle, degrees (Darknet on a GPU)", use="untrained")
        saturation: float = option(1.0, "saturation changes by up to this factor (Darknet on a GPU)", use="untrained")
        exposure: float = option(1.0, "exposure changes by up to this factor (Darknet on a GPU)", use="untrained")
        shift: float = option(0.0, "colours are shifted by up to half of this (Darknet on a GPU)", use="untrained")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        if options.crop_height > shape.h or options.crop_width > shape.w:
            key = "crop_height" if options.crop_height > shape.h else "crop_width"
            place.fail(key, f"the crop is larger than the input, {shape}; write that or less")
        self.shape = Shape.image(shape.c, options.crop_height, options.crop_width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → (n, c, crop_height, crop_width); in training one window and one flip per mini-batch."""
        x = self._random_window(x) if self.training else self._middle(x)
        return x if self.options.noadjust else x * 2 - 1

    def _middle(self, x: Tensor) -> Tensor:
        height, width = self.shape.h, self.shape.w
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        return x[:, :, top : top + height, left : left + width]

    def _random_window(self, x: Tensor) -> Tensor:
        """Every position is equally likely; a mirrored window is counted from the right (forward_crop_layer)."""
        height, width = self.shape.h, self.shape.w
        rows = torch.arange(height, device=x.device) + _draw(x.shape[2] - height, x)
        columns = torch.arange(width, device=x.device) + _draw(x.shape[3] - width, x)
        if self.options.flip:
            columns = torch.where(_draw(1, x) == 1, x.shape[3] - 1 - columns, columns)
        return x.index_select(2, rows).index_select(3, columns)

    def describe(self) -> dict[str, object]:
        names = ("flip", "angle", "saturation", "exposure", "noadjust", "shift")
        return {name: getattr(self.options, name) for name in names}


def _draw(maximum: int, x: Tensor) -> Tensor:
    """A random integer of 0..maximum, a tensor () on the device of `x`."""
    return torch.randint(maximum + 1, (), device=x.device)
