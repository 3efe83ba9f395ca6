"""What layers compute otherwise while they train: each asks its `arithmetic`, which a trainer replaces (training/derivatives.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.functions import ACTIVATIONS, IN_PLACE, drop_blocks

if TYPE_CHECKING:
    from darknet_py.layers.batchnorm import Normalised
    from darknet_py.layers.dropout import Dropout

EPSILON = 1e-5  # inside the square root of batch norm, blas.c:normalize_cpu


class Arithmetic:
    """PyTorch's own: true derivatives, batch norm as torch.nn.BatchNorm2d has it. It has no state, so all networks share one.

    Attributes:
        time_steps: a mini-batch of a recurrent network in training is so many inputs in a row of each of its lanes.
    """

    time_steps: int = 1

    def normalise(self, layer: Normalised, x: Tensor) -> Tensor:
        """x (n, channels, …), normalised, scaled and shifted; in training by the mini-batch's statistics."""
        rolling, train = (layer.rolling_mean, layer.rolling_variance), layer.training
        return F.batch_norm(x, *rolling, layer.scales, layer.biases, train, layer.momentum, EPSILON)

    def activate(self, x: Tensor, name: str, *, own: bool = False) -> Tensor:
        """An activation. `own`: nobody else reads `x`, it may be overwritten."""
        if own and name in IN_PLACE and not torch.is_grad_enabled():
            return IN_PLACE[name](x)
        return ACTIVATIONS[name](x)

    def drop_blocks(self, layer: Dropout, x: Tensor) -> Tensor:
        """Blocks of their full size and probability."""
        return drop_blocks(x, layer.options, 1.0)

    def as_if(self, value: Tensor, other: Tensor) -> Tensor:
        """The value. Darknet's gradient takes it for `other`."""
        return value

    def constant(self, value: Tensor) -> Tensor:
        """The value. Darknet's gradient takes it for a constant."""
        return value

    def of_logits(self, probabilities: Tensor, logits: Tensor) -> Tensor:
        """The probabilities. Darknet's losses behind a softmax give the gradient of its logits."""
        return probabilities


PLAIN = Arithmetic()
