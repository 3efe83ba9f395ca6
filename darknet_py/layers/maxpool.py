"""[maxpool] and [local_avgpool], which share their geometry (Darknet: maxpool_layer.c).

The padding is the sum of both sides; half of it, rounded down, goes to the left and to the top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.convolutional import Blur
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape, positive
from darknet_py.options import option


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

    def window(self, x: Tensor) -> tuple[tuple[int, int], list[int]]:
        """(height, width) of the window, and the padding of x in pixels: left, right, top, bottom; right and bottom
        complete the last window. Of windows larger than the map, what lies outside of it in each of them is cut off."""
        sizes: list[int] = []
        sides: list[int] = []
        for length, stride in ((x.shape[-1], self.stride[1]), (x.shape[-2], self.stride[0])):
            size, before = self.size, self.pad // 2
            last = (windows(length + self.pad - size, stride) - 1) * stride  # where the last window begins
            if size > length:
                outside = max(0, min(before - last, size - 1))  # of every window
                before -= outside
                size = min(size - outside, length + before)  # the first window ends at the map's end, or later ones do
            sizes.insert(0, size)
            sides += [before, max(0, last + size - length - before)]
        return (sizes[0], sizes[1]), sides

    def pooled(self, pool: Callable[..., Tensor], x: Tensor, size: tuple[int, int]) -> Tensor:
        """What max_pool2d or avg_pool2d gives; for windows larger than the map, in one direction after the other, which
        takes a fraction of the time."""
        if size[0] <= self.input.h and size[1] <= self.input.w:
            return pool(x, size, self.stride)
        return pool(pool(x, (1, size[1]), (1, self.stride[1])), (size[0], 1), (self.stride[0], 1))

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
        size, margins = self.window(x)
        if size == (self.size, self.size) and len(set(margins)) == 1 and 2 * margins[0] <= self.size:
            x = F.max_pool2d(x, self.size, self.stride, margins[0])
        else:
            x = self.pooled(F.max_pool2d, F.pad(x, margins, value=lowest(x)) if any(margins) else x, size)
        return self.blur(x) if self.blur is not None else x

    def _over_channels(self, x: Tensor) -> Tensor:
        channels = self.options.out_channels
        missing = -x.shape[1] % channels
        x = F.pad(x, (0, 0, 0, 0, 0, missing), value=lowest(x)) if missing else x
        return x.unflatten(1, (-1, channels)).amax(1)


class LocalAvgpool(Pool, kinds=("local_avgpool", "local_avg")):
    """The mean over those pixels of the window that are inside the map."""

    def __init__(self, options: Pool.Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = self.set_geometry(place)

    def forward(self, x: Tensor) -> Tensor:
        size, margins = self.window(x)
        inside = F.pad(torch.ones_like(x[:1, :1]), margins)
        mean = self.pooled(F.avg_pool2d, F.pad(x, margins), size)
        # Darknet's gradient divides by the whole window's area, at the edges too
        whole = mean if size == (self.size, self.size) else mean * (size[0] * size[1] / self.size**2)
        return self.arithmetic.as_if(mean / self.pooled(F.avg_pool2d, inside, size), whole)


def lowest(like: Tensor) -> float:
    """What is below every pixel, for padding: -FLT_MAX, or the same of another number format."""
    return -torch.finfo(like.dtype).max
