"""A network rewritten for inference: what is linear becomes one convolution, what only training needs goes.

small = reparameterised(network)
small.save_weights("small.weights")             # and small.cfg.text is its cfg
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.cfg import Cfg
from darknet_py.errors import CfgWarning
from darknet_py.inference.deploy import deployed
from darknet_py.layers import Layer
from darknet_py.layers.batchnorm import BatchNorm
from darknet_py.layers.convolutional import Convolutional
from darknet_py.layers.yolo import Yolo
from darknet_py.network import Network
from darknet_py.options import cfg_name, meaning_of

NAMED_BY = {"route": "layers", "shortcut": "from", "sam": "from", "scale_channels": "from"}
"""Kinds that name layers → the option. Other layers read the one before them."""
CERTAIN = 20.0  # a logit: its probability is 1 in float32


@dataclass
class Part:
    """A layer of the network on its way to the rewritten one.

    layer: what it was, or, of branches that became one convolution, the largest of them. options: those to write.
    sources: what it reads, by the parts' numbers; -1: the input. activation: "linear" for layers without. tensors: by
    their names in `stored`.
    """

    layer: Any
    options: dict[str, str]
    sources: list[int]
    activation: str
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        return str(self.layer.kind)


def reparameterised(network: Network, *, size: tuple[int, int] | None = None) -> Network:
    """`deployed(network)`, and beyond that

    - convolutions and [batchnorm] that read the same map and are added by a [shortcut] become one convolution (the
      branches of RepVGG and RepConv); [implicit_add] before and [implicit_mul] behind a convolution go into it;
    - what a [yolo] does of its own goes into the convolution before it, for programs that know Darknet's alone: the
      logistic function of `logistic=1`, and the single class of `loss=yolov7`, which counts as certain;
    - auxiliary heads are left out, and all layers that no head depends on.

    The heads' boxes are the same, up to rounding; layers have other numbers, where the network changed at all. In the
    cfg, comments and this project's own words about training go. A network with
    layers that name several others by options which are not listed in NAMED_BY stays as it is.

    Args:
        size: (width, height) of the input in pixels; None: the network's. The cfg's text keeps its own size.
    """
    plain = deployed(network, size=size)
    parts = _parts(plain)
    every = list(parts)
    folded = [_fold(number, parts) for number in every]
    needed = _needed(parts, plain.heads or [len(plain.layers) - 1])
    unknown = [part for part in parts.values() if len(part.sources) > 1 and part.kind not in NAMED_BY]
    if unknown or (not any(folded) and needed == every):
        return plain
    text, numbers = _rewritten(plain.cfg, {number: parts[number] for number in needed})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # they were given when `network` was built
        result = Network(plain.cfg.with_text(text), size=plain.size_override)
    result.net = plain.net
    with torch.no_grad():
        for number, index in numbers.items():
            part, layer = parts[number], result.layers[index]
            buffers = dict(part.layer.named_buffers())
            for name, buffer in layer.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
            for stored in layer.stored():
                stored.tensor.copy_(part.tensors[stored.name])
    result.seen, result.version, result.names = plain.seen, plain.version, plain.names
    return result.to(plain.device).requires_grad_(False).eval()


def _parts(network: Network) -> dict[int, Part]:
    """The layers by their numbers, without the [route] that only repeat one layer: whoever reads these, reads that."""
    parts: dict[int, Part] = {}
    same = {-1: -1}
    for number, layer in enumerate(network.layers):
        section, sources = network.cfg.sections[number + 1], [same[source] for source in layer.source_indices]
        repeats = layer.kind == "route" and len(sources) == 1 and layer.options.groups == 1
        same[number] = sources[0] if repeats and layer is not network.layers[-1] else number
        if same[number] == number:
            left = _training_words(layer) - ({"loss"} if isinstance(layer, Yolo) and layer.classless else set())
            written = {key: option.value for key, option in section.first.items() if key not in left}
            options = {key: value for key, value in written.items() if value is not None}
            tensors = {stored.name: stored.tensor for stored in layer.stored()}
            activation = getattr(layer.options, "activation", "linear")
            parts[number] = Part(layer, options, sources, activation, tensors)
    return parts


def _training_words(layer: Layer) -> set[str]:
    """This project's own options that say how a layer is trained, or what it is called in other programs' files."""
    fields = [field for field in dataclasses.fields(layer.options) if meaning_of(field).own]
    return {cfg_name(field) for field in fields if meaning_of(field).use != "forward"}


def _readers(parts: dict[int, Part]) -> Counter[int]:
    """How many layers read a part, or share its weights."""
    return Counter(source for part in parts.values() for source in (*part.sources, *_shared(part)))


def _shared(part: Part) -> tuple[int, ...]:
    return (part.layer.owner.index,) if isinstance(part.layer, Convolutional) and part.layer.shared else ()


def _needed(parts: dict[int, Part], heads: list[int]) -> list[int]:
    """The parts that these depend on, and these, in order."""
    needed: set[int] = set()
    waiting = list(heads)
    while waiting:
        number = waiting.pop()
        if number >= 0 and number not in needed:
            needed.add(number)
            waiting += [*parts[number].sources, *_shared(parts[number])]
    return sorted(needed)


def _fold(number: int, parts: dict[int, Part]) -> bool:
    """Makes the part one convolution with those that it reads; whether that is possible."""
    fold = FOLDS.get(parts[number].kind)
    return fold is not None and fold(number, parts)


def _own_convolution(number: int, parts: dict[int, Part]) -> Part | None:
    """The part of this number, if it is a convolution without an activation that one layer alone reads."""
    part = parts.get(number)
    if part is None or not _convolves(part) or part.activation != "linear" or _readers(parts)[number] != 1:
        return None
    return part


def _convolves(part: Part) -> bool:
    """Whether it is a convolution as other programs know it."""
    layer = part.layer
    return isinstance(layer, Convolutional) and not (layer.binary or layer.shared or layer.blur is not None)


@dataclass
class Kernel:
    """A convolution with zeros around the map, so that the map keeps its size but for the stride: weights (filters,
    channels / groups, size, size), biases (filters,), both float64."""

    weights: Tensor
    biases: Tensor
    groups: int
    stride: tuple[int, int]

    def in_groups(self, groups: int) -> Kernel | None:
        """The same convolution with fewer groups, if it treats each channel by itself; None: it does not."""
        if groups == self.groups:
            return self
        filters, channels, *size = self.weights.shape
        if channels != 1 or self.groups != filters:
            return None
        weights = self.weights.new_zeros(filters, filters // groups, *size)
        filter_ = torch.arange(filters, device=weights.device)
        weights[filter_, filter_ % weights.shape[1]] = self.weights[:, 0]
        return Kernel(weights, self.biases, groups, self.stride)


def _kernel(part: Part) -> Kernel | None:
    """A part without an activation as a kernel; None: it is none."""
    layer, tensors = part.layer, {name: tensor.double() for name, tensor in part.tensors.items()}
    if isinstance(layer, BatchNorm):
        factor = tensors["scales"] / (tensors["rolling_variance"] + layer.eps).sqrt()
        biases = tensors["biases"] - tensors["rolling_mean"] * factor
        return Kernel(factor.view(-1, 1, 1, 1), biases, len(factor), (1, 1))
    if not _convolves(part) or part.activation != "linear" or layer.dilation != 1:
        return None
    size = tensors["weights"].shape[-1]
    if size % 2 == 0 or layer.padding != size // 2:
        return None
    return Kernel(tensors["weights"], tensors["biases"], layer.groups, layer.stride)


def _add_branches(number: int, parts: dict[int, Part]) -> bool:
    """A [shortcut] of kernels that read the same map, and that nobody else reads, is their sum."""
    part, readers = parts[number], _readers(parts)
    branches = [parts[source] for source in part.sources if source in parts and readers[source] == 1]
    convolutions = [branch for branch in branches if isinstance(branch.layer, Convolutional)]
    if len(branches) < len(part.sources) or not convolutions or part.tensors or not part.layer.plain:
        return False
    largest = max(convolutions, key=lambda branch: int(branch.layer.options.size))
    kernels = [kernel and kernel.in_groups(largest.layer.groups) for kernel in map(_kernel, branches)]
    found = [kernel for kernel in kernels if kernel is not None]
    alike = {(kernel.stride, len(kernel.biases)) for kernel in found}
    if len(found) < len(kernels) or len(alike) > 1 or len({branch.sources[0] for branch in branches}) > 1:
        return False
    size = largest.layer.options.size
    edges = [(size - kernel.weights.shape[-1]) // 2 for kernel in found]
    weights = torch.stack([F.pad(kernel.weights, (edge,) * 4) for kernel, edge in zip(found, edges, strict=True)]).sum(
        0
    )
    biases = torch.stack([kernel.biases for kernel in found]).sum(0)
    for source in part.sources:
        del parts[source]
    return _become(number, parts, largest, weights, biases)


def _become(number: int, parts: dict[int, Part], base: Part, weights: Tensor, biases: Tensor) -> bool:
    """The part becomes the convolution `base` with these values and with its own activation."""
    dtype = base.tensors["weights"].dtype
    tensors = {"weights": weights.to(dtype), "biases": biases.to(dtype)}
    activation = parts[number].activation
    options = base.options | {"activation": activation}
    parts[number] = Part(base.layer, options, base.sources, activation, tensors)
    return True


def _scale(number: int, parts: dict[int, Part]) -> bool:
    """A convolution whose channels are multiplied by learned factors."""
    part = parts[number]
    base = _own_convolution(part.sources[0], parts)
    if base is None:
        return False
    factor = part.tensors["weights"].double()
    weights, biases = (base.tensors[name].double() for name in ("weights", "biases"))
    del parts[part.sources[0]]
    return _become(number, parts, base, weights * factor.view(-1, 1, 1, 1), biases * factor)


def _shift(number: int, parts: dict[int, Part]) -> bool:
    """A convolution, without zeros around its map, of a map to whose channels learned numbers are added."""
    part = parts[number]
    before = parts.get(part.sources[0])
    if before is None or before.kind != "implicit_add" or not _convolves(part) or part.layer.padding:
        return False
    biases, groups = part.tensors["biases"], part.layer.groups
    summands = before.tensors["weights"].double().expand(before.layer.shape.c)
    weights = part.tensors["weights"].double().sum((2, 3)).unflatten(0, (groups, -1))
    extra = (weights @ summands.view(groups, -1, 1)).flatten()
    part.tensors["biases"] = (biases.double() + extra).to(biases.dtype)
    part.sources = before.sources
    return True


def _yolo(number: int, parts: dict[int, Part]) -> bool:
    """The logistic function of a head as the activation of the convolution before it, and a class without training as
    a large constant of it."""
    head = parts[number]
    before = _own_convolution(head.sources[0], parts)
    if before is None or not (head.layer.options.logistic or head.layer.classless):
        return False
    if head.layer.options.logistic:
        before.activation = before.options["activation"] = "logistic"
        del head.options["logistic"]
    if head.layer.classless:
        is_logit = before.activation == "logistic" or not head.layer.options.new_coords
        for name, value in (("weights", 0.0), ("biases", CERTAIN if is_logit else 1.0)):
            by_anchor = before.tensors[name].clone().unflatten(0, (-1, head.layer.box_values + 1))
            by_anchor[:, -1] = value
            before.tensors[name] = by_anchor.flatten(0, 1)
        del head.options["loss"]
    return True


FOLDS: dict[str, Callable[[int, dict[int, Part]], bool]] = {
    "shortcut": _add_branches,
    "implicit_mul": _scale,
    "convolutional": _shift,
    "yolo": _yolo,
}
"""Kind → the function that folds a part of this kind, with those that it reads; whether it could."""


def _rewritten(cfg: Cfg, parts: dict[int, Part]) -> tuple[str, dict[int, int]]:
    """The text of the cfg of these parts, and the new number of each. A [route] stands where a layer that names none
    reads another than the one before it."""
    first, net = f"# {Path(cfg.path).name}, rewritten for inference; its comments are in that file", cfg.sections[0]
    lines = [first, "", f"[{net.name}]", *map(str, net.options)]
    numbers: dict[int, int] = {}
    before, count = -1, 0
    for number, part in parts.items():
        if part.kind != "route" and part.sources[0] != before:
            lines += ["", "[route]", f"layers={numbers[part.sources[0]]}"]
            count += 1
        lines += ["", *_section(part, numbers)]
        numbers[number], before = count, number
        count += 1
    return "\n".join([*lines, ""]), numbers


def _section(part: Part, numbers: dict[int, int]) -> Iterator[str]:
    options = dict(part.options)
    named = part.sources if part.kind == "route" else part.sources[1:]
    if named:
        options[NAMED_BY[part.kind]] = ",".join(str(numbers[source]) for source in named)
    if shared := _shared(part):
        options["share_index"] = str(numbers[shared[0]])
    yield f"[{part.kind}]"
    yield from (f"{key}={value}" for key, value in options.items())
