"""[shortcut]: adds outputs of earlier layers (Darknet: shortcut_layer.c, blas.c:shortcut_multilayer_cpu).

pjreddie's program also adds maps of different sizes, and has the factors `alpha` and `beta`; AlexeyAB's has neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.activation import CONVOLUTIONS_ONLY, activation_option
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option

MIN_WEIGHT = 0.001  # of weights_normalization=relu: Darknet's GPU code, and its CPU code once batch norm is folded
WEIGHTS_EPSILON = 0.0001  # added to the sum by which weights are normalised


class Shortcut(Layer, kinds=("shortcut",)):
    zeroed = CONVOLUTIONS_ONLY - {"mish", "swish"}

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        from_: tuple[int, ...] = option((), "the layers to add; negative: counted back from here")
        activation: str = activation_option("linear")
        weights_type: str = option(
            "none",
            "trained weights: one for each source (per_feature, per_layer), or for each of its channels (per_channel)",
            choices=("none", "per_feature", "per_layer", "per_channel"),
        )
        weights_normalization: str = option(
            "none",
            "how these weights are normalised to a sum of 1",
            choices=("none", "relu", "avg_relu", "softmax"),
        )
        alpha: float = option(1.0, "multiplies the input (pjreddie)")
        beta: float = option(1.0, "multiplies the added layer (pjreddie)")

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        if not options.from_:
            place.fail(None, "names no layer; write e.g. from=-3")
        return (place.index - 1, *(place.layer("from", reference) for reference in options.from_))

    def references(self) -> tuple[int, ...]:
        return self.source_indices[1:]

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()
        place.earlier[self.index - 1].read_by_name = True
        self.plain = options.alpha == 1 and options.beta == 1
        for index in self.references():
            self._check(place, index)
        if options.weights_type != "none" and options.weights_normalization == "none":
            place.stop("weights_type", "weights need a normalization; write weights_normalization=relu or softmax")
        blocks = len(self.source_indices)
        count = {"none": 0, "per_channel": blocks * self.shape.c}.get(options.weights_type, blocks)
        self.weights = self.empty(count) if count else None

    def _check(self, place: Place, index: int) -> None:
        """Refuses a source whose width and height do not fit those of the layer before."""
        shape, other = self.shape, place.earlier[index].shape
        if shape[1:3] == other[1:3]:
            return
        self.plain = False
        sizes = f"layer {index} gives {other}, the layer before gives {shape}"
        if not other.c or _factors(shape.w, other.w) != _factors(shape.h, other.h):
            place.differ("from", f"{sizes}; width and height must be equal, or differ by the same factor")
        if len(self.source_indices) > 2 or self.options.weights_type != "none":
            place.differ("from", f"{sizes}; several or weighted sources must have the same width and height")
        if any(max(pair) % min(pair) for pair in ((shape.w, other.w), (shape.h, other.h))):
            place.warn("from", f"{sizes}; pjreddie's program adds the pixels from the upper left on; AlexeyAB's stops")

    stored_names = ("weights",)

    def initialise(self, generator: torch.Generator) -> None:
        if self.weights is not None:
            torch.nn.init.ones_(self.weights)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if self.weights is not None:
            return self.arithmetic.activate(self._weighted(x, others), self.options.activation, own=True)
        for other in others:
            x = x + _channels(other, self.shape.c) if self.plain else self._scattered(x, other)
        return self.arithmetic.activate(x, self.options.activation, own=True)

    def _weighted(self, x: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        assert self.weights is not None
        stored = weights = self.weights.view(len(self.source_indices), -1)
        if self.options.weights_normalization in ("relu", "avg_relu"):
            weights = weights.clamp(min=MIN_WEIGHT)
            weights = weights / (weights.sum(0, keepdim=True) + WEIGHTS_EPSILON)
        elif self.options.weights_normalization == "softmax":
            weights = (weights - weights.amax(0, keepdim=True)).exp()
            weights = weights / (weights.sum(0, keepdim=True) + WEIGHTS_EPSILON)
        weights = self.arithmetic.as_if(weights, stored)  # Darknet's gradient ignores the normalisation
        scale = weights.unsqueeze(-1).unsqueeze(-1)  # (sources, 1 or channels, 1, 1)
        total = x * scale[0]
        for k, other in enumerate(others, 1):
            total = total + _channels(other, self.shape.c) * scale[k]
        return total

    def _scattered(self, x: Tensor, other: Tensor) -> Tensor:
        """pjreddie blas.c:shortcut_cpu: of a larger map, each (w1/w2)-th pixel is added; a smaller map is added to each
        (w2/w1)-th pixel."""
        stride = max(other.shape[-1] // x.shape[-1], 1)
        sample = max(x.shape[-1] // other.shape[-1], 1)
        other = other[..., ::stride, ::stride]
        channels, height, width = map(min, x.shape[1:], other.shape[1:])
        result = x.clone()
        target = result[:, :channels, : height * sample : sample, : width * sample : sample]
        target.mul_(self.options.alpha).add_(other[:, :channels, :height, :width], alpha=self.options.beta)
        return result

    @property
    def bflops(self) -> float:
        return self.shape.count * len(self.references()) / 1e9 * (2 if self.weights is not None else 1)

    def describe(self) -> dict[str, object]:
        return {
            "inputs": list(self.references()),
            "activation": self.options.activation,
            "weights_type": self.options.weights_type,
            "weights_normalization": self.options.weights_normalization,
            "nweights": 0 if self.weights is None else self.weights.numel(),
        }


def _factors(length: int, other: int) -> tuple[int, int]:
    """How often each fits into the other: by these, pjreddie's program chooses the pixels."""
    return length // other, other // length


def _channels(other: Tensor, channels: int) -> Tensor:
    """The first `channels` channels, padded with zeros if there are fewer."""
    missing = channels - int(other.shape[1])
    if missing == 0:
        return other
    return other[:, :channels] if missing < 0 else F.pad(other, (0, 0, 0, 0, 0, missing))
