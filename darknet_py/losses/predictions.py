"""What the losses beside Darknet's share: [yolo] heads' raw outputs as logits and boxes, and which of these the truths
train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.losses.assign import ASSIGNERS
from darknet_py.losses.assign.level import Assignment, levels_of
from darknet_py.losses.loss import Output, State, Value, full
from darknet_py.losses.truths import Truths, as_truths

WEIGHT = 6  # place of a truth's weight in its row, where images are blended
WEIGHTS = frozenset({"box_weight", "objectness_weight", "class_weight", "assigner"})  # options that all of them read


class Prediction(NamedTuple):
    """All boxes of a head: logits (n, k, 5+classes) as they are, xywh (n, k, 4) fractions of the network's input, and
    the assignment of the truths to them. grid: (width, height) of the map."""

    layer: Any
    logits: Tensor
    xywh: Tensor
    grid: tuple[int, int]
    assignment: Assignment


def predictions(
    outputs: Sequence[Output], rows: Tensor, state: State, assigner: str
) -> tuple[list[Prediction], Truths]:
    """The heads of a group, assigned by the option `assigner` (or the one named here), and the truths of the
    mini-batch.

    Raises:
        DarknetError: a head gives no logits, or the heads of the group differ in their classes or assigner.
    """
    first = outputs[0].layer
    for layer, _ in outputs:
        if not layer.reads_logits:
            text = f"new_coords=1 gives no logits; loss={layer.loss_name} needs them, write logistic=1 or loss=darknet"
            raise DarknetError(f"layer {layer.index}: {text}")
        if (layer.classes, layer.options.assigner) != (first.classes, first.options.assigner):
            raise DarknetError(
                f"layers {first.index} and {layer.index}: classes and assigner must be equal in all heads"
            )
    truths = as_truths(rows, first.classes, first.class_map)
    raws = [full(raw) for _, raw in outputs]
    layers, grids = [layer for layer, _ in outputs], [(raw.shape[3], raw.shape[2]) for raw in raws]
    boxes = [layer.boxes(raw, state.size).xywh for layer, raw in zip(layers, raws, strict=True)]
    levels = levels_of(layers, boxes, grids, state.size)
    assigned = ASSIGNERS[first.options.assigner or assigner](levels, truths)
    logits = [layer.values(raw) for layer, raw in zip(layers, raws, strict=True)]
    return [Prediction(*parts) for parts in zip(layers, logits, boxes, grids, assigned, strict=True)], truths


def weight(layer: Any, term: str, usual: float) -> float:
    """The weight of a term of the loss ("box", "objectness", "class"): the head's option, or what is usual for this
    loss."""
    value = getattr(layer.options, f"{term}_weight")
    return usual if value is None else float(value)


def value_of(costs: Sequence[Tensor], outputs: Sequence[Output]) -> Value:
    """The sum of the heads' costs, in the graph."""
    total = costs[0]
    for cost in costs[1:]:
        total = total + cost
    names = [f"layer {layer.index} ([{layer.kind}])" for layer, _ in outputs]
    return Value(total, {name: cost.detach() for name, cost in zip(names, costs, strict=True)})
