"""From a parsed cfg to a network: layers built in order, their sources resolved, run as one nn.Module.

network = load("cfg/yolov3.cfg", "yolov3.weights")
heads = network(images)                         # what the heads read, ready for their `boxes`: layers 82, 94, 106
maps = network.features(images, [61, 81])       # what Darknet leaves in those layers' l.output
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from darknet_py.arguments import width_and_height
from darknet_py.cfg import Cfg, Section, parse_cfg
from darknet_py.devices import pick_device
from darknet_py.errors import CfgError, WeightsError, out_of_memory
from darknet_py.layers import KINDS, Head, Layer, NetOptions, Place, Shape
from darknet_py.layers.dialects import OTHER_PROGRAMS
from darknet_py.layers.layer import SizeError
from darknet_py.layers.needs import Needs
from darknet_py.layers.net import NAMES
from darknet_py.layers.rnn import Recurrent
from darknet_py.metadata import is_safetensors
from darknet_py.options import MAX_INT, read_options
from darknet_py.table import table
from darknet_py.text import shortened
from darknet_py.weights import load_weights, save_weights

Read: TypeAlias = Callable[[Layer, int, Tensor], Tensor]
"""(layer, index of a layer that it reads, that layer's output) → what the first layer gets."""


class Network(nn.Module):
    """A Darknet network. `layers[61]` is Darknet's layer 61; the network's input counts as layer -1.

    Attributes:
        cfg: the parsed file it was built from. net: the options of its [net].
        layers: the layers in Darknet's order.
        heads: indices of the detection heads, without auxiliary heads, which exist in training only.
        seen: number of images it was trained on, from the .weights file.
        version: (major, minor, revision) of that file.
        names: the class names that its .safetensors file carries; None: it carries none.
    """

    def __init__(self, cfg: Cfg, *, size: tuple[int, int] | None = None) -> None:
        """Builds the layers. Their weights are uninitialised memory: call `initialise`, or load a file.

        Args:
            cfg: the parsed file.
            size: (width, height) of the input in pixels, instead of [net]'s.

        Raises:
            CfgError: an option, a reference or a shape is wrong. DarknetError: the size is none.
        """
        super().__init__()
        self.cfg, self.size_override = cfg, None if size is None else width_and_height(size)
        self.net = _net_options(cfg, self.size_override)
        self.seen = 0
        self.version = (0, 2, 5)
        self.names = cfg.names
        self.input_shape = _input_shape(cfg, self.net)
        layers = _layers(cfg, self.net, self.input_shape)
        self.layers: Sequence[Layer] = cast(Sequence[Layer], nn.ModuleList(layers))
        self.heads = [layer.index for layer in layers if layer.head and not layer.auxiliary]
        sources = dict.fromkeys(source for index in self.heads for source in layers[index].source_indices)
        self._outputs = list(sources) or [len(layers) - 1]
        self._plans: dict[tuple[int, ...], list[tuple[int, tuple[int, ...], tuple[int, ...]]]] = {}
        self._plan(self._outputs)

    def _plan(self, wanted: Iterable[int]) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """The steps to these layers' outputs: (layer, its sources, outputs that no later step reads). Computed once."""
        key = tuple(sorted(set(wanted)))
        if key in self._plans:
            return self._plans[key]
        needed = set(key)
        for index in range(max(key), -1, -1):
            if index in needed:
                needed.update(self.layers[index].source_indices)
        last_reader: dict[int, int] = {}
        for index in sorted(needed - {-1}):
            last_reader.update(dict.fromkeys(self.layers[index].source_indices, index))
        kept, done = set(key), defaultdict[int, list[int]](list)
        for source, reader in last_reader.items():
            if source not in kept:
                done[reader].append(source)
        steps = [(index, self.layers[index].source_indices, tuple(done[index])) for index in sorted(needed - {-1})]
        self._plans[key] = steps
        return steps

    def run(self, images: Tensor, wanted: list[int], read: Read | None = None) -> dict[int, Tensor]:
        """The outputs of these layers by their indices; no layer is run that they do not depend on.

        read: replaces what a layer reads of another (training stops gradients there).
        """
        outputs = {-1: images}
        for index, sources, done in self._plan(wanted):
            layer = self.layers[index]
            inputs = [outputs[source] if read is None else read(layer, source, outputs[source]) for source in sources]
            outputs[index] = layer(*inputs)
            for source in done:
                del outputs[source]
        return outputs

    def forward(self, images: Tensor, read: Read | None = None) -> list[Any]:
        """The raw output of each head, ready for its `boxes` and `decode`: a tensor, or a tuple of tensors for a head
        that reads several layers. A network without heads gives its last layer's output.

        Args:
            images: (n, channels, height, width) float, 0..1, RGB; (n, inputs) for networks without image input.
            read: see `run`.
        """
        outputs = self.run(images, self._outputs, read)
        if not self.heads:
            return [outputs[index] for index in self._outputs]
        return [raw_of(self.layers[index], outputs) for index in self.heads]

    def is_read_after(self, source: int, reader: int) -> bool:
        """Whether a layer's output is read by a layer after `reader`, or is the network's own."""
        return all(source not in done for index, _, done in self._plan(self._outputs) if index <= reader)

    def features(self, images: Tensor, layers: Iterable[int]) -> dict[int, Tensor]:
        """These layers' outputs, Darknet's `l.output`, by their indices: (n, c, h, w), or (n, count) for flat outputs.

        A head's output is activated. The raw output is that of the layer before it.

        Raises:
            IndexError: there is no layer of that number.
        """
        wanted = list(layers)
        for index in wanted:
            if not 0 <= index < len(self.layers):
                raise IndexError(f"there is no layer {index}; the network has {len(self.layers)}, counted from 0")
        outputs = self.run(images, wanted) if wanted else {}
        return {index: outputs[index] for index in wanted}

    def initialise(self, seed: int | None = None) -> Network:
        """Fresh weights, distributed as Darknet's; the same for the same seed."""
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                layer.initialise(generator)
        return self

    def set_net(self, **options: Any) -> None:
        """Replaces training options of [net]; the layers stay as built."""
        self.net = replace(self.net, **options)

    def set_options(self, kind: str, **options: Any) -> int:
        """Replaces training options in all layers of a kind; returns the number of these layers."""
        layers = [layer for layer in self.layers if layer.kind == kind]
        for layer in layers:
            layer.options = replace(layer.options, **options)
        return len(layers)

    def channels_last(self) -> Network:
        """Stores the weights channels-last in memory, as fast convolutions prefer; the numbers stay the same."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def reset_state(self, lanes: Tensor | None = None) -> None:
        """Resets the states of recurrent layers. lanes: (n,) bool, the rows of the input to reset; None: all."""
        for layer in self.layers:
            if isinstance(layer, Recurrent):
                layer.reset(lanes)

    def states(self) -> dict[str, Tensor]:
        """The states of the recurrent layers, by "layer.name"."""
        recurrent = [layer for layer in self.layers if isinstance(layer, Recurrent)]
        return {f"{layer.index}.{name}": state for layer in recurrent for name, state in layer.states.items()}

    def set_states(self, states: dict[str, Tensor]) -> None:
        """Restores what `states` returned.

        Raises:
            KeyError: there is no recurrent layer of that number.
        """
        self.reset_state()
        recurrent = {str(layer.index): layer for layer in self.layers if isinstance(layer, Recurrent)}
        for key, state in states.items():
            index, name = key.split(".")
            recurrent[index].states[name] = state.to(self.device)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the input, pixels."""
        return self.net.width, self.net.height

    @property
    def classes(self) -> int:
        """Number of classes of the last head; without heads, the number of values of the output."""
        if self.heads:
            return self.head_layers()[-1].classes
        return self.layers[-1].shape.count

    def needs(self) -> Needs | None:
        """The training data that the last head needs, or else the last layer with a loss; None: there is neither."""
        layers = [*self.layers, *self.head_layers()]
        return next((needs for layer in reversed(layers) if (needs := layer.needs()) is not None), None)

    def head_layers(self) -> list[Head]:
        """The heads, in the order of `forward`'s result."""
        return [cast(Head, self.layers[index]) for index in self.heads]

    def check_classes(self) -> None:
        """Refuses heads whose detections cannot be put together.

        Raises:
            CfgError: the heads have different numbers of classes.
        """
        heads = self.head_layers()
        for first, head in pairwise(heads):
            if head.classes != first.classes:
                section = self.cfg.sections[head.index + 1]
                text = f"it detects {head.classes} classes, layer {first.index} ([{first.kind}]) {first.classes}"
                self.cfg.fail(section, section.get("classes"), f"{text}; write equal numbers, and the filters to match")

    def check_graph(self, problem: str) -> None:
        """Refuses what needs the whole network as one graph; `problem` says what, and what to do instead.

        Raises:
            CfgError: the number of values that a layer gives depends on the image.
        """
        for layer in self.layers:
            if not layer.one_graph:
                text = f"how many values it gives depends on the image: it {problem}"
                self.cfg.fail(self.cfg.sections[layer.index + 1], None, text)

    def summary(self, *, receptive_field: bool = False) -> str:
        """The layer table, as Darknet prints it, with totals."""
        return table(self, receptive_field=receptive_field)

    def save_weights(self, path: str | os.PathLike[str], *, cutoff: int | None = None) -> None:
        """Writes a .weights file, or by the extension .safetensors (with the cfg and `names`: a model that opens alone)
        or a state_dict (.pt, .pth); `cutoff`: only the layers before this one.

        Raises:
            WeightsError: the file cannot be written.
        """
        save_weights(self, path, cutoff=cutoff)


def raw_of(head: Layer, outputs: Mapping[int, Tensor]) -> Any:
    """What a head reads, from the outputs by layer index: a tensor, or a tuple if it reads several layers."""
    inputs = tuple(outputs[index] for index in head.source_indices)
    return inputs[0] if len(inputs) == 1 else inputs


def load(
    cfg: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str | int | torch.device = "cpu",
    size: tuple[int, int] | None = None,
    cutoff: int | None = None,
    strict: bool = False,
    trainable: bool = False,
) -> Network:
    """Builds a network from its .cfg and loads its weights, ready for inference (eval mode, no gradients).

    Args:
        cfg: path of the .cfg, or of a .safetensors file that carries it; None: `weights` carries it.
        weights: path of a .weights or .safetensors file or of a state_dict (.pt, .pth); None: the .safetensors file
            `cfg`, or else random weights.
        device: where to put the network: "cpu", "cuda", "cuda:1" …; "auto": a GPU where there is one.
        size: (width, height) of the input in pixels, instead of [net]'s.
        cutoff: load only the layers before this one, the others get random weights (darknet53.conv.74: 75).
        strict: unknown, repeated or partly read options are errors, not warnings.
        trainable: for a training loop of your own: train mode, and every parameter has gradients.

    Raises:
        CfgError, WeightsError: the cfg or the weights are invalid; the message says where and why.
        DarknetError: there is no such device, or the size is none.
    """
    target = pick_device(device)
    if cfg is None:
        cfg = carrier(weights)
    elif weights is None and is_safetensors(cfg):
        weights = cfg
    network = Network(parse_cfg(cfg, strict=strict), size=size)
    if weights is None:
        network.initialise()
    else:
        load_weights(network, weights, cutoff=cutoff)
    return network.requires_grad_(trainable).train(trainable).to(target)


def carrier(weights: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """The weights file, if it carries its cfg.

    Raises:
        WeightsError: it does not.
    """
    if weights is None or not is_safetensors(weights):
        raise WeightsError(
            f"{weights or 'no weights'}: the cfg is missing; only .safetensors files carry theirs: name the .cfg, too "
            "(--cfg)"
        )
    return weights


def _net_options(cfg: Cfg, size: tuple[int, int] | None) -> NetOptions:
    section = cfg.sections[0]
    if section.name not in NAMES:
        cfg.fail(section, None, "the first section must be [net]")
    options = read_options(NetOptions, cfg, section)
    if options.policy == "steps" and not 0 < len(options.steps) <= len(options.scales):
        text = f"{len(options.steps)} steps and {len(options.scales)} scales; write as many of both"
        cfg.stop(section, section.get("scales") or section.get("policy"), text)
    for name in ("batch", "subdivisions", "time_steps"):  # Darknet divides by them where it reads them
        if (value := getattr(options, name)) < 1:
            cfg.fail(section, section.get(name), f"{value} is too small; write 1 or more")
    for name in ("input_mean", "input_deviation"):
        if (count := len(getattr(options, name))) not in (1, options.channels):
            text = f"{count} numbers for {options.channels} channels; write one for each, or a single one"
            cfg.fail(section, section.get(name), text)
    if size is not None:
        options = replace(options, width=size[0], height=size[1], inputs=None)
    return options


def _input_shape(cfg: Cfg, net: NetOptions) -> Shape:
    section = cfg.sections[0]
    if net.input_count < 1:
        cfg.fail(
            section,
            None,
            "the input has no size; write width, height and channels (or inputs, for networks without an image)",
        )
    count = max(net.input_count, net.width * net.height * net.channels)
    if count > MAX_INT:
        cfg.fail(section, section.get("width"), f"the input would be {count:,} values; 2,147,483,647 is the limit")
    if net.height and net.width and net.channels:
        return Shape.image(net.channels, net.height, net.width)
    return Shape.flat(net.input_count)


def _layers(cfg: Cfg, net: NetOptions, shape: Shape) -> list[Layer]:
    """All layers; if they can be built at another size alone, the CfgError says so, at [net]."""
    try:
        return _built(cfg, net, shape)
    except SizeError as error:
        if shape.c and (unit := _fitting_unit(cfg, net)):
            width, height = _multiples((net.width, net.height), unit)
            fits = f"write multiples of {unit}, e.g. {width} x {height}"
            key = "width" if net.width % unit else "height"
            section = cfg.sections[0]
            written = section.get(key)
            text = f"the size {net.width} x {net.height} does not fit this network; {fits} ({error})"
            cfg.fail(section, written if written and written.value == str(getattr(net, key)) else None, text)
        raise


def _built(cfg: Cfg, net: NetOptions, shape: Shape) -> list[Layer]:
    layers: list[Layer] = []
    total = 0
    with cfg.grouped():
        for index, section in enumerate(cfg.sections[1:]):
            layer = _build(cfg, section, index, net, layers, layers[-1].shape if layers else shape, total)
            total += sum(stored.tensor.numel() for stored in layer.stored())
            layers.append(layer)
    if not layers:
        cfg.fail(cfg.sections[0], None, "no layer follows; write at least one")
    return layers


def _fitting_unit(cfg: Cfg, net: NetOptions) -> int | None:
    """The least of 2, 4, … 256 pixels of which the input's sides must be multiples; None: the size is not the fault."""
    size = (net.width, net.height)
    for unit in (2**power for power in range(1, 9)):
        if _multiples(size, unit) != size and all(_fits(cfg, net, _multiples(size, unit, more)) for more in (0, 1)):
            return unit
    return None


def _multiples(size: tuple[int, int], unit: int, more: int = 0) -> tuple[int, int]:
    """The next larger size whose sides are multiples of the unit, and so many units more."""
    width, height = ((-(-side // unit) + more) * unit for side in size)
    return width, height


def _fits(cfg: Cfg, net: NetOptions, size: tuple[int, int]) -> bool:
    """Whether the network can be built at this size."""
    net = replace(net, width=size[0], height=size[1], inputs=None)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            _built(replace(cfg, strict=False), net, Shape.image(net.channels, size[1], size[0]))
        except CfgError:
            return False
    return True


def _build(
    cfg: Cfg, section: Section, index: int, net: NetOptions, earlier: list[Layer], shape: Shape, taken: int
) -> Layer:
    kind = KINDS.get(section.name)
    if kind is None:
        if section.name in NAMES:
            cfg.fail(section, None, "a second [net]; a cfg has one, at the top")
        cfg.fail(section, None, _unknown(section.name))
    place = Place(cfg, section, index, net, earlier, shape, taken)
    options: Any = read_options(kind.Options, cfg, section, own=kind.own)
    try:
        layer = kind(options, place)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        place.fail(None, "not enough memory for this layer's weights")
    layer.check_count(place, None, "the output", layer.shape.count)
    if kind.zeroed and options.activation in kind.zeroed:
        name = options.activation
        place.warn(
            "activation", f"Darknet computes {name} in [convolutional] only and gives 0 here; this computes {name}"
        )
    if not kind.own_rows:
        _set_rows(layer, place)
    _check_stored(layer)
    return layer


def _unknown(name: str) -> str:
    if name in OTHER_PROGRAMS:
        return f"this section is {OTHER_PROGRAMS[name]}"
    closest = difflib.get_close_matches(shortened(name), KINDS, n=1)
    known = ", ".join(sorted({kind.kind for kind in KINDS.values()}))
    return f"unknown section; did you mean [{closest[0]}]?" if closest else f"unknown section; known are {known}"


def _check_stored(layer: Layer) -> None:
    """A parameter that `stored` does not give would be neither trained, saved nor deployed."""
    stored = {id(one.tensor) for one in layer.stored()}
    for name, parameter in layer.named_parameters():
        if id(parameter) not in stored:
            raise TypeError(f"{type(layer).__name__}: `stored` does not give the parameter '{name}'; see stored_names")


def _set_rows(layer: Layer, place: Place) -> None:
    """A layer has as many rows per image as the layers that it reads, and of the same regions; these must agree."""
    shapes = {index: place.earlier[index].shape if index >= 0 else Shape.flat(0) for index in layer.source_indices}
    rows = {shape.rows: index for index, shape in shapes.items()}
    if len(rows) > 1:
        text = ", ".join(f"layer {index}: {count}" for count, index in rows.items())
        place.fail(None, f"the layers that it reads have different numbers of rows per image ({text})")
    regions = {shape.regions: index for index, shape in shapes.items()}
    if len(regions) > 1:
        text = ", ".join(
            f"layer {index}: {f'those of layer {source}' if source >= 0 else 'whole images'}"
            for source, index in regions.items()
        )
        place.fail(None, f"the layers that it reads describe different regions ({text}); let them describe the same")
    layer.shape = layer.shape._replace(rows=next(iter(rows), 1), regions=next(iter(regions), -1))
