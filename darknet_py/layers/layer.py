"""What every layer kind is made of: its options, its place in the network, its shapes, its floats in a .weights file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

from darknet_py.cfg import Cfg, Option, Section
from darknet_py.layers.arithmetic import PLAIN, Arithmetic
from darknet_py.layers.needs import Needs
from darknet_py.options import MAX_INT, option

KINDS: dict[str, type[Layer]] = {}
"""Every section name that is a layer → its class; filled as the files of this package are imported."""


class Shape(NamedTuple):
    """What a layer gives for one image: `c` channels of `h` rows and `w` columns, or `count` values without an image's shape.

    `rows`: so many rows of the output tensor belong to an image, one after the other (1, but for layers behind region proposals).
    """

    c: int
    h: int
    w: int
    count: int  # type: ignore[assignment]  # tuple.count is not missed
    rows: int = 1

    @classmethod
    def image(cls, c: int, h: int, w: int) -> Shape:
        return cls(c, h, w, c * h * w)

    @classmethod
    def flat(cls, count: int) -> Shape:
        """Darknet leaves w, h, c at 0 after some layers: a convolution cannot follow, a connected layer can."""
        return cls(0, 0, 0, count)

    def __str__(self) -> str:
        return f"{self.w} x {self.h} x {self.c}" if self.c else str(self.count)


class Stored(NamedTuple):
    """A tensor of a .weights file. `transposed`: "always" (cfg `flipped=1`), "by header" (connected layers of old files), or ""."""

    name: str
    tensor: Tensor
    transposed: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What Darknet reads in every layer's section (parser.c:parse_network_cfg_custom)."""

    learning_rate: float = option(1.0, "multiplies the network's learning rate in this layer", use="training")
    clip: float = option(0.0, "weights of a convolution stay within -clip..clip; 0: no limit", use="training")
    dontload: int = option(0, "1: the .weights file holds nothing for this layer, keep its initialisation", use="load")
    dontloadscales: int = option(0, "1: the .weights file holds no batch norm values for this layer", use="load")
    dontsave: int = option(0, "1: this layer is left out when weights are saved (pjreddie)", use="load")
    numload: int = option(0, "number of filters that the .weights file holds for this layer (pjreddie)", use="refused")
    smooth: float = option(
        0.0, "of [cost]: label smoothing, truths move towards 1/outputs by this fraction (pjreddie)", use="training"
    )
    onlyforward: int = option(0, "1: no gradient passes through this layer", use="training")
    dont_update: int = option(0, "this layer is frozen for this number of iterations", use="training")
    burnin_update: int = option(0, "this layer is frozen until iteration burn_in times this", use="training")
    stopbackward: int = option(
        0, "1: back-propagation stops here, all earlier layers are frozen; N: until iteration N", use="training"
    )
    train_only_bn: int = option(
        0, "1: in this and all earlier layers only the rolling statistics of batch norm change", use="training"
    )


@dataclass
class Place:
    """Where a layer stands: what it is built from beside its options. `earlier` are the layers before it, `taken` their weights."""

    cfg: Cfg
    section: Section
    index: int
    net: Any
    earlier: Sequence[Layer]
    input: Shape
    taken: int = 0

    def fail(self, key: str | None, text: str) -> NoReturn:
        """A CfgError at the option `key` of this section (at the section where the option is not written)."""
        self.cfg.fail(self.section, self.section.get(key) if key else None, text)

    def warn(self, key: str | None, text: str) -> None:
        self.cfg.warn(self.section, self.section.get(key) if key else None, text)

    def layer(self, key: str, reference: int) -> int:
        """The absolute number of the layer that a reference names: negative ones count back from here."""
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
        """The input's shape; an error where the layer before gives no image."""
        if not self.input.c:
            self.fail(None, f"needs an image, but {self.before()} {self.input.count} values without one")
        return self.input

    def before(self) -> str:
        """`layer 3 gives`, or `the network's input has`: the beginning of a remark on what comes in."""
        return f"layer {self.index - 1} gives" if self.index else "the network's input has"

    def part(self, shape: Shape) -> Place:
        """The place of a layer inside this one (a recurrent layer is made of connected or convolutional ones)."""
        return Place(self.cfg, self.section, self.index, self.net, self.earlier, shape, self.taken)


class Layer(nn.Module):
    """One section of a cfg as a module. A kind is a subclass in a file of its own, with

    - `Options`: a frozen dataclass, its fields Darknet's option names with Darknet's defaults;
    - `sources`: the absolute indices of the layers it reads (default: the one before; -1 is the network's input);
    - `__init__`, which checks the input shapes and sets `shape`, the output's;
    - `forward(*inputs)`: plain tensor code that torch.compile and torch.export can trace; image tensors are (n, c, h, w), others (n, count);
    - `stored`: its tensors in the order of the .weights file.
    """

    Options: ClassVar[type[LayerOptions]] = LayerOptions
    kind: ClassVar[str]
    head: ClassVar[bool] = False  # a detection head: the network's output is what it reads, decode() makes boxes of it
    stored_names: ClassVar[tuple[str, ...]] = ()
    parts: tuple[str, ...] = ()  # attributes that are layers inside this one, in the order of the .weights file

    folds: ClassVar[
        tuple[str, ...]
    ] = ()  # options that are 0 in the deployed form, as `folded` has taken them into the weights
    own_rows: ClassVar[bool] = False  # this kind says itself how many rows an image has (region proposals)
    auxiliary: bool = False  # a head for training alone
    arithmetic: Arithmetic = PLAIN

    options: Any
    shape: Shape

    def part(self, name: str) -> Layer:
        """A layer inside this one, one of `parts`."""
        return cast(Layer, getattr(self, name))

    def __init_subclass__(cls, kinds: tuple[str, ...] = (), **rest: Any) -> None:
        super().__init_subclass__(**rest)
        for kind in kinds:
            KINDS[kind] = cls
        if kinds:
            cls.kind = kinds[0]

    def __init__(self, options: Any, place: Place) -> None:
        super().__init__()
        self.options = options
        self.index = place.index
        self.input = place.input
        self.source_indices = self.sources(options, place)
        self.read_by_name = False  # a later layer names this one; route, shortcut, sam and scale_channels do
        for index in self.references():
            place.earlier[index].read_by_name = True

    @classmethod
    def sources(cls, options: Any, place: Place) -> tuple[int, ...]:
        return (place.index - 1,)

    def references(self) -> tuple[int, ...]:
        """The layers that the section names itself (route's `layers`, shortcut's `from`), as absolute indices."""
        return tuple(index for index in self.source_indices if index != self.index - 1)

    def stored(self) -> Iterator[Stored]:
        for name in self.stored_names:
            tensor = getattr(self, name)
            if tensor is not None:
                yield Stored(name, tensor)
        for part in self.parts:
            for one in self.part(part).stored():
                yield one._replace(name=f"{part.removesuffix('_layer')}.{one.name}")

    def loaded(self) -> Iterator[Stored]:
        """What a .weights file holds for this layer: `stored`, less what its cfg says is not in the file."""
        if not self.options.dontload:
            yield from self.stored()

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, distributed as Darknet's."""
        for part in self.parts:
            self.part(part).initialise(generator)

    def folded(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the deployed form by their names in `stored`; what inference can do beforehand (batch norm) is done."""
        for name in self.stored_names:
            if (tensor := getattr(self, name)) is not None:
                yield name, tensor
        for part in self.parts:
            for name, tensor in self.part(part).folded():
                yield f"{part.removesuffix('_layer')}.{name}", tensor

    @property
    def bflops(self) -> float:
        """Billions of operations per image, as Darknet counts them."""
        return float(sum(self.part(part).bflops for part in self.parts))

    @property
    def loss_name(self) -> str | None:
        """Which of the losses for this kind; None: the first of them."""
        return None

    def needs(self) -> Needs | None:
        """What data a layer with a loss is trained with; None: the layer has none of its own to say."""
        return None

    def describe(self) -> dict[str, Any]:
        """What the layer table says beside shapes and counts; the names are the cfg's. `--json` prints all of it."""
        return {}

    def filters_text(self) -> str:
        """The table's column 'filters'."""
        return ""

    def size_text(self) -> str:
        """The table's column 'size/strd(dil)'."""
        return ""

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter whose memory is not touched until it is loaded or initialised."""
        return nn.Parameter(torch.empty(shape))

    def check_count(self, place: Place, key: str | None, what: str, count: int) -> None:
        """Refuses sizes before memory is taken; Darknet counts with 32-bit integers."""
        if count > MAX_INT:
            place.fail(key, f"{what} would be {count:,} values; Darknet's limit is 2,147,483,647")
        if what == "the weights" and place.taken + count > MAX_INT:
            place.fail(
                key, f"the network's weights would be {place.taken + count:,} values; 2,147,483,647 is the limit"
            )


def positive(place: Place, key: str | None, shape: tuple[int, int], what: str) -> None:
    """An error where an output would have no pixels."""
    if min(shape) < 1:
        given: Option | None = place.section.get(key) if key else None
        place.fail(
            given.key if given else None,
            f"the output would be {shape[1]} x {shape[0]}: {what} does not fit the input {place.input}",
        )
