"""What layers compute differently in training: each asks its `arithmetic`, which a trainer may replace.

Darknet's arithmetic is in training/derivatives.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers.functions import ACTIVATIONS, IN_A_TRACE, IN_PLACE, drop_blocks

if TYPE_CHECKING:
    from darknet_py.layers.batchnorm import Normalised
    from darknet_py.layers.dropout import Dropout
    from darknet_py.layers.roi_sample import RoiSample


class Arithmetic:
    """PyTorch's own: true derivatives, batch norm as in torch.nn.BatchNorm2d. It has no state, so networks share it.

    Attributes:
        time_steps: consecutive inputs per lane in a training mini-batch of a recurrent network.
    """

    time_steps: int = 1

    def normalise(self, layer: Normalised, x: Tensor) -> Tensor:
        """x (n, channels, …), normalised, scaled and shifted; in training with the mini-batch's statistics."""
        rolling, train = (layer.rolling_mean, layer.rolling_variance), layer.training
        return F.batch_norm(x, *rolling, layer.scales, layer.biases, train, layer.momentum, layer.eps)

    def activate(self, x: Tensor, name: str, *, own: bool = False) -> Tensor:
        """The activation `name` of x. own: nothing else reads `x`, so it may be overwritten (not in a trace, whose
        fusion expects values that do not change)."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            return IN_A_TRACE.get(name, ACTIVATIONS[name])(x)
        if own and name in IN_PLACE and not torch.is_grad_enabled():
            return IN_PLACE[name](x)
        return ACTIVATIONS[name](x)

    def drop_blocks(self, layer: Dropout, x: Tensor) -> Tensor:
        """x (n, c, h, w) with blocks dropped, at their full size and probability."""
        return drop_blocks(x, layer.options, 1.0)

    def sample(self, layer: RoiSample, regions: Tensor, images: Tensor) -> Tensor:
        """Regions (k, 5) → those that are trained (m, 6), with the numbers of their truths; here all, without one."""
        return F.pad(regions, (0, 1), value=-1.0)

    def as_if(self, value: Tensor, other: Tensor) -> Tensor:
        """The value. Darknet's gradient is that of `other`."""
        return value

    def constant(self, value: Tensor) -> Tensor:
        """The value. Darknet's gradient treats it as a constant."""
        return value

    def of_logits(self, probabilities: Tensor, logits: Tensor) -> Tensor:
        """The probabilities. Darknet's losses after a softmax give the gradient of its logits."""
        return probabilities


PLAIN = Arithmetic()
