"""The losses of [softmax] and [cost] (Darknet: softmax_layer.c, cost_layer.c)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.losses.loss import Delta, Loss, State, by_layer, full

MASKED = -1234.0  # a truth that says nothing


def softmax_delta(layer: Any, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """Cross-entropy: raw (n, …) logits, truths (n, classes). The delta is truth - probability, whatever the
    temperature. With a class tree, groups of siblings that the truth says nothing of are left alone."""
    probability = layer.forward(full(raw))
    truth = truths.view_as(probability)
    counts = truth != MASKED if layer.tree is not None else torch.ones_like(truth, dtype=torch.bool)
    if layer.options.noloss:
        counts = torch.zeros_like(counts)
    cost = -torch.where((truth != 0) & counts, probability.log(), 0.0).sum()
    return Delta(torch.where(counts, truth - probability, 0.0).view_as(raw), cost, {})


def cost_delta(layer: Any, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """Squared error, with masked truths, or smooth (Huber): raw (n, …), truths (n, count)."""
    options, values = layer.options, full(raw).flatten(1)
    truth = truths.view_as(values)
    if options.smooth:
        truth = truth * (1 - options.smooth) + options.smooth / values.shape[1]
    difference = truth - values
    kind = options.type
    if kind == "masked":
        difference = torch.where(truths.view_as(values) == MASKED, 0.0, difference)
    size = difference.abs()
    if kind == "smooth":
        cost, delta = torch.where(size < 1, size**2, 2 * size - 1).sum(), difference.clamp(-1, 1)
    else:
        cost, delta = (difference**2).sum(), difference
    if options.thresh:
        delta = torch.where(delta.abs() < options.thresh / values.shape[1], 0.0, delta)
    return Delta((options.scale * delta).view_as(raw), cost, {})


SOFTMAX = Loss(by_layer(softmax_delta), frozenset({"noloss"}))
COST = Loss(by_layer(cost_delta), frozenset({"type", "scale", "smooth", "thresh"}))
