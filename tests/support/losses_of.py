"""The cost and the delta that a loss gives each head.

A delta is what Darknet calls minus the gradient of the total with respect to the head's raw output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from darknet_py.losses import LOSSES, Output, State


class Head(NamedTuple):
    cost: float
    delta: torch.Tensor
    counts: dict[str, torch.Tensor]


def heads_of(
    name: str,
    layers: Sequence[Any],
    raws: Sequence[torch.Tensor],
    truths: torch.Tensor,
    size: tuple[int, int],
    **state: Any,
) -> list[Head]:
    leaves = [raw.detach().requires_grad_() for raw in raws]
    with torch.enable_grad():
        outputs = [Output(*pair) for pair in zip(layers, leaves, strict=True)]
        value = LOSSES[layers[0].kind][name].function(outputs, truths, State(size, layers=1, **state))
        deltas = [-gradient for gradient in torch.autograd.grad(value.total, leaves)]
    assert float(value.total.detach()) == float(torch.stack(list(value.parts.values())).detach().sum())
    counts = [value.counts.get(layer.index, {}) for layer in layers]
    return [Head(float(cost), *rest) for cost, *rest in zip(value.parts.values(), deltas, counts, strict=True)]


def head_of(layer: Any, raw: torch.Tensor, truths: torch.Tensor, size: tuple[int, int], **state: Any) -> Head:
    return heads_of("darknet", [layer], [raw], truths, size, **state)[0]
