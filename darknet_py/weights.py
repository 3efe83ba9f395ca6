"""Darknet's .weights files, and safetensors: into a network and out of it, every byte accounted for.

A .weights file is a header (int32 major, minor, revision; images seen: 64 bits from version 0.2 on, 32 before) and then
float32 values, layer after layer (parser.c:load_weights_upto). What each layer stores, in which order, the layer says: `stored`.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from darknet_py.bundled import or_bundled
from darknet_py.errors import CfgWarning, WeightsError
from darknet_py.files import replacing
from darknet_py.layers import Layer, Stored

if TYPE_CHECKING:
    from darknet_py.network import Network

FLOAT = 4  # bytes


class Header(NamedTuple):
    """The beginning of a .weights file; `size` in bytes."""

    major: int
    minor: int
    revision: int
    seen: int
    size: int

    @property
    def transposed(self) -> bool:
        """Connected layers' weights are stored inputs first (very old programs)."""
        return self.major > 1000 or self.minor > 1000


class Loaded(NamedTuple):
    """What became of one layer: `values` of `needed` floats came from the file; `state` is loaded, fresh, or dontload."""

    index: int  # type: ignore[assignment]  # tuple.index is not missed
    kind: str
    values: int
    needed: int
    state: str


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a .weights file.

    Raises:
        WeightsError: no such file, too short for a header, or not a .weights file at all.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(20)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    if len(data) < 16:
        raise WeightsError(f"{path}: {len(data)} bytes; not even a header (16 bytes) fits; a download that failed?")
    major, minor, revision = struct.unpack("<3i", data[:12])
    if not (0 <= major < 100_000 and 0 <= minor < 100_000 and 0 <= revision < 100_000):
        raise WeightsError(
            f"{path}: not a .weights file: its first bytes {data[:8]!r} are no version number{_guess(data)}"
        )
    if major * 10 + minor >= 2:
        if len(data) < 20:
            raise WeightsError(
                f"{path}: {len(data)} bytes; the header of version {major}.{minor} has 20; a download that failed?"
            )
        return Header(major, minor, revision, struct.unpack("<Q", data[12:20])[0], 20)
    return Header(major, minor, revision, struct.unpack("<I", data[12:16])[0], 16)


def _guess(data: bytes) -> str:
    known = {b"PK": "a zip or PyTorch file", b"<": "a web page", b"[": "a .cfg", b"#": "a text", b"\x89PNG": "a picture", b"\xff\xd8": "a picture",
             b"version https": "a git-lfs pointer", b"\x1f\x8b": "a gzip file"}  # fmt: skip
    return next((f" (this is {what})" for start, what in known.items() if data.lstrip().startswith(start)), "")


def load_weights(network: Network, path: str | os.PathLike[str], *, cutoff: int | None = None) -> list[Loaded]:
    """Fills a network from a .weights or .safetensors file.

    Each tensor is read from the file straight into its place: one copy, no second one in memory.

    Args:
        path: the file; what ends in .safetensors is read as that.
        cutoff: only the layers before this one are read (backbones); the others get fresh weights. A file that holds more than these
            is read in part, with a warning.

    Returns:
        What became of each layer.

    Raises:
        WeightsError: the file is shorter or longer than the layers need; the message says where it ends and why that may be.
    """
    path = or_bundled(path)
    _check_cutoff(path, cutoff)
    if os.fspath(path).endswith(".safetensors"):
        return _load_safetensors(network, path, cutoff)
    header = read_header(path)
    wanted = network.layers[: len(network.layers) if cutoff is None else cutoff]
    _check_size(network, list(wanted), path, header, cutoff)
    with open(path, "rb", buffering=0) as file, torch.no_grad():
        file.seek(header.size)
        for layer in wanted:
            for one in layer.loaded():
                _read_tensor(file, one, header, path)
    network.seen = header.seen
    network.version = header[:3]
    return _report(network, {layer.index for layer in wanted})


def _check_size(
    network: Network, layers: Sequence[Layer], path: str | os.PathLike[str], header: Header, cutoff: int | None
) -> None:
    """Before anything is read: the file holds exactly what the layers need (with a cutoff, at least that)."""
    have = os.path.getsize(path)
    needed = header.size + FLOAT * sum(one.tensor.numel() for layer in layers for one in layer.loaded())
    if have == needed:
        return
    cfg = network.cfg.path
    upto = "" if cutoff is None else f" for the layers before {cutoff}"
    start = f"{path}: {have} bytes, but {cfg} needs {needed}{upto}: "
    if have < needed:
        position = header.size
        for layer in layers:
            for one in layer.loaded():
                end = position + FLOAT * one.tensor.numel()
                if end > have:
                    raise WeightsError(start + _short(network, layer, one, position, have, needed))
                position = end
    rest = f"{_bytes(have - needed)} {'is' if have - needed == 1 else 'are'} left over after layer {layers[-1].index if layers else -1}"
    if cutoff is None:
        raise WeightsError(f"{start}{rest}. Wrong cfg (other classes or filters, or fewer layers)?")
    warnings.warn(f"{path}: {rest}, and not read, as cutoff={cutoff}", CfgWarning, stacklevel=3)


def _short(network: Network, layer: Layer, one: Stored, position: int, have: int, needed: int) -> str:
    if position == have and layer.index == next(one.index for one in network.layers if any(one.loaded())):
        return "the file holds a header and nothing else; a cut-off download?"
    text = f"the file ends {_bytes(needed - have)} early, inside layer {layer.index} ({layer.kind}, {one.name})"
    first = next(layer.loaded())
    if position == have and one.name == first.name:
        return (f"the file ends just before layer {layer.index} ({layer.kind}); "
                f"a backbone? Train from it with --cutoff {layer.index} (load: cutoff={layer.index}). Or another cfg, or a cut-off download")  # fmt: skip
    return f"{text}. Wrong cfg (other classes or filters?), or a cut-off download?"


def _bytes(count: int) -> str:
    return f"{count} byte{'s' * (count != 1)}"


def _check_cutoff(path: str | os.PathLike[str], cutoff: int | None) -> None:
    if cutoff is not None and cutoff < 0:
        raise WeightsError(f"{path}: cutoff={cutoff} is the number of no layer; write 0 or more")


def _read_tensor(file: io.FileIO, one: Stored, header: Header, path: str | os.PathLike[str]) -> None:
    transposed = one.transposed == "always" or (one.transposed == "by header" and header.transposed)
    target = one.tensor.detach()
    direct = target.dtype == torch.float32 and target.device.type == "cpu" and target.is_contiguous() and not transposed
    values = target if direct else torch.empty(target.numel())
    _read_into(file, values, path)
    if transposed:
        target.copy_(values.view(-1, target.shape[0]).t().reshape(target.shape))
    elif values is not target:
        target.copy_(values.view(target.shape))


def _read_into(file: io.FileIO, values: Tensor, path: str | os.PathLike[str]) -> None:
    array = values.numpy().reshape(-1)
    view = array.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise WeightsError(f"{path}: the file became shorter while it was read")
        done += count
    if sys.byteorder == "big":
        array.byteswap(inplace=True)


def _report(network: Network, loaded: set[int], *, everything: bool = False) -> list[Loaded]:
    """Fresh weights for what the file does not hold; a line for each layer that has any. `everything`: the file had all that a layer
    stores, whatever the cfg's dontload says."""
    report = []
    generator = torch.Generator().manual_seed(0)
    for layer in network.layers:
        needed = sum(one.tensor.numel() for one in layer.stored())
        held = list(layer.stored() if everything else layer.loaded()) if layer.index in loaded else []
        given = sum(one.tensor.numel() for one in held)
        if needed and given < needed:
            kept = [one.tensor.clone() for one in layer.loaded()] if given else []
            layer.initialise(generator)
            with torch.no_grad():
                for one, old in zip(layer.loaded(), kept, strict=False):
                    one.tensor.copy_(old)
        if needed:
            state = "loaded" if given == needed else "dontload" if layer.index in loaded else "fresh"
            report.append(Loaded(layer.index, layer.kind, given, needed, state))
    return report


def save_weights(
    network: Network, path: str | os.PathLike[str], *, cutoff: int | None = None, seen: int | None = None
) -> None:
    """Writes a .weights file (.safetensors where the name ends so), beside its place and renamed into it.

    A file that was loaded is written again byte for byte: version, images seen and all.

    Raises:
        WeightsError: the file cannot be written.
    """
    _check_cutoff(path, cutoff)
    if os.fspath(path).endswith(".safetensors"):
        return _save_safetensors(network, path, cutoff, network.seen if seen is None else seen)
    seen = network.seen if seen is None else seen
    major, minor, revision = network.version
    if seen >= 2**32 and major * 10 + minor < 2:  # old headers have no room for it
        major, minor, revision = 0, 2, 5
    layout = "<3iQ" if major * 10 + minor >= 2 else "<3iI"
    transposed = Header(major, minor, revision, seen, 0).transposed
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            file.write(struct.pack(layout, major, minor, revision, seen))
            for one in _stored(network, cutoff):
                values = one.tensor.detach().cpu().float()
                if one.transposed == "always" or (one.transposed == "by header" and transposed):
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
        f"layers.{layer.index}.{one.name}": one.tensor for layer in network.layers[:cutoff] for one in layer.stored()
    }


def _save_safetensors(network: Network, path: str | os.PathLike[str], cutoff: int | None, seen: int) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # one entry, as safetensors writes several in any order: the same network gives the same file
    metadata = {
        "darknet_py": json.dumps({"cfg": "\n".join(network.cfg.lines), "seen": seen, "version": network.version})
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _named(network, cutoff).items()}
    try:
        with replacing(path) as temporary:
            save_file(tensors, os.fspath(temporary), metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot write this file: {getattr(error, 'strerror', None) or error}") from None


def _load_safetensors(network: Network, path: str | os.PathLike[str], cutoff: int | None) -> list[Loaded]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "pt") as file, torch.no_grad():
            names = set(file.keys())
            targets = _named(network, cutoff)
            missing, extra = sorted(set(targets) - names), sorted(names - set(targets))
            if missing or extra:
                what = f"'{missing[0]}' is missing" if missing else f"'{extra[0]}' has no place in it"
                more = len(missing) + len(extra) - 1
                raise WeightsError(
                    f"{path}: does not fit {network.cfg.path}: {what}"
                    + (f" (and {more} more)" if more else "")
                    + "; wrong cfg?"
                )
            for name, target in targets.items():
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(target.shape):
                    raise WeightsError(
                        f"{path}: '{name}' is {shape}, {network.cfg.path} needs {tuple(target.shape)}; wrong cfg?"
                    )
                target.copy_(file.get_tensor(name))
            metadata = file.metadata() or {}
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file: {error}") from None
    if "darknet_py" in metadata:
        try:
            about = json.loads(metadata["darknet_py"])
            major, minor, revision = map(int, about["version"])
            network.version, network.seen = (major, minor, revision), int(about["seen"])
        except (ValueError, KeyError, TypeError):
            raise WeightsError(f"{path}: its metadata are damaged: no version, or no number of images seen") from None
    return _report(network, {int(name.split(".")[1]) for name in targets}, everything=True)


def describe_loaded(report: list[Loaded]) -> str:
    """A table of loaded and fresh layers, runs of one state joined into a line."""
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
    """Bytes of the network's .weights file as this program writes it."""
    return 20 + FLOAT * sum(one.tensor.numel() for one in _stored(network))
