"""What the losses of [yolo] beside Darknet's share: raw outputs as logits and boxes, and which of these the truths
train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from darknet_py.layers.yolo import Yolo
from darknet_py.losses.assign import ASSIGNERS
from darknet_py.losses.assign.level import Assignment, level_of
from darknet_py.losses.loss import Output, Refusal, State, full
from darknet_py.losses.truths import Truths, as_truths

WEIGHT = 6  # place of a truth's weight in its row, where images are blended
WEIGHTS = frozenset({"box_weight", "objectness_weight", "class_weight", "assigner"})  # options that all of them read


class Prediction(NamedTuple):
    """All boxes of a head: logits (n, k, 5+classes) as they are, xywh (n, k, 4) fractions of the network's input, and
    the assignment of the truths to them. grid: (width, height) of the map."""

    layer: Yolo
    logits: Tensor
    xywh: Tensor
    grid: tuple[int, int]
    assignment: Assignment


class TruthReader(Protocol):
    """`as_truths`, or another reading of the same rows."""

    def __call__(self, rows: Tensor, classes: int, class_map: Tensor | None = None) -> Truths: ...


def refusal(layers: Sequence[Yolo]) -> Refusal | None:
    """Heads of a group give logits and have the same classes and assigner; an auxiliary head has its lead's anchors."""
    first = layers[0]
    for layer in layers:
        if not layer.reads_logits:
            text = f"gives no logits, and loss={layer.loss_name} needs them; write logistic=1 too, or loss=darknet"
            return Refusal(layer, "new_coords", text)
        for name in ("classes", "assigner"):
            if getattr(layer.options, name) != getattr(first.options, name):
                text = f"layer {first.index} has {name}={getattr(first.options, name) or '(not written)'}"
                return Refusal(layer, name, f"{text}; heads that train together need the same")
        lead = next((lead for lead in layers if lead.index == layer.lead), None)
        if lead is not None and not torch.equal(layer.anchors, lead.anchors):
            text = f"its anchors differ from those of layer {lead.index}, whose boxes it trains; make them equal"
            return Refusal(layer, "aux_of", text)
    return None


def predictions(
    outputs: Sequence[Output], rows: Tensor, state: State, assigner: str, truths_of: TruthReader = as_truths
) -> tuple[list[Prediction], Truths]:
    """The heads of a group, assigned by the option `assigner` (or the one named here), and the truths of the
    mini-batch. An auxiliary head is assigned by what its lead head predicts."""
    first = outputs[0].layer
    truths = truths_of(rows, first.classes, first.class_map)
    raws = [full(raw) for _, raw in outputs]
    layers, grids = [layer for layer, _ in outputs], [(raw.shape[3], raw.shape[2]) for raw in raws]
    logits = [layer.values(raw) for layer, raw in zip(layers, raws, strict=True)]
    boxes = [_boxes(layer, values, grid, state.size) for layer, values, grid in zip(layers, logits, grids, strict=True)]
    places = {layer.index: place for place, layer in enumerate(layers)}
    aided = any(layer.auxiliary for layer in layers)
    assigned: dict[int, Assignment] = {}
    for auxiliary in (False, True):
        group = [layer for layer in layers if layer.auxiliary == auxiliary]
        leads = [places[layer.lead if auxiliary else layer.index] for layer in group]
        levels = [
            level_of(layer, boxes[lead], logits[lead], grids[lead], state.size, aided=aided)
            for layer, lead in zip(group, leads, strict=True)
        ]
        if levels:
            by_level = ASSIGNERS[first.options.assigner or assigner](levels, truths)
            assigned |= dict(zip((layer.index for layer in group), by_level, strict=True))
    return [
        Prediction(layer, values, xywh, grid, assigned[layer.index])
        for layer, values, xywh, grid in zip(layers, logits, boxes, grids, strict=True)
    ], truths


def _boxes(layer: Yolo, logits: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """All boxes of a head, (n, k, 4), without the classes, most of the values."""
    numbers = torch.arange(logits.shape[1], device=logits.device)
    xywh: Tensor = layer.boxes_at(logits[..., : layer.box_values], numbers, grid, size).xywh
    return xywh
