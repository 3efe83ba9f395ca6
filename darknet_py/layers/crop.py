"""[crop]: in inference the middle of the picture, its values stretched from 0..1 to -1..1 (Darknet: crop_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Crop(Layer, kinds=("crop",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        crop_height: int = option(1, "height of the output, pixels", least=1)
        crop_width: int = option(1, "width of the output, pixels", least=1)
        noadjust: int = option(0, "1: the values stay in 0..1")
        flip: int = option(0, "1: half of the pictures are mirrored", use="training")
        angle: float = option(0.0, "rotation within +-angle, degrees (GPU)", use="training")
        saturation: float = option(1.0, "saturation is changed by up to this factor (GPU)", use="training")
        exposure: float = option(1.0, "exposure is changed by up to this factor (GPU)", use="training")
        shift: float = option(0.0, "colours are shifted by up to this much (GPU)", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        if options.crop_height > shape.h or options.crop_width > shape.w:
            key = "crop_height" if options.crop_height > shape.h else "crop_width"
            place.fail(key, f"the crop does not fit into the input {shape}")
        self.shape = Shape.image(shape.c, options.crop_height, options.crop_width)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.options.crop_height, self.options.crop_width
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        x = x[:, :, top : top + height, left : left + width]
        return x if self.options.noadjust else x * 2 - 1

    def describe(self) -> dict[str, Any]:
        names = ("flip", "angle", "saturation", "exposure", "noadjust", "shift")
        return {name: getattr(self.options, name) for name in names}
