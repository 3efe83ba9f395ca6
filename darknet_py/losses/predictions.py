"""What the losses beside Darknet's own share: a [yolo] head's output as logits and boxes, and a delta from a differentiable cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.losses.assign.darknet import Truths, read_truths
from darknet_py.losses.loss import Context, Loss, LossFunction, full

WEIGHT = 6  # place of a truth's weight in its row, where pictures are blended


class Predictions(NamedTuple):
    """Of all boxes of a head: logits (n, anchors, h, w, 5+classes) as they are, xywh (n, anchors, h, w, 4) relative to the picture."""

    logits: Tensor
    xywh: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """(width, height) of the map"""
        return self.logits.shape[3], self.logits.shape[2]


def predict(layer: Any, raw: Tensor, size: tuple[int, int]) -> Predictions:
    logits = raw.unflatten(1, (len(layer.anchors), -1)).permute(0, 1, 3, 4, 2)
    height, width = logits.shape[2:4]
    rows, columns = (torch.arange(count, device=raw.device) for count in (height, width))
    corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    grid, pixels = (torch.tensor(pair, device=raw.device) for pair in ((width, height), size))
    centre = (corner + layer.stretch(logits[..., :2].sigmoid())) / grid
    sides = logits[..., 2:4].exp() * layer.anchors[:, None, None] / pixels
    return Predictions(logits, torch.cat((centre, sides), -1))


def by_autograd(cost: Callable[[Any, Tensor, Tensor, Truths, Context], Tensor]) -> LossFunction:
    """A loss of (layer, raw, truths' rows, truths, context) → a scalar, summed over the pictures."""

    def loss(layer: Any, raw: Tensor, rows: Tensor, context: Context) -> Loss:
        if layer.options.new_coords:
            raise DarknetError(
                f"layer {layer.index}: new_coords=1 gives no logits; this loss needs them, write --loss darknet"
            )
        truths = read_truths(rows, layer.options.classes, layer.class_map)
        with torch.enable_grad():
            leaf = full(raw).detach().requires_grad_()
            total = cost(layer, leaf, rows, truths, context)
            (gradient,) = torch.autograd.grad(total, leaf)
        return Loss(-gradient, total.detach())

    return loss
