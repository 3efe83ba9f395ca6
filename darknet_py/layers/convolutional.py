"""[convolutional], the layer that most networks consist of (Darknet: convolutional_layer.c)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.activation import activation_option
from darknet_py.layers.batchnorm import BATCH_NORM_NAMES, Normalised, uniform_
from darknet_py.layers.layer import LayerOptions, Place, Shape, Stored, positive
from darknet_py.options import option

FEW_CHANNELS = 8
"""Of fewer channels, PyTorch's gradient of a 1x1 convolution with a stride overwrites memory that is not its own (2.13,
CPU, channels-last): the pixels that it reads are taken first. The numbers are the same."""


class Convolutional(Normalised, kinds=("convolutional", "conv")):
    stored_names = ("biases", *BATCH_NORM_NAMES, "weights")
    folds = ("batch_normalize", "cbn")

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        filters: int = option(1, "channels of the output", minimum=1)
        size: int = option(1, "width and height of the kernel, pixels", minimum=1)
        stride: int = option(1, "step in both directions, pixels", minimum=1)
        stride_x: int | None = option(None, "horizontal step; default: stride", minimum=1)
        stride_y: int | None = option(None, "vertical step; default: stride", minimum=1)
        pad: int = option(0, "1: pad by size/2 pixels (integer division) on each side, and ignore `padding`")
        padding: int = option(0, "pixels of zeros on each side, where pad=0", minimum=0)
        groups: int = option(1, "number of groups of channels; each is convolved separately", minimum=0)
        dilation: int = option(1, "distance between the kernel's taps, pixels; 1 where size=1", minimum=1)
        activation: str = activation_option("logistic")
        batch_normalize: int = option(0, "1: normalise with the rolling mean and variance before the bias")
        cbn: int = option(
            0,
            "1: as batch_normalize=1 (statistics over several mini-batches, Darknet's on a GPU, are not implemented)",
        )
        binary: int = option(
            0,
            "1: each weight is replaced by its sign times the mean absolute weight of its filter"
            " (Darknet: on a GPU only)",
        )
        xnor: int = option(0, "1: as binary=1, and each input is replaced by its sign; groups counts as 1")
        bin_output: int = option(0, "with xnor=1: no activation, unless a later layer names this layer as a source")
        flipped: int = option(0, "1: the .weights file holds this layer's weights transposed", use="load")
        share_index: int | None = option(
            None,
            "uses the weights of this layer (relative if negative); the file then holds none for the layer itself",
        )
        antialiasing: int = option(
            0, "1, 2: convolves with stride 1, then blurs with the stride (1: 3x3 binomial, 2: 2x2 mean)"
        )
        assisted_excitation: float = option(
            0.0, "amplifies the maps inside the truth boxes, less and less over the iterations", use="untrained"
        )
        sway: int = option(0, "1: weights are rotated by +-angle in training (GPU)", use="untrained")
        rotate: int = option(0, "1: weights are rotated by 90 degrees in training (GPU)", use="untrained")
        stretch: int = option(0, "1: weights are stretched in training (GPU)", use="untrained")
        stretch_sway: int = option(0, "1: weights are stretched and rotated in training (GPU)", use="untrained")
        angle: float = option(15.0, "of sway and stretch_sway, degrees", use="none")
        grad_centr: int = option(
            0, "1: with batch norm, each filter's updates are centred to a mean of 0", use="training"
        )
        reverse: float = option(0.0, "1: the gradient is reversed", use="untrained")
        dot: float = option(0.0, "penalty on similar filters (disabled in Darknet)", use="untrained")
        coordconv: int = option(0, "read by Darknet, used nowhere", use="none")
        stream: int = option(-1, "CUDA stream number", use="none")
        wait_stream: int = option(-1, "CUDA stream to wait for", use="none")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.xnor = bool(options.xnor)
        self.binary = bool(options.binary or options.xnor)
        self.groups = 1 if self.xnor else max(options.groups, 1)
        self.dilation = options.dilation if options.size > 1 else 1
        self.padding = options.size // 2 if options.pad else options.padding
        blur_stride = (options.stride_y or options.stride, options.stride_x or options.stride)
        self.stride = (1, 1) if options.antialiasing else blur_stride
        if shape.c % self.groups or options.filters % self.groups:
            place.fail("groups", f"{shape.c} input channels and {options.filters} filters must both be divisible by it")
        height, width = (
            (length + 2 * self.padding - options.size) // stride + 1
            for length, stride in zip((shape.h, shape.w), self.stride, strict=True)
        )
        positive(place, "size", (height, width), f"a kernel of size {options.size}")
        if self.dilation > 1 and self._true_size(shape) != (height, width):
            place.fail("dilation", "Darknet ignores it in the output's size; use an odd size with pad=1")
        self.host_shape = Shape.image(options.filters, height, width)  # before the blur
        self.check_count(place, "filters", "the output", self.host_shape.count)
        count = options.filters * (shape.c // self.groups) * options.size**2
        self.check_count(place, "filters", "the weights", count)
        self.shared = options.share_index is not None
        self.normalises = bool(options.batch_normalize or options.cbn)
        if self.shared:
            self._share(place, count)
        else:
            self.make_normalisation(options.filters, bool(options.batch_normalize or options.cbn))
            self.weights = self.empty(options.filters, shape.c // self.groups, options.size, options.size)
        self.blur: Blur | None = (
            Blur(place, self.host_shape, options.antialiasing, blur_stride) if options.antialiasing else None
        )
        self.shape = self.blur.shape if self.blur else self.host_shape
        self._check_rotations(place)

    def _check_rotations(self, place: Place) -> None:
        rotations = (self.options.sway, self.options.rotate, self.options.stretch, self.options.stretch_sway)
        if sum(map(bool, rotations)) > 1:
            place.fail("sway", "only one of sway, rotate, stretch and stretch_sway can be used")

    def _true_size(self, shape: Shape) -> tuple[int, int]:
        """(height, width) of the output, with the dilation taken into account."""
        reach = self.dilation * (self.options.size - 1) + 1
        pad = 2 * self.padding * self.dilation
        height, width = ((n + pad - reach) // s + 1 for n, s in zip((shape.h, shape.w), self.stride, strict=True))
        return height, width

    def _share(self, place: Place, count: int) -> None:
        other = place.earlier[place.layer("share_index", self.options.share_index)]
        if not isinstance(other, Convolutional) or (
            (other.owner.weights.numel(), other.input.c, other.options.filters, other.options.size)
            != (count, place.input.c, self.options.filters, self.options.size)
        ):
            place.fail("share_index", f"layer {other.index} is not a convolution of this size, channels and filters")
        self.shared_with = (other.owner,)  # in a tuple it is no submodule of this layer
        if self.normalises and other.owner.scales is None:
            place.stop("batch_normalize", f"layer {other.owner.index}, whose weights these are, has no batch norm")

    @property
    def owner(self) -> Convolutional:
        """The layer whose weights are used: this layer, or the layer that `share_index` names."""
        return self.shared_with[0] if self.shared else self

    def stored(self) -> Iterator[Stored]:
        if self.shared:
            return
        for stored in super().stored():
            flipped = stored.name == "weights" and self.options.flipped
            yield stored._replace(transposed="always") if flipped else stored

    def folded(self) -> Iterator[tuple[str, Tensor]]:
        if not self.shared:
            yield from super().folded()

    def initialise(self, generator: torch.Generator) -> None:
        if not self.shared:
            self.initialise_normalisation()
            fan_in = self.weights[0].numel()
            uniform_(self.weights, math.sqrt(2.0 / fan_in), generator)

    def forward(self, x: Tensor) -> Tensor:
        owner = self.owner
        weights = self._binarised() if self.binary else owner.weights
        padding = self.padding * self.dilation
        if self.xnor:
            x = torch.where(x > 0, 1.0, -1.0).to(x.dtype)
            if self.stride[0] == self.stride[1]:  # the bit-packed convolution has no 0, so it pads with -1
                x = F.pad(x, (padding,) * 4, value=-1.0)
                padding = 0
        stride = self.stride
        if weights.shape[2:] == (1, 1) and not padding and torch.is_grad_enabled() and weights.shape[1] < FEW_CHANNELS:
            x, stride = x[..., :: stride[0], :: stride[1]], (1, 1)
        if owner.scales is None or not self.normalises:
            x = F.conv2d(x, weights, owner.biases, stride, padding, self.dilation, self.groups)
        else:
            x = owner.normalise(F.conv2d(x, weights, None, stride, padding, self.dilation, self.groups))
        if not (self.options.bin_output and self.xnor) or self.read_by_name:
            x = self.arithmetic.activate(x, self.options.activation, own=True)
        return self.blur(x) if self.blur is not None else x

    def _binarised(self) -> Tensor:
        """The weights by their signs, times the mean absolute weight of their filter."""
        weights = self.owner.weights
        size = weights.abs().mean((1, 2, 3), keepdim=True)
        return torch.where(weights > 0, size, -size)

    @property
    def bflops(self) -> float:
        count = 2.0 * self.owner.weights.numel() * self.host_shape.h * self.host_shape.w / 1e9
        return count / 32 if self.xnor else count

    def describe(self) -> dict[str, object]:
        return {
            "filters": self.options.filters,
            "size": self.options.size,
            "stride": self.stride[1],
            "stride_x": self.stride[1],
            "stride_y": self.stride[0],
            "pad": self.padding,
            "groups": self.groups,
            "dilation": self.dilation,
            "activation": self.options.activation,
            "batch_normalize": 2 if self.options.cbn else self.options.batch_normalize,
            "binary": self.options.binary,
            "xnor": self.options.xnor,
            "antialiasing": self.options.antialiasing,
            "flipped": self.options.flipped,
            "nweights": self.owner.weights.numel(),
        }

    def filters_text(self) -> str:
        return f"{self.options.filters}" + (f"/{self.groups}" if self.groups > 1 else "")

    def size_text(self) -> str:
        vertical, horizontal = self.stride
        step = str(horizontal) if vertical == horizontal else f"{horizontal}x{vertical}"
        return f"{self.options.size} x {self.options.size}/ {step}" + (
            f"({self.dilation})" if self.dilation > 1 else ""
        )


class Blur(torch.nn.Module):
    """The low-pass filter of `antialiasing`, on each channel: 1: [1 2 1] x [1 2 1] / 16, one pixel of padding; 2: the
    mean of 2x2 pixels."""

    kernel: Tensor

    def __init__(self, place: Place, shape: Shape, antialiasing: int, stride: tuple[int, int]) -> None:
        super().__init__()
        line = torch.tensor([1.0, 1.0] if antialiasing == 2 else [1.0, 2.0, 1.0])
        kernel = torch.outer(line, line)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)
        self.padding = 0 if antialiasing == 2 else 1
        self.stride = stride
        height, width = (
            (n + 2 * self.padding - len(line)) // s + 1 for n, s in zip((shape.h, shape.w), stride, strict=True)
        )
        positive(place, "antialiasing", (height, width), f"a blur of size {len(line)}")
        self.shape = Shape.image(shape.c, height, width)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, -1, -1, -1), None, self.stride, self.padding, 1, channels)
