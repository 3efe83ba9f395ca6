"""Weights rewritten as the C program's `average`, `rescale`, `rgbgr`, `reset`, `denormalize`, `normalize`, `oneoff` and
`partial` do (darknet.c), and its reports `statistics` and `ops`.

Where AlexeyAB's program reads or writes beyond its memory (batch norm of convolutions with several filters or of a
[gru], averages of convolutions with groups or shared weights), the result here is the one that was meant.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from darknet_py.cfg import Cfg, parse_cfg
from darknet_py.choices import REWRITES
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.layers import Layer
from darknet_py.layers.batchnorm import BATCH_NORM_NAMES, Normalised
from darknet_py.layers.connected import Connected
from darknet_py.layers.convolutional import Convolutional
from darknet_py.layers.gru import Gru
from darknet_py.layers.lstm import Lstm
from darknet_py.layers.rnn import Rnn
from darknet_py.network import Network
from darknet_py.weights import load_weights, read_header

VERSION = (0, 2, 5)  # of the files that the C program writes
NORMALISED = (Convolutional, Connected, Gru, Lstm)  # kinds whose batch norm `reset` folds
PLAIN = (Convolutional, Connected, Gru)  # kinds from which `denormalize` removes it; Darknet forgets the [lstm]


def with_header(network: Network) -> Network:
    """The network with the header that the C program writes: its version, and the images of whole iterations."""
    net = network.net
    subdivisions = max(net.subdivisions, 1)
    batch = max(net.batch // subdivisions * net.time_steps, net.time_steps, 1) * subdivisions
    network.version, network.seen = VERSION, network.seen // batch * batch
    return network


@torch.no_grad()
def average(network: Network, others: Iterable[Network]) -> Network:
    """The network, with the mean of its and the other networks' weights in all [convolutional] and [connected] layers.

    As in Darknet, other layers and the batch norm of [connected] stay as they are in the first network.

    Args:
        others: networks of the same cfg; each is needed once, so a generator may load them one by one.
    """
    count = 1
    for other in others:
        count += 1
        for mine, theirs in zip(_averaged(network), _averaged(other), strict=True):
            mine.add_(theirs)
    for mine in _averaged(network):
        mine.mul_(1 / count)
    return network


def _averaged(network: Network) -> Iterator[Tensor]:
    for layer in network.layers:
        if isinstance(layer, (Convolutional, Connected)):
            for stored in layer.stored():
                if isinstance(layer, Convolutional) or stored.name not in BATCH_NORM_NAMES:
                    yield stored.tensor


@torch.no_grad()
def rescale(network: Network) -> Network:
    """The network for images of -1..1, made from one for 0..1: the first convolution's weights are doubled, and half
    their sums are taken from the biases. It stays as it is if it does not read three channels."""
    for layer in _first_of_colours(network):
        layer.weights.mul_(2)
        sums = np.add.accumulate(layer.weights.flatten(1).numpy(), axis=1)[:, -1]  # in Darknet's order
        layer.biases.add_(torch.from_numpy(sums) * -0.5)
    return network


@torch.no_grad()
def rgbgr(network: Network) -> Network:
    """The network for images of the other order of colours (BGR, or RGB again): the first convolution's first and third
    channels are swapped. It stays as it is if that does not read three channels."""
    for layer in _first_of_colours(network):
        layer.weights.copy_(layer.weights.flip(1))
    return network


def _first_of_colours(network: Network) -> list[Convolutional]:
    """The first convolution, if it reads three channels."""
    first = [layer for layer in network.layers if isinstance(layer, Convolutional)][:1]
    return [layer for layer in first if layer.weights.shape[1] == 3]


@torch.no_grad()
def reset_normalize(network: Network) -> Network:
    """The network with batch norm folded into the weights; it is still there, with scales 1, means 0, variances 1.

    In [convolutional], [connected], [gru] and [lstm]; in others it stays, as in Darknet.
    """
    for layer in network.layers:
        if isinstance(layer, NORMALISED):
            _fold(layer)
    return network


@torch.no_grad()
def denormalize(network: Network) -> Network:
    """A network without batch norm, which is folded into the weights, in [convolutional], [connected] and [gru] (not in
    others, as in Darknet); its cfg says so. `deployed` folds it everywhere."""
    zero: dict[int, dict[str, int]] = {}
    for layer in network.layers:
        if isinstance(layer, PLAIN):
            _fold(layer)
            section = network.cfg.sections[layer.index + 1]
            zero[layer.index] = {name: 0 for name in layer.folds if section.get(name) is not None}
    return _rebuilt(network, network.cfg.with_options(zero))


@torch.no_grad()
def normalize(network: Network) -> Network:
    """A network with batch norm in all [convolutional] and [connected] layers; its cfg says so. Where it is new, and in
    all [gru] and [lstm] that have it, the scales are 1, the means and variances 0, as in Darknet."""
    added = {}
    for layer in network.layers:
        if isinstance(layer, (Gru, Lstm)):
            for part in _normalised(layer):
                _set_statistics(part, variance=0)
        elif isinstance(layer, (Convolutional, Connected)) and not any(
            getattr(layer.options, name) for name in layer.folds
        ):
            added[layer.index] = {"batch_normalize": 1}
    return _rebuilt(network, network.cfg.with_options(added))


def _normalised(layer: Layer) -> list[Normalised]:
    """The layer, or the layers inside it, as far as they have batch norm of their own."""
    units = [layer, *map(layer.part, layer.parts)]
    return [unit for unit in units if isinstance(unit, Normalised) and _has_scales(unit)]


def _has_scales(layer: Normalised) -> bool:
    return any(stored.name == "scales" for stored in layer.stored())


def _fold(layer: Layer) -> None:
    """Moves batch norm into weights and biases (convolutional_layer.c and connected_layer.c: denormalize_…).

    The constant under the root is 1e-6 in connected layers, where Darknet itself runs them with 1e-5."""
    for unit in _normalised(layer):
        scales, variance = unit.scales, unit.rolling_variance
        assert scales is not None
        added = variance + 1e-6 if isinstance(unit, Connected) else variance.double() + 1e-5
        factor = (scales.double() / added.double().sqrt()).float()
        unit.weights.mul_(factor.view(-1, *[1] * (unit.weights.ndim - 1)))
        unit.biases.sub_(unit.rolling_mean * factor)
        _set_statistics(unit, variance=1)


def _set_statistics(layer: Normalised, variance: float) -> None:
    assert layer.scales is not None
    layer.scales.fill_(1)
    layer.rolling_mean.zero_()
    layer.rolling_variance.fill_(variance)


def _rebuilt(network: Network, cfg: Cfg) -> Network:
    """A network of another cfg with the tensors that both have; others have their first values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # they were given when `network` was built
        result = Network(cfg, size=network.size_override).initialise(0)
    for layer, source in zip(result.layers, network.layers, strict=True):
        values = {stored.name: stored.tensor for stored in source.stored()}
        for stored in layer.stored():
            if stored.name in values:
                stored.tensor.copy_(values[stored.name])
    result.seen, result.version, result.names = network.seen, network.version, network.names
    return result.requires_grad_(False).eval()


OPERATIONS: dict[str, Callable[[Network], Network]] = dict(
    zip(REWRITES, (rescale, rgbgr, reset_normalize, denormalize, normalize), strict=True)
)
"""Darknet's word → what it does to a network."""


def backbone(cfg: Cfg, cutoff: int) -> Cfg:
    """The cfg of the layers before `cutoff`.

    Raises:
        DarknetError: it has not so many.
    """
    layers = len(cfg.sections) - 1
    if not 1 <= cutoff <= layers:
        raise DarknetError(f"{cfg.path} has {layers} layers, so {cutoff} cannot be kept; write 1 to {layers}")
    return cfg.upto(cutoff)


@torch.no_grad()
def oneoff(cfg: str | os.PathLike[str], path: str | os.PathLike[str]) -> Network:
    """A YOLO9000 network with the classes of a classifier: from a file that ends with a convolution of N filters, these
    become the filters 5 to 5+N of the last convolution, whose first third is then copied to the others. Its other
    filters have random weights. Darknet knows N = 9372 (AlexeyAB) and 11921 (pjreddie).

    Raises:
        DarknetError: the last layer but one is no convolution without batch norm, or the file does not fit.
    """
    network = Network(parse_cfg(cfg))
    last = network.layers[-2] if len(network.layers) > 1 else None
    if not isinstance(last, Convolutional) or last.shared or last.scales is not None:
        raise DarknetError(f"{cfg}: oneoff needs a [convolutional] without batch norm before the last layer")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* left over after layer", CfgWarning)  # it is read below
        load_weights(network, path, cutoff=last.index)
    header = read_header(path)
    before = sum(stored.tensor.numel() for layer in network.layers[: last.index] for stored in layer.loaded())
    floats = (Path(path).stat().st_size - header.size) // 4 - before
    filters, each = len(last.biases), last.weights[0].numel()
    count = floats // (each + 1)
    if floats % (each + 1) or not 0 < count <= filters - 5:
        raise DarknetError(
            f"{path}: {floats} values are left for layer {last.index}; oneoff needs {each + 1} for each of at most "
            f"{filters - 5} filters"
        )
    values = torch.from_numpy(np.fromfile(path, "<f4", floats, offset=header.size + 4 * before))
    last.biases[5 : 5 + count] = values[:count]
    last.weights.view(filters, -1)[5 : 5 + count] = values[count:].view(count, -1)
    third = filters // 3
    for tensor in (last.biases, last.weights):
        for start in (third, 2 * third):
            tensor[start : start + third] = tensor[:third]
    network.seen = 0
    return network


def operations(network: Network) -> int:
    """Darknet's `ops`: floating-point operations for an image in [convolutional], [connected], [rnn], [gru], [lstm].

    Groups of a convolution do not count, as in AlexeyAB's program; the layer table's BFLOPs heed them.
    """
    total = 0
    for layer in network.layers:
        if isinstance(layer, Convolutional):
            options, shape = layer.options, layer.host_shape
            total += 2 * options.filters * options.size**2 * layer.input.c * shape.h * shape.w
        elif isinstance(layer, (Connected, Rnn, Gru, Lstm)):
            units = [layer, *map(layer.part, layer.parts)]
            total += sum(2 * unit.weights.numel() for unit in units if isinstance(unit, Connected))
    return total


GRU_NAMES = ("Input Z", "Input R", "Input H", "State Z", "State R", "State H")


def statistics(network: Network) -> str:
    """Darknet's `statistics`: of [connected], [gru] and [lstm] with batch norm, the root mean square, mean and variance
    of scales, biases and weights (of these, as many as there are outputs), and an empty line for each layer."""
    lines = []
    for layer in network.layers:
        if isinstance(layer, (Connected, Gru, Lstm)) and _normalised(layer):
            kind = "Connected" if isinstance(layer, Connected) else layer.kind.upper()
            lines.append(f"{kind} Layer {layer.index}")
            names = layer.parts if isinstance(layer, Lstm) else GRU_NAMES if isinstance(layer, Gru) else ()
            for position, unit in enumerate(_normalised(layer)):
                lines += names[position : position + 1]
                outputs = len(unit.biases)
                for title, tensor in (("Scales", unit.scales), ("Biases", unit.biases), ("Weights", unit.weights)):
                    lines.append(_statistics(title, cast(Tensor, tensor).flatten()[:outputs]))
        lines.append("")
    return "\n".join(lines)


def _statistics(title: str, values: Tensor) -> str:
    values = values.detach().double()
    root, variance = values.square().mean().sqrt(), values.var(correction=0)
    return f"{title} MSE: {root:.6f}, Mean: {values.mean():.6f}, Variance: {variance:.6f}"
