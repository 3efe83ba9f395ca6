"""[reorg] and [reorg3d]: blocks of pixels become channels, or the reverse.

Darknet: reorg_old_layer.c, reorg_layer.c, blas.c:reorg_cpu.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape, positive
from darknet_py.options import option


class Reorg3d(Layer, kinds=("reorg3d",)):
    """The pixels of a block become channels; the position in the block is their outermost index."""

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        stride: int = option(1, "width and height of a block, pixels", minimum=1, maximum=65536)
        reverse: int = option(0, "1: the reverse, channels become blocks of pixels")
        flatten: int = option(0, "1: channels become the innermost dimension (reverse=1: the outermost) (pjreddie)")
        extra: int = option(0, "number of zeros appended to the values, which keep their order (pjreddie)", minimum=0)

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape, block = place.image(), options.stride**2
        if options.extra and not options.flatten:
            self.shape = Shape.flat(shape.count + options.extra)
            return
        if options.reverse:
            self.shape = Shape.image(shape.c // block, shape.h * options.stride, shape.w * options.stride)
        else:
            self.shape = Shape.image(shape.c * block, shape.h // options.stride, shape.w // options.stride)
        positive(place, "stride", (self.shape.h, self.shape.w), f"a block of {options.stride} pixels")
        self.loop = self.loop_shape()
        if (self.loop.c % block and not options.flatten) or self.shape.count != shape.count:
            place.fail(
                "stride", f"the input {shape} does not divide into blocks of {options.stride} x {options.stride}"
            )

    def loop_shape(self) -> Shape:
        """The shape that Darknet's kernel is called with, as that of the side with more channels: here the output's."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        if self.options.flatten:
            return self._flattened(x)
        if self.options.extra:
            return F.pad(x.flatten(1), (0, self.options.extra))
        stride, (channels, height, width) = self.options.stride, self.loop[:3]
        inner = channels // stride**2
        if self.options.reverse:
            x = x.reshape(-1, stride, stride, inner, height, width).permute(0, 3, 4, 1, 5, 2)
        else:
            x = x.reshape(-1, inner, height, stride, width, stride).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(-1, *self.shape[:3])

    def _flattened(self, x: Tensor) -> Tensor:
        inner, outer = (self.input.c, -1) if self.options.reverse else (-1, self.input.c)
        return x.reshape(x.shape[0], outer, inner).transpose(1, 2).reshape(-1, *self.shape[:3])

    def describe(self) -> dict[str, object]:
        return {"stride": self.options.stride, "reverse": self.options.reverse}

    def size_text(self) -> str:
        return f"/{self.options.stride}"


class Reorg(Reorg3d, kinds=("reorg",)):
    """That of YOLOv2: Darknet calls the same kernel with the input's shape, which gives a different permutation."""

    def loop_shape(self) -> Shape:
        return self.input
