"""Darknet's .weights files, safetensors and state_dicts: into a network and out of it; a file must fit it exactly.

A .weights file is a header (int32 major, minor, revision; images seen: 64 bits from version 0.2 on, 32 before), then
float32 values, layer by layer (parser.c:load_weights_upto). Each layer's `stored` lists its tensors in file order.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from darknet_py.bundled import or_bundled
from darknet_py.errors import CfgWarning, WeightsError
from darknet_py.files import open_file, replacing
from darknet_py.keys import own_tensors
from darknet_py.layers import Layer, Stored
from darknet_py.layers.channels import deciding
from darknet_py.metadata import MAX_VERSION, About, is_safetensors, open_weights, read_about
from darknet_py.pickled import read_pickled
from darknet_py.state_dict import is_state_dict, save_state_dict

if TYPE_CHECKING:
    from darknet_py.network import Network

FLOAT = 4  # bytes
MAX_NAMED = 8  # layers in a message
SIGNATURES = {
    b"PK": "a zip or PyTorch file; the weights of a NAME_last.checkpoint are in NAME_last.weights",
    b"<": "a web page",
    b"[": "a .cfg",
    b"#": "a text file",
    b"\x89PNG": "an image",
    b"\xff\xd8": "an image",
    b"version https": "a git-lfs pointer",
    b"\x1f\x8b": "a gzip file",
}
"""The first bytes of files that are mistaken for .weights files."""


class Header(NamedTuple):
    """The beginning of a .weights file; `size` in bytes."""

    major: int
    minor: int
    revision: int
    seen: int
    size: int

    @property
    def transposed(self) -> bool:
        """Connected layers' weights are stored transposed, inputs first (files of very old programs)."""
        return self.major > 1000 or self.minor > 1000


class Loaded(NamedTuple):
    """How a layer was loaded: `values` of `needed` floats came from the file; `state`: loaded, fresh, or dontload."""

    index: int  # type: ignore[assignment]  # tuple.index is not missed
    kind: str
    values: int
    needed: int
    state: str


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a .weights file.

    Raises:
        WeightsError: there is no such file, it is too short for a header, or it is not a .weights file.
    """
    with open_weights(path) as file:
        data = file.read(20)
    if len(data) < 16:
        raise WeightsError(
            f"{path}: {len(data)} bytes; too short even for the header (16 bytes); did the download fail?"
        )
    major, minor, revision = struct.unpack("<3i", data[:12])
    if not all(0 <= number <= MAX_VERSION for number in (major, minor, revision)):
        raise WeightsError(
            f"{path}: not a .weights file: its first bytes {data[:8]!r} are not a version number{_guess(data)}"
        )
    if major * 10 + minor >= 2:
        if len(data) < 20:
            raise WeightsError(
                f"{path}: {len(data)} bytes; the header of version {major}.{minor} has 20; did the download fail?"
            )
        return Header(major, minor, revision, struct.unpack("<Q", data[12:20])[0], 20)
    return Header(major, minor, revision, struct.unpack("<I", data[12:16])[0], 16)


def _guess(data: bytes) -> str:
    """What the file is instead, from its first bytes."""
    return next((f" (this is {what})" for start, what in SIGNATURES.items() if data.lstrip().startswith(start)), "")


def load_weights(
    network: Network, path: str | os.PathLike[str], *, cutoff: int | None = None, fresh: bool = True
) -> list[Loaded]:
    """Fills a network from a file of weights.

    Tensors of a .weights file are read directly into the network, without a second copy in memory. What a .safetensors
    file says of the class names becomes `network.names`.

    Args:
        path: a .weights file, or by its extension a .safetensors file, or a PyTorch state_dict (.pt, .pth).
        cutoff: read only the layers before this one (a backbone). If the file holds more than these layers, the rest
            is not read, with a warning.
        fresh: what is not read gets fresh weights; False: it stays as it is.

    Returns:
        How each layer with weights was loaded.

    Raises:
        WeightsError: the file is shorter or longer than the layers need; the message says where, and why that may be.
    """
    path = or_bundled(path)
    _check_cutoff(path, cutoff)
    complete = is_safetensors(path) or is_state_dict(path)
    if is_safetensors(path):
        loaded = _load_safetensors(network, path, cutoff)
    elif is_state_dict(path):
        loaded = _load_state_dict(network, path, cutoff)
    else:
        loaded = _load_darknet(network, path, cutoff)
    _warn_of_non_finite(network, path, loaded)
    return _report(network, loaded, complete=complete, fresh=fresh)


def _load_darknet(network: Network, path: str | os.PathLike[str], cutoff: int | None) -> set[int]:
    """Reads a .weights file. Returns the indices of the layers."""
    header = read_header(path)
    wanted = network.layers[: len(network.layers) if cutoff is None else cutoff]
    _check_size(network, list(wanted), path, header, cutoff)
    with open_file(path) as file, torch.no_grad():
        file.seek(header.size)
        for layer in wanted:
            for stored in layer.loaded():
                _read_tensor(file, stored, header, path)
    network.seen = header.seen
    network.version = header[:3]
    return {layer.index for layer in wanted}


def _check_size(
    network: Network, layers: Sequence[Layer], path: str | os.PathLike[str], header: Header, cutoff: int | None
) -> None:
    """Checks before reading that the file has exactly the size that the layers need (with a cutoff, at least that)."""
    have = os.path.getsize(path)
    needed = header.size + FLOAT * sum(stored.tensor.numel() for layer in layers for stored in layer.loaded())
    if have == needed:
        return
    cfg = network.cfg.path
    upto = "" if cutoff is None else f" for the layers before {cutoff}"
    start = f"{path}: {have} bytes, but {cfg} needs {needed}{upto}: "
    if have < needed:
        position = header.size
        for layer in layers:
            for stored in layer.loaded():
                end = position + FLOAT * stored.tensor.numel()
                if end > have:
                    raise WeightsError(start + _short(network, layer, stored, position, have, needed))
                position = end
    last = layers[-1].index if layers else -1
    rest = f"{_bytes(have - needed)} {'is' if have - needed == 1 else 'are'} left over after layer {last}"
    if cutoff is None:
        raise WeightsError(
            f"{start}{rest}. Wrong cfg (other classes or filters, or fewer layers)?{_other_classes(network, have)}"
        )
    warnings.warn(f"{path}: {rest}, not read because of cutoff={cutoff}", CfgWarning, stacklevel=3)


def _short(network: Network, layer: Layer, stored: Stored, position: int, have: int, needed: int) -> str:
    """Why a file ends too early: inside the tensor `stored`, which begins at the byte `position`."""
    if position == have and layer.index == next(first.index for first in network.layers if any(first.loaded())):
        return "the file has a header and nothing else; was the download cut off?"
    text = f"the file ends {_bytes(needed - have)} early, inside layer {layer.index} ({layer.kind}, {stored.name})"
    first = next(layer.loaded())
    if position == have and stored.name == first.name:
        return (
            f"the file ends just before layer {layer.index} ({layer.kind}). If it is a backbone, train from it with "
            f"--cutoff {layer.index} (load: cutoff={layer.index}); or else wrong cfg, or a cut-off download?"
        )
    return f"{text}. Wrong cfg (other classes or filters), or a cut-off download?{_other_classes(network, have)}"


def _other_classes(network: Network, have: int) -> str:
    """What to do with weights of other classes, where a file has all that comes before the number of classes matters:
    up to the first layer that decides about the channels of the first head, or a classifier's last one with weights."""
    layers = network.layers
    if network.heads:
        cutoff = min((one.index for one in deciding(layers, layers[network.heads[0]].source_indices[0])), default=0)
    else:
        cutoff = max((layer.index for layer in layers if any(layer.loaded())), default=0)
    before = sum(stored.tensor.numel() for layer in layers[:cutoff] for stored in layer.loaded())
    if not before or have < FLOAT * before:
        return ""
    return f" To train from weights of other classes, load the layers before the classes: --cutoff {cutoff}"


def _bytes(count: int) -> str:
    return f"{count} byte{'s' * (count != 1)}"


def _check_cutoff(path: str | os.PathLike[str], cutoff: int | None) -> None:
    if cutoff is not None and cutoff < 0:
        raise WeightsError(f"{path}: cutoff={cutoff} is not a layer number; write 0 or more")


def _read_tensor(file: io.FileIO, stored: Stored, header: Header, path: str | os.PathLike[str]) -> None:
    transposed = _is_transposed(stored, header)
    target = stored.tensor.detach()
    direct = target.dtype == torch.float32 and target.device.type == "cpu" and target.is_contiguous() and not transposed
    values = target if direct else torch.empty(target.numel())
    _read_into(file, values, path)
    if transposed:
        target.copy_(values.view(-1, target.shape[0]).t().reshape(target.shape))
    elif values is not target:
        target.copy_(values.view(target.shape))


def _is_transposed(stored: Stored, header: Header) -> bool:
    return stored.transposed == "always" or (stored.transposed == "by header" and header.transposed)


def _read_into(file: io.FileIO, values: Tensor, path: str | os.PathLike[str]) -> None:
    array = values.numpy().reshape(-1)
    view = array.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise WeightsError(f"{path}: the file shrank while it was being read")
        done += count
    if sys.byteorder == "big":
        array.byteswap(inplace=True)


def _report(network: Network, loaded: set[int], *, complete: bool, fresh: bool) -> list[Loaded]:
    """Lists the layers that have weights.

    loaded: the layers that were read. complete: all that they store was in the file, whatever the cfg's dontload says.
    fresh: what the file does not hold gets fresh weights.
    """
    report = []
    generator = torch.Generator().manual_seed(0)
    for layer in network.layers:
        needed = sum(stored.tensor.numel() for stored in layer.stored())
        in_file = list(layer.stored() if complete else layer.loaded()) if layer.index in loaded else []
        count = sum(stored.tensor.numel() for stored in in_file)
        if fresh and count < needed:
            kept = [stored.tensor.clone() for stored in in_file]
            layer.initialise(generator)
            with torch.no_grad():
                for stored, values in zip(in_file, kept, strict=True):
                    stored.tensor.copy_(values)
        if needed:
            state = "loaded" if count == needed else "dontload" if layer.index in loaded else "fresh"
            report.append(Loaded(layer.index, layer.kind, count, needed, state))
    return report


def _warn_of_non_finite(network: Network, path: str | os.PathLike[str], loaded: set[int]) -> None:
    """Such weights are usually left by a training whose loss was no number."""
    found = []
    for layer in (layer for layer in network.layers if layer.index in loaded):
        tensors = (stored.tensor.detach() for stored in layer.stored())
        # a sum takes no memory, but may overflow
        count = sum(int((~tensor.isfinite()).sum()) for tensor in tensors if not tensor.sum().isfinite())
        if count:
            found.append(f"layer {layer.index} ({layer.kind}) {count}")
    if found:
        more = f" and {len(found) - MAX_NAMED} more layers" if len(found) > MAX_NAMED else ""
        text = f"weights that are not finite: {', '.join(found[:MAX_NAMED])}{more}"
        text = f"{path}: {text}; was the loss of the training not a number?"
        warnings.warn(text, CfgWarning, stacklevel=4)


def save_weights(
    network: Network, path: str | os.PathLike[str], *, cutoff: int | None = None, seen: int | None = None
) -> None:
    """Writes a .weights file, or by the extension a .safetensors file, or a PyTorch state_dict (.pt, .pth), which keeps
    the tensors alone. It has a temporary name until it is complete.

    A network that was loaded from a .weights or .safetensors file is written as the same bytes, header included.

    Args:
        cutoff: only the layers before this one. seen: number of training images in the header; None: the network's.

    Raises:
        WeightsError: the file cannot be written.
    """
    _check_cutoff(path, cutoff)
    if is_safetensors(path):
        return _save_safetensors(network, path, cutoff, network.seen if seen is None else seen)
    if is_state_dict(path):
        return save_state_dict(_state(network, cutoff), path)
    seen = network.seen if seen is None else seen
    major, minor, revision = network.version
    if seen >= 2**32 and major * 10 + minor < 2:  # old headers have no room for it
        major, minor, revision = 0, 2, 5
    layout = "<3iQ" if major * 10 + minor >= 2 else "<3iI"
    header = Header(major, minor, revision, seen, 0)
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            file.write(struct.pack(layout, major, minor, revision, seen))
            for stored in _stored(network, cutoff):
                values = stored.tensor.detach().cpu().float()
                if _is_transposed(stored, header):
                    values = values.flatten(1).t()
                file.write(values.contiguous().numpy().astype("<f4", copy=False).tobytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot write this file: {error.strerror or error}") from None


def _stored(network: Network, cutoff: int | None = None) -> Iterator[Stored]:
    for layer in network.layers[:cutoff]:
        if not layer.options.dontsave:
            yield from layer.stored()


def _named(network: Network, cutoff: int | None) -> dict[str, Tensor]:
    """`layers.0.weights` → tensor."""
    return {
        f"layers.{layer.index}.{stored.name}": stored.tensor
        for layer in network.layers[:cutoff]
        for stored in layer.stored()
    }


def _save_safetensors(network: Network, path: str | os.PathLike[str], cutoff: int | None, seen: int) -> None:
    about = About(network.cfg.text, network.cfg.attached, network.names, network.version, seen)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _named(network, cutoff).items()}
    try:
        with replacing(path) as temporary:
            temporary.touch()  # with the usual permissions; the library's are for the owner alone
            mode = temporary.stat().st_mode
            save_file(tensors, os.fspath(temporary), about.metadata())
            temporary.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot write this file: {getattr(error, 'strerror', None) or error}") from None


def _load_safetensors(network: Network, path: str | os.PathLike[str], cutoff: int | None) -> set[int]:
    try:
        open_file(path).close()
        with safe_open(os.fspath(path), "pt") as file, torch.no_grad():
            names = set(file.keys())
            targets = _named(network, cutoff)
            _check_names(network, path, set(targets), names, cutoff)
            for name, target in targets.items():
                _check_shape(network, path, name, file.get_slice(name).get_shape(), target)
                values = file.get_tensor(name)
                if not values.is_floating_point():
                    raise WeightsError(f"{path}: '{name}' has values of type {values.dtype}; weights are floats")
                target.copy_(values)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file: {error}") from None
    if (about := read_about(path)) is not None:
        network.version, network.seen, network.names = about.version, about.seen, about.names or network.names
    return {int(name.split(".")[1]) for name in targets}


def _load_state_dict(network: Network, path: str | os.PathLike[str], cutoff: int | None) -> set[int]:
    values, targets = read_pickled(path), _state(network, cutoff)
    if not any(_layer_of(name) >= 0 for name in values):
        values = own_tensors(network, values, path, cutoff)
    _check_names(network, path, set(targets), set(values), cutoff)
    for name, target in targets.items():
        _check_shape(network, path, name, values[name].shape, target)
        if not values[name].is_floating_point() or values[name].layout != torch.strided:
            raise WeightsError(f"{path}: '{name}' is not a tensor of floats, but {values[name].type()}")
        target.copy_(values[name])
    return {int(name.split(".")[1]) for name in targets}


def _state(network: Network, cutoff: int | None) -> dict[str, Tensor]:
    """`layers.0.weights` → tensor, by the names of `network.state_dict()`."""
    state = network.state_dict()
    return {name: state[name] for name in state if cutoff is None or _layer_of(name) < cutoff}


def _check_names(
    network: Network, path: str | os.PathLike[str], needed: set[str], found: set[str], cutoff: int | None
) -> None:
    """Tensors of layers from `cutoff` on may be left over."""
    missing, extra = sorted(needed - found), sorted(found - needed)
    later = [name for name in extra if cutoff is not None and _layer_of(name) >= cutoff]
    extra = [name for name in extra if name not in set(later)]
    if missing or extra:
        what = f"'{missing[0]}' is missing" if missing else f"'{extra[0]}' is not part of the network"
        others = len(missing) + len(extra) - 1
        more = f" (and {others} more)" if others else ""
        raise WeightsError(f"{path}: does not fit {network.cfg.path}: {what}{more}; wrong cfg?")
    if later:
        text = f"{path}: {len(later)} tensors are left over, not read because of cutoff={cutoff}"
        warnings.warn(text, CfgWarning, stacklevel=5)


def _layer_of(name: str) -> int:
    """The layer of a tensor `layers.81.weights`; -1: it is none."""
    match = re.match(r"layers\.(\d{1,9})\.", name)
    return int(match[1]) if match else -1


def _check_shape(
    network: Network, path: str | os.PathLike[str], name: str, shape: Sequence[int], target: Tensor
) -> None:
    if tuple(shape) != tuple(target.shape):
        raise WeightsError(
            f"{path}: '{name}' is {tuple(shape)}, {network.cfg.path} needs {tuple(target.shape)}; wrong cfg?"
        )


def describe_loaded(report: list[Loaded]) -> str:
    """A table of what `load_weights` returned; consecutive layers of the same state share a line."""
    lines = []
    for first, last in _runs(report):
        name = f"layer {first.index}" if first is last else f"layers {first.index}-{last.index}"
        lines.append(f"{name:>16}  {first.state}")
    return "\n".join(lines)


def _runs(report: list[Loaded]) -> Iterator[tuple[Loaded, Loaded]]:
    start = 0
    for position in range(1, len(report) + 1):
        if position == len(report) or report[position].state != report[start].state:
            yield report[start], report[position - 1]
            start = position


def weights_size(network: Network) -> int:
    """Size in bytes of the network's .weights file as this program writes it."""
    return 20 + FLOAT * sum(stored.tensor.numel() for stored in _stored(network))
