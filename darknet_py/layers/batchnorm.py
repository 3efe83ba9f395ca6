"""[batchnorm], and the batch normalisation that convolutional and connected layers carry inside (Darknet: batchnorm_layer.c)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darknet_py.layers.layer import Layer, LayerOptions, Mode, Place, Stored

EPSILON = 1e-5  # inside the square root, blas.c:normalize_cpu
BATCH_NORM_NAMES = ("scales", "rolling_mean", "rolling_variance")


class Normalised(Layer):
    """A layer with `biases`, and with `scales`, `rolling_mean` and `rolling_variance` where it normalises."""

    biases: Any
    scales: Any
    rolling_mean: Any
    rolling_variance: Any
    momentum: ClassVar[float] = 0.1  # part of the rolling statistics that each mini-batch of training renews

    def make_normalisation(self, channels: int, batch_normalize: bool) -> None:
        self.biases = self.empty(channels)
        self.scales = self.empty(channels) if batch_normalize else None
        self.register_buffer("rolling_mean", torch.empty(channels) if batch_normalize else None)
        self.register_buffer("rolling_variance", torch.empty(channels) if batch_normalize else None)

    def initialise_normalisation(self) -> None:
        with torch.no_grad():
            self.biases.zero_()
            if self.scales is not None:
                self.scales.fill_(1)
                self.rolling_mean.zero_()
                self.rolling_variance.zero_()

    def normalise(self, x: Tensor) -> Tensor:
        """x (n, channels, …): with its rolling statistics (in training the mini-batch's), scaled and shifted; without them, shifted alone."""
        if self.scales is None:
            return x + self.biases.view(1, -1, *[1] * (x.ndim - 2))
        if self.training:
            return self._normalise_by_batch(x)
        return F.batch_norm(x, self.rolling_mean, self.rolling_variance, self.scales, self.biases, False, 0.0, EPSILON)

    def _normalise_by_batch(self, x: Tensor) -> Tensor:
        result, mean, variance = _BatchNorm.apply(x, self.scales, self.biases, self.mode)
        keep, renew = self.mode.renewal(self.momentum)
        with torch.no_grad():
            self.rolling_mean.mul_(keep).add_(mean, alpha=renew)
            self.rolling_variance.mul_(keep).add_(variance, alpha=renew)
        return result

    def fold_normalisation(self, weights: Tensor, channel_dim: int = 0) -> None:
        """Multiplies the normalisation into `weights` (in place, in double as network.c:fuse_conv_batchnorm does) and drops it."""
        if self.scales is None:
            return
        with torch.no_grad():
            factor = self.scales.double() / (self.rolling_variance.double() + EPSILON).sqrt()
            self.biases.copy_(self.biases.double() - self.rolling_mean.double() * factor)
            shape = [1] * weights.ndim
            shape[channel_dim] = -1
            weights.mul_(factor.to(weights.dtype).view(shape))
        self.scales = None
        self.rolling_mean = None
        self.rolling_variance = None

    def loaded(self) -> Iterator[Stored]:
        for one in super().loaded():
            if not (self.options.dontloadscales and one.name in BATCH_NORM_NAMES):
                yield one


class BatchNorm(Normalised, kinds=("batchnorm",)):
    """Darknet's [batchnorm] reads no option of its own, and its file order is that of a convolution without weights."""

    overwrites = 0
    stored_names = ("biases", *BATCH_NORM_NAMES)

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        pass

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.image()
        self.make_normalisation(self.shape.c, True)

    def initialise(self, generator: torch.Generator) -> None:
        self.initialise_normalisation()

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x)


class _BatchNorm(torch.autograd.Function):
    """x, scales, biases → scales * (x - mean) / sqrt(variance + 1e-5) + biases; the mean; the variance (of N-1).

    As in Darknet the variance divides by N-1, and the gradient's three terms take 1/(sqrt(variance) + 1e-5), variance + 1e-5 and N: nearly,
    not quite, the derivative (batchnorm_layer.c). Exact: the variance divides by N, and the gradient is the derivative. Synchronised: the
    mini-batches of all processes count as one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor, biases: Tensor, mode: Mode) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, count = _statistics(x, scales)
        if mode.synchronised:
            own, mean = mean, _summed(mean) / mode.processes
            variance = _summed(variance * (count - 1) + (own - mean) ** 2 * count)
            count *= mode.processes
            variance = variance / (count - 1)
        used = variance * (count - 1) / count if mode.exact else variance
        ctx.save_for_backward(x, scales, mean, used)
        ctx.mode, ctx.count = mode, count
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, used, scales, biases, False, 0.0, EPSILON), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scales, mean, variance = ctx.saved_tensors
        gradient, mode = gradients[0], ctx.mode
        shape, inverse = (1, -1, *[1] * (x.ndim - 2)), (variance + EPSILON).rsqrt()
        direct = inverse if mode.exact else (variance.sqrt() + EPSILON).reciprocal()
        if not mode.synchronised:
            result, by_scales, by_biases = torch.ops.aten.native_batch_norm_backward(
                gradient, x, scales, None, None, mean, inverse, True, EPSILON, [True] * 3
            )  # the derivative, were `inverse` that of the mini-batch's own variance
            if not mode.exact:
                result.add_(gradient * (scales * (direct - inverse)).to(gradient.dtype).view(shape))
            return result, by_scales, by_biases, None
        dims = [0, *range(2, x.ndim)]
        centred = x - mean.view(shape)
        by_biases, products = gradient.sum(dims), (gradient * centred).sum(dims)
        sums = _summed(torch.stack((by_biases, products)).to(mean.dtype))
        by_mean = -sums[0] * inverse / ctx.count
        by_variance = -sums[1] * inverse**3 / ctx.count
        result = scales.view(shape) * (
            gradient * direct.view(shape) + centred * by_variance.view(shape) + by_mean.view(shape)
        )
        return result.to(x.dtype), products * inverse, by_biases, None


def _statistics(x: Tensor, like: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (of N-1; 0 of a single value) of each channel, and N."""
    count = x.numel() // x.shape[1]
    if torch.compiler.is_compiling():  # which does not see that the faster one writes into its arguments
        variance, mean = torch.var_mean(x.to(like.dtype), [0, *range(2, x.ndim)])
    else:
        mean, variance = torch.zeros_like(like), torch.zeros_like(like)
        torch.ops.aten.batch_norm_update_stats(x, mean, variance, 1.0)
    return mean, variance if count > 1 else torch.zeros_like(like), count


def _summed(values: Tensor) -> Tensor:
    """The sum of this tensor over all processes."""
    result = values.contiguous().clone()
    torch.distributed.all_reduce(result)
    return result


def uniform_(tensor: Tensor, scale: float, generator: torch.Generator) -> None:
    """Darknet's start: scale x uniform(-1, 1)."""
    nn.init.uniform_(tensor, -scale, scale, generator)
