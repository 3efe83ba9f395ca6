"""[maxpool] and [local_avgpool], which share their geometry (Darknet: maxpool_layer.c).

The padding is the sum of both sides; half of it, rounded down, goes to the left and to the top.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.convolutional import Blur
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape, positive
from darknet_py.options import MAX_FLOAT, option


def windows(room: int, stride: int) -> int:
    """The number of windows; C's division rounds towards 0, so a window may be slightly larger than the input."""
    return room // stride + 1 if room >= 0 else 1 - (-room // stride)


class Pool(Layer):
    """A window that slides over each channel: what [maxpool] and [local_avgpool] share."""

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        stride: int = option(1, "step in both directions, pixels", minimum=1)
        stride_x: int | None = option(None, "horizontal step; default: stride", minimum=1)
        stride_y: int | None = option(None, "vertical step; default: stride", minimum=1)
        size: int | None = option(None, "width and height of the window, pixels; default: stride", minimum=1)
        padding: int | None = option(None, "pixels of padding, both sides together; default: size-1", minimum=0)

    def set_geometry(self, place: Place, antialiasing: int = 0) -> Shape:
        """Sets size, stride and pad; returns the shape of the output (before a blur)."""
        options, shape = self.options, place.image()
        self.size = options.size or options.stride
        self.blur_stride = (options.stride_y or options.stride, options.stride_x or options.stride)
        self.stride = (1, 1) if antialiasing else self.blur_stride
        self.pad = self.size - 1 if options.padding is None else options.padding
        height, width = (
            windows(n + self.pad - self.size, s) for n, s in zip((shape.h, shape.w), self.stride, strict=True)
        )
        positive(place, "size", (height, width), f"a window of size {self.size}")
        return Shape.image(shape.c, height, width)

    def margins(self, x: Tensor) -> list[int]:
        """Padding of x in pixels: left, right, top, bottom; right and bottom complete the last window."""
        sides = []
        for length, stride in ((x.shape[-1], self.stride[1]), (x.shape[-2], self.stride[0])):
            count = windows(length + self.pad - self.size, stride)
            sides += [self.pad // 2, max(0, (count - 1) * stride + self.size - length - self.pad // 2)]
        return sides

    @property
    def bflops(self) -> float:
        return self.size**2 * self.input.c * self.shape.h * self.shape.w / 1e9

    def describe(self) -> dict[str, object]:
        return {
            "size": self.size,
            "stride": self.stride[1],
            "stride_x": self.stride[1],
            "stride_y": self.stride[0],
            "pad": self.pad,
            "maxpool_depth": getattr(self.options, "maxpool_depth", 0),
            "antialiasing": getattr(self.options, "antialiasing", 0),
        }

    def size_text(self) -> str:
        vertical, horizontal = self.stride
        return f"{self.size} x {self.size}/ " + (
            str(horizontal) if vertical == horizontal else f"{horizontal}x{vertical}"
        )


class Maxpool(Pool, kinds=("maxpool", "max")):
    @dataclass(frozen=True, kw_only=True)
    class Options(Pool.Options):
        maxpool_depth: int = option(
            0, "1: the maximum over channels k, k+out_channels, k+2*out_channels, … of each pixel"
        )
        out_channels: int = option(1, "with maxpool_depth: channels of the output", minimum=1)
        antialiasing: int = option(0, "1, 2: pools with stride 1, then blurs with the stride (see [convolutional])")
        maxpool_zero_nonmax: int = option(
            0, "1: in training, all values of the input but the maxima are zeroed", use="untrained"
        )

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.host_shape = self.set_geometry(place, options.antialiasing)
        if options.maxpool_depth:
            if options.out_channels > place.input.c:
                place.fail("out_channels", f"the input has {place.input.c} channels; write that or less")
            self.host_shape = Shape.image(options.out_channels, place.input.h, place.input.w)
        self.blur: Blur | None = None
        self.shape = self.host_shape
        if options.antialiasing:
            self.blur = Blur(place, self.host_shape, options.antialiasing, self.blur_stride)
            self.shape = self.blur.shape
        if options.antialiasing and options.maxpool_depth:
            text = f"with maxpool_depth=1 Darknet does not blur: the next layer reads {self.host_shape} as {self.shape}"
            place.warn("antialiasing", text)

    def forward(self, x: Tensor) -> Tensor:
        if self.options.maxpool_depth:
            x = self._over_channels(x)
            return x if self.blur is None else x.flatten(1)[:, : self.shape.count].unflatten(1, self.shape[:3])
        left, right, top, bottom = self.margins(x)
        if left == right == top == bottom and 2 * left <= self.size:
            x = F.max_pool2d(x, self.size, self.stride, left)
        else:
            if left or right or top or bottom:
                x = F.pad(x, (left, right, top, bottom), value=-MAX_FLOAT)
            x = F.max_pool2d(x, self.size, self.stride)
        return self.blur(x) if self.blur is not None else x

    def _over_channels(self, x: Tensor) -> Tensor:
        channels = self.options.out_channels
        missing = -x.shape[1] % channels
        x = F.pad(x, (0, 0, 0, 0, 0, missing), value=-MAX_FLOAT) if missing else x
        return x.unflatten(1, (-1, channels)).amax(1)


class LocalAvgpool(Pool, kinds=("local_avgpool", "local_avg")):
    """The mean over those pixels of the window that are inside the map."""

    def __init__(self, options: Pool.Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = self.set_geometry(place)

    def forward(self, x: Tensor) -> Tensor:
        margins = self.margins(x)
        inside = F.pad(torch.ones_like(x[:1, :1]), margins)
        mean = F.avg_pool2d(F.pad(x, margins), self.size, self.stride)
        # Darknet's gradient divides by the whole window's area, at the edges too
        return self.arithmetic.as_if(mean / F.avg_pool2d(inside, self.size, self.stride), mean)
