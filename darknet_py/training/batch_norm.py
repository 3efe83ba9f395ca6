"""Batch norm in training: Darknet's statistics and gradient, in one process or several (Darknet: batchnorm_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.batchnorm import Normalised


@dataclass(frozen=True)
class Statistics:
    """How the statistics of a mini-batch are computed.

    exact: the true derivative, and the variance divided by N, instead of Darknet's.
    processes, rank: how many processes train together; number of this one, from 0.
    synchronised: the concurrent mini-batches of all processes are normalised as a single one.
    """

    exact: bool = False
    processes: int = 1
    rank: int = 0
    synchronised: bool = False

    def factors(self, momentum: float) -> tuple[float, float]:
        """The factors of the rolling statistics and of a mini-batch's, which give the new rolling statistics.

        The processes' results are added up, and all but the first one start from zeros; so the sum is what a single
        process has after the same mini-batches, in order.
        """
        if self.synchronised:
            return (1.0, 0.0) if self.rank else (1 - momentum, momentum)
        return (1 - momentum) ** self.processes, momentum * (1 - momentum) ** (self.processes - 1 - self.rank)


def normalise_by_batch(layer: Normalised, x: Tensor, statistics: Statistics) -> Tensor:
    """x (n, channels, …) normalised by its own statistics, scaled and shifted; updates the rolling statistics."""
    result, mean, variance = TrainingBatchNorm.apply(x, layer.scales, layer.biases, statistics, layer.eps)
    of_rolling, of_batch = statistics.factors(layer.momentum)
    with torch.no_grad():
        layer.rolling_mean.mul_(of_rolling).add_(mean, alpha=of_batch)
        layer.rolling_variance.mul_(of_rolling).add_(variance, alpha=of_batch)
    return result


class TrainingBatchNorm(torch.autograd.Function):
    """x, scales, biases → scales * (x - mean) / sqrt(variance + eps) + biases; the mean; the variance (of N-1).

    As in Darknet (batchnorm_layer.c) the variance is divided by N-1, and the three terms of the gradient contain
    1/(sqrt(variance) + eps), variance + eps and N, which is not quite the derivative. `exact`: the variance is
    divided by N, and the gradient is the derivative. `synchronised`: statistics over the mini-batches of all processes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: Tensor, biases: Tensor, statistics: Statistics, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, count = _statistics(x, scales)
        if statistics.synchronised:
            own, mean = mean, _total(mean) / statistics.processes
            variance = _total(variance * (count - 1) + (own - mean) ** 2 * count)
            count *= statistics.processes
            variance = variance / (count - 1)
        used = variance * (count - 1) / count if statistics.exact else variance
        ctx.save_for_backward(x, scales, mean, used)
        ctx.statistics, ctx.count, ctx.eps = statistics, count, eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, used, scales, biases, False, 0.0, eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, scales, mean, variance = ctx.saved_tensors
        gradient, statistics = gradients[0], ctx.statistics
        shape, inverse = (1, -1, *[1] * (x.ndim - 2)), (variance + ctx.eps).rsqrt()
        direct = inverse if statistics.exact else (variance.sqrt() + ctx.eps).reciprocal()
        if not statistics.synchronised:
            result, by_scales, by_biases = torch.ops.aten.native_batch_norm_backward(
                gradient, x, scales, None, None, mean, inverse, True, ctx.eps, [True] * 3
            )  # the derivative, with `inverse` for 1/sqrt(variance)
            if not statistics.exact:
                result.add_(gradient * (scales * (direct - inverse)).to(gradient.dtype).view(shape))
            return result, by_scales, by_biases, None, None
        dims = [0, *range(2, x.ndim)]
        centred = x - mean.view(shape)
        by_biases, products = gradient.sum(dims), (gradient * centred).sum(dims)
        sums = _total(torch.stack((by_biases, products)).to(mean.dtype))
        by_mean = -sums[0] * inverse / ctx.count
        by_variance = -sums[1] * inverse**3 / ctx.count
        result = scales.view(shape) * (
            gradient * direct.view(shape) + centred * by_variance.view(shape) + by_mean.view(shape)
        )
        return result.to(x.dtype), products * inverse, by_biases, None, None


def _statistics(x: Tensor, like: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (of N-1; 0 for a single value) of each channel, and N; of the dtype and device of `like`."""
    count = x.numel() // x.shape[1]
    if torch.compiler.is_compiling():  # the compiler misses that the faster one writes to its arguments
        variance, mean = torch.var_mean(x.to(like.dtype), [0, *range(2, x.ndim)])
    else:
        mean, variance = torch.zeros_like(like), torch.zeros_like(like)
        torch.ops.aten.batch_norm_update_stats(x, mean, variance, 1.0)
    return mean, variance if count > 1 else torch.zeros_like(like), count


def _total(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    result = values.contiguous().clone()
    torch.distributed.all_reduce(result)
    return result
