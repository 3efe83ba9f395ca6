"""[upsample]: each pixel becomes a block of stride x stride pixels; with a negative stride, a block becomes its sum.

Darknet: upsample_layer.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape, positive
from darknet_py.options import option


class Upsample(Layer, kinds=("upsample",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        stride: int = option(2, "the factor; negative: downsample", minimum=-65536, maximum=65536)
        scale: float = option(1.0, "multiplies the values")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape, self.stride, self.reverse = place.image(), abs(options.stride), options.stride < 0
        if self.stride == 0:
            place.fail("stride", "the factor cannot be 0")
        height, width = (n // self.stride if self.reverse else n * self.stride for n in (shape.h, shape.w))
        positive(place, "stride", (height, width), f"a block of {self.stride} pixels")
        if self.reverse and (height * self.stride, width * self.stride) != (shape.h, shape.w):
            blocks = f"blocks of {self.stride} x {self.stride}"
            place.warn(
                "stride",
                f"the input {shape} does not divide into {blocks}; Darknet reads its rows shifted, and so does this",
            )
        self.shape = Shape.image(shape.c, height, width)
        self.check_count(place, "stride", "the output", self.shape.count)

    def forward(self, x: Tensor) -> Tensor:
        if self.reverse:
            return F.avg_pool2d(self._as_read(x), self.stride) * (self.stride**2 * self.options.scale)
        x = F.interpolate(x, scale_factor=self.stride, mode="nearest") if self.stride > 1 else x
        return x if self.options.scale == 1 else x * self.options.scale

    def _as_read(self, x: Tensor) -> Tensor:
        """Darknet reads rows of whole blocks; where a map does not divide, they run into the next row and channel."""
        height, width = (length // self.stride * self.stride for length in x.shape[2:])
        if (height, width) == x.shape[2:]:
            return x
        return x.flatten(1)[:, : x.shape[1] * height * width].unflatten(1, (x.shape[1], height, width))

    def describe(self) -> dict[str, object]:
        return {"stride": self.stride, "reverse": int(self.reverse), "scale": self.options.scale}

    def size_text(self) -> str:
        return f"{'/' if self.reverse else ''}{self.stride}x"
