"""A Darknet network as the layers that OpenCV 4's importer makes of it: their names, types, ids and inputs.

A section N becomes one to three of them: `conv_N`, `bn_N`, and the activation under the next number, `leaky_{N+1}`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from torch import Tensor, nn

from darknet_py.layers import Layer
from darknet_py.layers.head import GridHead
from darknet_py.network import Network


class Part(Enum):
    """Where in its section a step's output arises."""

    INPUT = "the network's input"
    BEFORE_NORM = "what batch norm reads"
    BEFORE_ACTIVATION = "what the activation reads"
    OUTPUT = "the section's output"
    UNADJUSTED = "the crop, 0..1"
    SOURCE = "a source of the section, or a group of its channels"
    PERMUTED = "the head's input, channels last"
    BOXES = "the head's boxes"


class Step(NamedTuple):
    """One of OpenCV's layers.

    section: its number in Darknet. inputs: ids of the steps that it reads. source: of Part.SOURCE, which one.
    """

    id: int
    name: str
    type: str
    section: int
    part: Part
    inputs: tuple[int, ...]
    source: int = 0


ACTIVATIONS = {
    "relu": "ReLU",
    "leaky": "ReLU",
    "swish": "Swish",
    "mish": "Mish",
    "logistic": "Sigmoid",
    "tanh": "TanH",
}
KINDS = {  # Darknet's kind → the beginning of OpenCV's name, OpenCV's type; others keep Darknet's word for both
    "convolutional": ("conv", "Convolution"),
    "connected": ("fullyConnected", "InnerProduct"),
    "maxpool": ("pool", "Pooling"),
    "avgpool": ("avgpool", "Pooling"),
    "softmax": ("softmax", "Softmax"),
    "dropout": ("identity", "Identity"),
    "cost": ("identity", "Identity"),
    "reorg": ("reorg", "Reorg"),
    "shortcut": ("shortcut", "Eltwise"),
    "scale_channels": ("scale_channels", "Scale"),
    "sam": ("sam", "Eltwise"),
    "upsample": ("upsample", "Resize"),
}
FLATTENING = ("connected",)
KEEPING = ("softmax", "dropout", "cost", "activation", "route", "shortcut")


class Importer:
    """Collects the steps; `number` is the one that OpenCV writes into names, which may run ahead of Darknet's."""

    def __init__(self, network: Network) -> None:
        self.steps = [Step(0, "_input", "", -1, Part.INPUT, ())]
        self.last = {-1: 0}  # section → the id of its last step
        self.number = 0
        left_out = _training_only(network)
        for layer in network.layers:
            if layer.index not in left_out:
                self._section(layer)
                self.last[layer.index] = len(self.steps) - 1

    def _add(
        self, name: str, type_: str, layer: Layer, part: Part, inputs: Sequence[int] | None = None, source: int = 0
    ) -> None:
        number = len(self.steps)
        reads = tuple(inputs) if inputs is not None else (number - 1,)
        self.steps.append(Step(number, name, type_, layer.index, part, reads, source))

    def _section(self, layer: Layer) -> None:
        sources = [self.last[index] for index in layer.source_indices]
        if layer.kind == "route":
            self._route(layer, sources)
        elif layer.head:
            self._head(layer, sources)
        elif layer.kind == "crop":
            adjusts = not layer.options.noadjust
            part = Part.UNADJUSTED if adjusts else Part.OUTPUT
            self._add(f"crop_{self.number}", "Slice", layer, part, sources)
            self.number += 1
            if adjusts:
                self._add(f"adjust_crop_{self.number}", "Scale", layer, Part.OUTPUT)
                self.number += 1
        else:
            self._plain(layer, sources)

    def _plain(self, layer: Layer, sources: list[int]) -> None:
        """A section with a name of its own, perhaps batch norm, and perhaps an activation."""
        name, type_ = KINDS.get(layer.kind, (layer.kind, layer.kind))
        activation = getattr(layer.options, "activation", "linear")
        activation = "linear" if layer.kind not in KINDS else activation
        before = Part.OUTPUT if activation == "linear" else Part.BEFORE_ACTIVATION
        normalises = layer.kind in ("convolutional", "connected") and normalised(layer)
        self._add(f"{name}_{self.number}", type_, layer, Part.BEFORE_NORM if normalises else before, sources)
        if normalises:
            self._add(f"bn_{self.number}", "BatchNorm", layer, before)
        self.number += 1
        if activation != "linear":
            self._add(f"{activation}_{self.number}", ACTIVATIONS.get(activation, activation), layer, Part.OUTPUT)

    def _route(self, layer: Layer, sources: list[int]) -> None:
        if layer.options.groups == 1:
            name, type_ = ("identity", "Identity") if len(sources) == 1 else ("concat", "Concat")
            self._add(f"{name}_{self.number}", type_, layer, Part.OUTPUT, sources)
        else:
            first = len(self.steps)
            for position, source in enumerate(sources):
                self._add(f"slice_{self.number + position}", "Slice", layer, Part.SOURCE, [source], position)
            if len(sources) > 1:
                self.number += len(sources)
                ids = range(first, first + len(sources))
                self._add(f"concat_{self.number}", "Concat", layer, Part.OUTPUT, ids)
        self.number += 1

    def _head(self, layer: Layer, sources: list[int]) -> None:
        """[yolo] reads the network's input too, for its size."""
        self._add(f"permute_{self.number}", "Permute", layer, Part.PERMUTED, sources)
        name = "detection_out" if layer.kind == "region" else f"{layer.kind}_{self.number}"
        before = len(self.steps) - 1
        self._add(name, "Region", layer, Part.BOXES, [before] if layer.kind == "region" else [before, 0])
        self.number += 1


def _training_only(network: Network) -> set[int]:
    """Auxiliary heads, and the layers that they alone depend on."""
    readers = defaultdict(set)
    for layer in network.layers:
        for source in layer.source_indices:
            readers[source].add(layer.index)
    found: set[int] = set()
    for layer in reversed(network.layers):
        if layer.auxiliary or (readers[layer.index] and readers[layer.index] <= found):
            found.add(layer.index)
    return found


def normalised(layer: Layer) -> bool:
    """Whether a convolutional or connected section has batch norm."""
    return getattr(getattr(layer, "owner", layer), "scales", None) is not None and bool(
        getattr(layer, "normalises", True)
    )


def steps_of(network: Network) -> list[Step]:
    """All of OpenCV's layers by their ids; 0 is the network's input."""
    return Importer(network).steps


def flat_sections(network: Network) -> set[int]:
    """Sections whose output OpenCV has as (n, count): connected layers, and what follows them without a new shape."""
    flat: set[int] = set()
    for layer in network.layers:
        if layer.kind in FLATTENING or (layer.kind in KEEPING and layer.source_indices[0] in flat):
            flat.add(layer.index)
    return flat


def blobs(network: Network, step: Step) -> list[Tensor]:
    """The network's own tensors that OpenCV shows as this layer's blobs."""
    if step.part is Part.INPUT:
        return []
    layer = network.layers[step.section]
    if step.type in ("Convolution", "InnerProduct"):
        owner = getattr(layer, "owner", layer)
        return _tensors(owner, "weights") if normalised(layer) else _tensors(owner, "weights", "biases")
    if step.type == "BatchNorm":
        owner = getattr(layer, "owner", layer)
        return _tensors(owner, "rolling_mean", "rolling_variance", "scales", "biases")
    if step.type == "Region" and isinstance(layer, GridHead):
        return [layer.anchors]
    return []


def _tensors(layer: nn.Module, *names: str) -> list[Tensor]:
    return [getattr(layer, name) for name in names]
