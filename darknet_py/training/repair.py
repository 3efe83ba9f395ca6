"""`try_fix_nan=1`: values that are not finite are replaced, so that training goes on (Darknet: blas_kernels.cu)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network

MAX_DELTA = 1.0  # of the gradient of a convolution's output, absolute


def repair_convolutions(network: Network) -> None:
    """From now on convolutions give finite values, and the gradients of their outputs are clipped to ±MAX_DELTA."""
    for layer in network.layers:
        if isinstance(layer, Convolutional):
            layer.register_forward_hook(_repair)


def _repair(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A forward hook."""
    output = replace_non_finite(output)
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.nan_to_num(0.0).clamp(-MAX_DELTA, MAX_DELTA))
    for name in ("rolling_mean", "rolling_variance"):
        if (rolling := getattr(layer, name)) is not None:
            rolling.copy_(replace_non_finite(rolling))
    return output


def replace_non_finite(values: Tensor) -> Tensor:
    """Replaces NaN and infinity by 1 / (1 + their position), as blas_kernels.cu:fix_nan_and_inf."""
    if values.isfinite().all():
        return values
    position = torch.arange(values.numel(), device=values.device, dtype=values.dtype).view_as(values)
    return torch.where(values.isfinite(), values, 1 / (position + 1))
