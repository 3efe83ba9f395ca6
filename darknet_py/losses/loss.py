"""The form of every loss: the heads of a group with their raw outputs in, a value in the graph out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers import Layer, NetOptions
from darknet_py.losses.rejection import Rejection


class Output(NamedTuple):
    """A layer with a loss, and its raw output: what `network(x)` gives for it."""

    layer: Any
    raw: Any


@dataclass(frozen=True)
class State:
    """What a loss knows of the run beside outputs and truths.

    size: (width, height) of the network's input, pixels. net: the options of [net]. seen: images shown to the network
    so far, this mini-batch included. iteration: updates so far. layers: layers with a loss in the network, over which
    Darknet's cost is a mean.
    rejection: what [yolo] heads remember of their deltas. epoch: passes through the training images that are complete.
    plain: the images of these last epochs are not blended with others.
    memory: what losses remember from one mini-batch to the next, by names of their own; they change it, and checkpoints
    hold it.
    """

    size: tuple[int, int]
    net: NetOptions = field(default_factory=NetOptions)
    seen: int = 0
    iteration: int = 0
    layers: int = 1
    rejection: Rejection = field(default_factory=Rejection)
    epoch: float = 0.0
    plain: bool = False
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """total: a scalar in the graph, summed over the images of the mini-batch; it is differentiated as it is, and
    reported.
    parts: the same number in parts, by any names, detached. counts: figures for people (`count` of trained boxes,
    `iou`: their mean IoU), by layer."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[int, dict[str, Tensor]] = field(default_factory=dict)


def sum_of(parts: Mapping[str, Tensor], counts: dict[int, dict[str, Tensor]] | None = None) -> Value:
    """The sum of parts, scalars in the graph, as a loss's value. counts: see `Value`."""
    total = torch.stack(list(parts.values())).sum()
    return Value(total, {name: part.detach() for name, part in parts.items()}, counts or {})


class Refusal(NamedTuple):
    """Why a loss cannot train its heads: the layer, the option of it that is wrong, and what to write."""

    layer: Layer
    option: str
    text: str


@dataclass(frozen=True)
class Start:
    """What the layers that a head reads begin with, by channel of its raw output.

    biases: (channels,). deviations: (channels,), the standard deviation of normally distributed weights; None: weights
    are uniform within 1/sqrt(inputs), as PyTorch's. varied: (channels,), 1 where as much is added to the bias, else 0;
    None: nowhere. before: standard deviation of the weights of the layer before these, where the program counts it to
    the head. pytorch: the program's other layers begin as PyTorch's own, not as Darknet's.
    """

    biases: Tensor
    deviations: Tensor | None = None
    varied: Tensor | None = None
    before: float | None = None
    pytorch: bool = False


LossFunction: TypeAlias = Callable[[Sequence[Output], Tensor, State], Value]


@dataclass(frozen=True)
class Loss:
    """A loss of one kind of layer.

    reads: the training options of the layer and of [net] that it has a use for; those of the kind's other losses alone
    are named in a warning where a cfg sets them. assigner: the one that it takes where the cfg names none; "": it has
    none to choose. assigners: those that can be chosen; none: all of `assign.ASSIGNERS`. refusal: what is wrong with
    heads that are to train together; None: nothing. mean: the total does not grow with the images; those of an
    iteration's mini-batches are averaged, others are added up. start: takes a head and the size of its cells, pixels,
    and says what the layers that it reads begin with; None: with Darknet's weights.
    """

    function: LossFunction
    reads: frozenset[str] = frozenset()
    assigner: str = ""
    assigners: tuple[str, ...] = ()
    refusal: Callable[[Sequence[Any]], Refusal | None] = lambda layers: None
    mean: bool = False
    start: Callable[[Any, float], Start] | None = None


class Delta(NamedTuple):
    """What one of Darknet's layers gives. delta: like the raw output, minus the gradient that Darknet takes. cost: a
    scalar, what Darknet reports for the layer, summed over the mini-batch. counts: see `Value`."""

    delta: Tensor
    cost: Tensor
    counts: dict[str, Tensor]


class _Cost(torch.autograd.Function):
    """A cost whose gradient is minus the deltas, whatever the derivative of the cost is: Darknet defines deltas, and
    some are the gradient of no cost."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, count: int, *tensors: Tensor) -> Tensor:
        raws, deltas = tensors[:count], tensors[count:]
        # laid out as the raw outputs are: convolutions go backward as they came
        ctx.save_for_backward(
            *(d.contiguous() if raw.is_contiguous() else d for raw, d in zip(raws, deltas, strict=True))
        )
        ctx.dtypes = [raw.dtype for raw in raws]
        return cost.view_as(cost)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        deltas = ctx.saved_tensors
        by_raw = [(-delta * gradients[0]).to(dtype) for delta, dtype in zip(deltas, ctx.dtypes, strict=True)]
        return None, None, *by_raw, *[None] * len(deltas)


def darknet_value(outputs: Sequence[Output], deltas: Sequence[Delta], state: State) -> Value:
    """The cost that Darknet reports, with its deltas as the gradient (network.c:get_network_cost: the mean over all
    layers with a loss, whose deltas are not divided)."""
    costs = [delta.cost / state.layers for delta in deltas]
    raws = [output.raw for output in outputs]
    total = _Cost.apply(torch.stack(costs).sum(), len(raws), *raws, *(delta.delta for delta in deltas))
    counts = {output.layer.index: delta.counts for output, delta in zip(outputs, deltas, strict=True)}
    return Value(total, dict(zip(names_of(outputs), costs, strict=True)), counts)


def names_of(outputs: Sequence[Output]) -> list[str]:
    """What the layers are called in a value's parts."""
    return [f"layer {layer.index} ([{layer.kind}])" for layer, _ in outputs]


def by_layer(delta_of: Callable[[Any, Tensor, Tensor, State], Delta]) -> LossFunction:
    """One of Darknet's losses, from a function of (layer, raw, truths, state)."""

    def loss(outputs: Sequence[Output], truths: Tensor, state: State) -> Value:
        with torch.no_grad():
            deltas = [delta_of(layer, raw, truths, state) for layer, raw in outputs]
        return darknet_value(outputs, deltas, state)

    return loss


def full(raw: Tensor) -> Tensor:
    """A raw output in float32 at least: losses are not computed in half precision."""
    return raw.float() if raw.dtype in (torch.float16, torch.bfloat16) else raw


def weight(layer: Any, term: str, usual: float) -> float:
    """The weight of a term of the loss ("box", "objectness", "class"): the head's option, or what is usual for this
    loss."""
    value = getattr(layer.options, f"{term}_weight")
    return usual if value is None else float(value)


def squared_sum(delta: Tensor) -> Tensor:
    """Darknet's cost of most layers: the sum of the squared deltas."""
    return delta.square().sum()


def counts_of(overlaps: Tensor) -> dict[str, Tensor]:
    """`count` and mean `iou` of the boxes that truths train; overlaps: (k,) their IoU."""
    count = len(overlaps)
    return {"count": constant(float(count), overlaps.device, overlaps.dtype), "iou": overlaps.sum() / max(count, 1)}
