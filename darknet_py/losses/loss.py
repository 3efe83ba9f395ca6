"""The form of every loss: deltas and a cost; and how deltas become gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What a loss knows beside its layer, input and truths.

    size: (width, height) of the network's input, pixels. seen: images shown to the network so far, this mini-batch included.
    heads: the [yolo] layers, each with the (width, height) of its map.
    reject: deltas of a yolo head, and how many a box has → the same, less those that are to be left out.
    """

    size: tuple[int, int]
    seen: int = 0
    heads: Sequence[tuple[Any, tuple[int, int]]] = ()
    reject: Callable[[Tensor, int], Tensor] = lambda delta, entries: delta


@dataclass(frozen=True)
class Loss:
    """delta: like the raw input, minus the gradient that Darknet takes. cost: a scalar, what Darknet reports for the layer, summed
    over the mini-batch. details: figures for the progress line (`count` of trained boxes, `iou`: their mean IoU)."""

    delta: Tensor
    cost: Tensor
    details: dict[str, float] = field(default_factory=dict)


LossFunction: TypeAlias = Callable[[Any, Tensor, Tensor, Context], Loss]


class _Inject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(delta)
        ctx.dtype = raw.dtype
        return raw.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (delta,) = ctx.saved_tensors
        return (-delta * gradients[0]).to(ctx.dtype), None


def inject(raw: Tensor, delta: Tensor) -> Tensor:
    """A scalar 0, float32 at least, whose gradient with respect to `raw` is -delta; a scaled one does not overflow on the way."""
    return _Inject.apply(raw, delta)


def full(raw: Tensor) -> Tensor:
    """A head's output in float32 at least: losses are not computed in half precision."""
    return raw.float() if raw.dtype in (torch.float16, torch.bfloat16) else raw


def squared_sum(delta: Tensor) -> Tensor:
    """Darknet's cost of most layers: the sum of the squared deltas."""
    return delta.square().sum()
