"""Batch norm while it trains: Darknet's statistics and gradient, over one process or several (Darknet: batchnorm_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.arithmetic import EPSILON
from darknet_py.layers.batchnorm import Normalised


@dataclass(frozen=True)
class Statistics:
    """How the statistics of a mini-batch are taken.

    exact: the true derivative and the variance of N, in place of Darknet's.
    processes, rank: so many train together, each a mini-batch at a time; which of them this is, from 0.
    synchronised: the mini-batches that are worked through at the same time count as one.
    """

    exact: bool = False
    processes: int = 1
    rank: int = 0
    synchronised: bool = False

    def renewal(self, momentum: float) -> tuple[float, float]:
        """The factors of the rolling statistics and of a mini-batch's. Added up over the processes, all but the first of which
        began with zeros, they are what one process has after the same mini-batches in their order."""
        if self.synchronised:
            return (1.0, 0.0) if self.rank else (1 - momentum, momentum)
        return (1 - momentum) ** self.processes, momentum * (1 - momentum) ** (self.processes - 1 - self.rank)


def normalise_by_batch(layer: Normalised, x: Tensor, how: Statistics) -> Tensor:
    """x (n, channels, …) by its own statistics, scaled and shifted; the layer's rolling statistics are renewed."""
    result, mean, variance = BatchNorm.apply(x, layer.scales, layer.biases, how)
    keep, renew = how.renewal(layer.momentum)
    with torch.no_grad():
        layer.rolling_mean.mul_(keep).add_(mean, alpha=renew)
        layer.rolling_variance.mul_(keep).add_(variance, alpha=renew)
    return result


class BatchNorm(torch.autograd.Function):
    """x, scales, biases → scales * (x - mean) / sqrt(variance + 1e-5) + biases; the mean; the variance (of N-1).

    As in Darknet the variance divides by N-1, and the gradient's three terms take 1/(sqrt(variance) + 1e-5), variance + 1e-5 and N: nearly,
    not quite, the derivative (batchnorm_layer.c). Exact: the variance divides by N, and the gradient is the derivative. Synchronised: the
    mini-batches of all processes count as one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor, biases: Tensor, how: Statistics) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, count = _statistics(x, scales)
        if how.synchronised:
            own, mean = mean, _summed(mean) / how.processes
            variance = _summed(variance * (count - 1) + (own - mean) ** 2 * count)
            count *= how.processes
            variance = variance / (count - 1)
        used = variance * (count - 1) / count if how.exact else variance
        ctx.save_for_backward(x, scales, mean, used)
        ctx.how, ctx.count = how, count
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, used, scales, biases, False, 0.0, EPSILON), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scales, mean, variance = ctx.saved_tensors
        gradient, how = gradients[0], ctx.how
        shape, inverse = (1, -1, *[1] * (x.ndim - 2)), (variance + EPSILON).rsqrt()
        direct = inverse if how.exact else (variance.sqrt() + EPSILON).reciprocal()
        if not how.synchronised:
            result, by_scales, by_biases = torch.ops.aten.native_batch_norm_backward(
                gradient, x, scales, None, None, mean, inverse, True, EPSILON, [True] * 3
            )  # the derivative, were `inverse` that of the mini-batch's own variance
            if not how.exact:
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
