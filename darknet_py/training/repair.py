"""What `try_fix_nan=1` does to keep a run alive: values that are not finite become other numbers (Darknet: blas_kernels.cu:fix_nan_and_inf)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.layers.convolutional import Convolutional
from darknet_py.network import Network

LARGEST_DELTA = 1.0  # of a convolution's output


def repair_convolutions(network: Network) -> None:
    """From now on convolutions give finite values, and their gradients are cut off at LARGEST_DELTA."""
    for layer in network.layers:
        if isinstance(layer, Convolutional):
            layer.register_forward_hook(_repair)


def _repair(layer: Any, inputs: Any, output: Tensor) -> Tensor:
    output = finite(output)
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.nan_to_num(0.0).clamp(-LARGEST_DELTA, LARGEST_DELTA))
    for name in ("rolling_mean", "rolling_variance"):
        if (rolling := getattr(layer, name)) is not None:
            rolling.copy_(finite(rolling))
    return output


def finite(values: Tensor) -> Tensor:
    """What is not finite becomes 1/(1 + its place)."""
    if values.isfinite().all():
        return values
    place = torch.arange(values.numel(), device=values.device, dtype=values.dtype).view_as(values)
    return torch.where(values.isfinite(), values, 1 / (place + 1))
