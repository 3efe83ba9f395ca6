"""What all layer kinds share: options, position in the network, shapes, and tensors in a .weights file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

from darknet_py.cfg import Cfg, Section
from darknet_py.errors import CfgError
from darknet_py.layers.arithmetic import PLAIN, Arithmetic
from darknet_py.layers.needs import Needs
from darknet_py.layers.net import NetOptions
from darknet_py.options import MAX_INT, option


class SizeError(CfgError):
    """Layers that are put together differ in size: perhaps because the input's size is no multiple of the strides."""


KINDS: dict[str, type[Layer]] = {}
"""Section name → layer class; filled as the files of this package are imported."""


class Shape(NamedTuple):
    """A layer's output for an image: `c` channels of height `h` and width `w`, or `count` values without such a shape.

    rows: consecutive rows of the output tensor that belong to the same image; 1, except after region proposals.
    regions: the number of the layer whose regions the rows are, one after the other; -1: they are of no regions.
    """

    c: int
    h: int
    w: int
    count: int  # type: ignore[assignment]  # tuple.count is not missed
    rows: int = 1
    regions: int = -1

    @property
    def of_whole_images(self) -> bool:
        """Whether the output has one row for each image."""
        return self.rows == 1 and self.regions < 0

    @classmethod
    def image(cls, c: int, h: int, w: int) -> Shape:
        return cls(c, h, w, c * h * w)

    @classmethod
    def flat(cls, count: int) -> Shape:
        """After some layers w, h, c are 0 in Darknet: a convolution cannot follow, a connected layer can."""
        return cls(0, 0, 0, count)

    def __str__(self) -> str:
        return f"{self.w} x {self.h} x {self.c}" if self.c else str(self.count)


class Stored(NamedTuple):
    """A tensor of a .weights file.

    transposed: when the file holds it so: "" (never), "always" (`flipped`), "by header" (connected layers, old files).
    """

    name: str
    tensor: Tensor
    transposed: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What Darknet reads in the sections of all layers (parser.c:parse_network_cfg_custom)."""

    learning_rate: float = option(1.0, "multiplies the network's learning rate in this layer", use="training")
    clip: float = option(0.0, "weights of a convolution stay within -clip..clip; 0: no limit", use="training")
    dontload: int = option(0, "1: the .weights file holds nothing for this layer, keep its initialisation", use="load")
    dontloadscales: int = option(0, "1: the .weights file holds no batch norm values for this layer", use="load")
    dontsave: int = option(0, "1: the layer is left out when weights are saved (pjreddie)", use="load")
    numload: int = option(0, "number of filters that the .weights file holds for this layer (pjreddie)", use="refused")
    smooth: float = option(
        0.0, "of [cost]: label smoothing, targets move towards 1/outputs by this fraction (pjreddie)", use="training"
    )
    onlyforward: int = option(0, "1: no gradient passes through this layer", use="training")
    dont_update: int = option(0, "this layer is frozen for this number of iterations", use="training")
    burnin_update: int = option(0, "this layer is frozen until iteration burn_in times this", use="training")
    stopbackward: int = option(
        0, "1: back-propagation stops here, and all earlier layers are frozen; N: until iteration N", use="training"
    )
    train_only_bn: int = option(
        0, "1: in this and all earlier layers only the rolling statistics of batch norm change", use="training"
    )
    key: str = option(
        "", "name of the layer in the state_dicts of the program that it comes from, for convert", use="none", own=True
    )


@dataclass
class Place:
    """A layer's position in its network: what it is built from besides its options.

    section, index: its section of `cfg` and its number. net: the options of [net]. earlier: the layers before it.
    input: the shape of the layer before. weight_count: number of weights of the layers before it.
    """

    cfg: Cfg
    section: Section
    index: int
    net: NetOptions
    earlier: Sequence[Layer]
    input: Shape
    weight_count: int = 0

    def fail(self, key: str | None, text: str) -> NoReturn:
        """Raises a CfgError at the option `key` of this section (at the section, if the option is not written)."""
        self.cfg.fail(self.section, self.section.get(key) if key else None, text)

    def differ(self, key: str, text: str) -> NoReturn:
        """Raises a SizeError there: layers that are put together differ in width or height."""
        raise SizeError(self.cfg.message(self.section, self.section.get(key), text))

    def warn(self, key: str | None, text: str) -> None:
        """Gives a CfgWarning there."""
        self.cfg.warn(self.section, self.section.get(key) if key else None, text)

    def stop(self, key: str, text: str) -> None:
        """See `Cfg.stop`."""
        self.cfg.stop(self.section, self.section.get(key), text)

    def layer(self, key: str, reference: int) -> int:
        """The absolute number of a layer that the option `key` refers to; negative references count back from here."""
        index = self.index + reference if reference < 0 else reference
        if 0 <= index < self.index:
            return index
        here = f"this is layer {self.index}; the network has {len(self.cfg.sections) - 1}"
        if index == -1 and reference < 0:
            self.fail(key, f"the layer before is the network's input, which cannot be named ({here})")
        if index < 0:
            self.fail(key, f"{reference} from here leads before the first layer ({here})")
        if index == self.index:
            self.fail(key, f"a layer cannot read itself ({here}); name an earlier layer")
        if 0 <= index < len(self.cfg.sections) - 1:
            self.fail(key, f"layer {index} comes later ({here}); name an earlier layer")
        self.fail(key, f"there is no layer {index} ({here})")

    def image(self) -> Shape:
        """The input's shape; an error if it has no width and height."""
        if not self.input.c:
            self.fail(None, f"needs an image, but {self.before()} {self.input.count} values without width and height")
        return self.input

    def before(self) -> str:
        """`layer 3 gives`, or `the network's input has`: how messages about the input begin."""
        return f"layer {self.index - 1} gives" if self.index else "the network's input has"

    def part(self, shape: Shape) -> Place:
        """The place of a layer inside this layer (recurrent layers consist of connected or convolutional ones)."""
        return Place(self.cfg, self.section, self.index, self.net, self.earlier, shape, self.weight_count)


class Layer(nn.Module):
    """A section of a cfg as a module. A kind is a subclass in a file of its own, with

    - `Options`: a frozen dataclass; its fields are Darknet's options with Darknet's defaults;
    - `sources`: the absolute indices of the layers it reads (default: the layer before; -1 is the network's input);
    - `__init__`, which checks the input shapes and sets `shape`, that of the output;
    - `forward(*inputs)`: plain tensor code that torch.compile and torch.export can trace; tensors are (n, c, h, w), or
      (n, count) for flat shapes;
    - `stored`: its tensors in the order of the .weights file.
    """

    Options: ClassVar[type[LayerOptions]] = LayerOptions
    kind: ClassVar[str]
    own: ClassVar[bool] = False  # this project's own section; Darknet has none of this name
    head: ClassVar[bool] = False  # a detection head: the network's output is what it reads
    stored_names: ClassVar[tuple[str, ...]] = ()  # attributes in the order of the .weights file; None is left out
    parts: tuple[str, ...] = ()  # attributes that are layers inside this layer, in the order of the .weights file
    folds: ClassVar[tuple[str, ...]] = ()  # options that `folded` moves into the weights: 0 in the deployed form
    zeroed: ClassVar[frozenset[str]] = frozenset()  # activations for which Darknet gives 0 in this kind of layer
    own_rows: ClassVar[bool] = False  # the kind sets `shape.rows` itself (region proposals); else its sources' rows
    one_graph: ClassVar[bool] = True  # False: the number of values depends on the image: no ONNX form, no compilation
    auxiliary: bool = False  # a head that exists in training only
    arithmetic: Arithmetic = PLAIN  # what differs in training; see arithmetic.py

    options: Any
    shape: Shape

    def part(self, name: str) -> Layer:
        """One of `parts`."""
        return cast(Layer, getattr(self, name))

    def __init_subclass__(cls, kinds: tuple[str, ...] = (), **rest: object) -> None:
        super().__init_subclass__(**rest)
        for kind in kinds:
            KINDS[kind] = cls
        if kinds:
            cls.kind = kinds[0]

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__()
        self.options = options
        self.index = place.index
        self.input = place.input
        self.source_indices = self.sources(options, place)
        self.read_by_name = False  # a later layer names this layer as a source (route, shortcut, sam, scale_channels)
        for index in self.references():
            place.earlier[index].read_by_name = True

    @classmethod
    def sources(cls, options: Any, place: Place) -> tuple[int, ...]:
        """The absolute indices of the layers whose outputs `forward` gets, in this order."""
        return (place.index - 1,)

    def references(self) -> tuple[int, ...]:
        """The layers that the section names (route's `layers`, shortcut's `from`), as absolute indices."""
        return tuple(index for index in self.source_indices if index not in (self.index - 1, -1))

    def stored(self) -> Iterator[Stored]:
        """The layer's tensors in the order of the .weights file."""
        for name in self.stored_names:
            tensor = getattr(self, name)
            if tensor is not None:
                yield Stored(name, tensor)
        for part in self.parts:
            for stored in self.part(part).stored():
                yield stored._replace(name=f"{part.removesuffix('_layer')}.{stored.name}")

    def loaded(self) -> Iterator[Stored]:
        """The tensors that a .weights file holds: `stored`, without those that the options say it lacks."""
        if not self.options.dontload:
            yield from self.stored()

    def initialise(self, generator: torch.Generator) -> None:
        """Random initial weights, distributed as Darknet's."""
        for part in self.parts:
            self.part(part).initialise(generator)

    def folded(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the deployed form, by their names in `stored`: batch norm is folded into the weights."""
        for name in self.stored_names:
            if (tensor := getattr(self, name)) is not None:
                yield name, tensor
        for part in self.parts:
            for name, tensor in self.part(part).folded():
                yield f"{part.removesuffix('_layer')}.{name}", tensor

    @property
    def bflops(self) -> float:
        """Billions of floating-point operations per image, as Darknet counts them."""
        return float(sum(self.part(part).bflops for part in self.parts))

    @property
    def loss_name(self) -> str | None:
        """A key of `losses.LOSSES[kind]`; None: the first."""
        return None

    def needs(self) -> Needs | None:
        """The training data of a layer with a loss; None: it needs none of its own."""
        return None

    def describe(self) -> dict[str, object]:
        """The layer table's values besides shapes and counts, named as in the cfg; `summary --json` prints them."""
        return {}

    def filters_text(self) -> str:
        """The table's column 'filters'."""
        return ""

    def size_text(self) -> str:
        """The table's column 'size/strd(dil)'."""
        return ""

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter in uninitialised memory, to be filled by `initialise` or from a file."""
        return nn.Parameter(torch.empty(shape))

    def check_count(self, place: Place, key: str | None, what: str, count: int) -> None:
        """Refuses sizes beyond 32-bit integers, in which Darknet counts, before memory is allocated."""
        if count > MAX_INT:
            place.fail(key, f"{what} would be {count:,} values; Darknet's limit is 2,147,483,647")
        if what == "the weights" and place.weight_count + count > MAX_INT:
            place.fail(
                key, f"the network's weights would be {place.weight_count + count:,} values; 2,147,483,647 is the limit"
            )


def positive(place: Place, key: str | None, shape: tuple[int, int], what: str) -> None:
    """Refuses an output (height, width) without pixels; `what` does not fit the input."""
    if min(shape) < 1:
        place.fail(key, f"the output would be {shape[1]} x {shape[0]}: {what} does not fit the input {place.input}")
