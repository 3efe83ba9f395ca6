""".weights files: the floats stand in Darknet's order, a loaded file is saved again byte for byte, and a wrong one is refused in a sentence."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from kit import KIT, REALDATA, needs_kit, needs_realdata

import darknet_py
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.errors import WeightsError
from darknet_py.network import Network
from darknet_py.weights import Loaded, describe_loaded, load_weights, read_header, save_weights, weights_size

NET = "[net]\nwidth=4\nheight=4\nchannels=3\n"
FLAT = "[net]\ninputs=5\n"
SEEN = 123_456_789


def network(cfg: str) -> Network:
    return Network(parse_text(cfg, "my.cfg"))


def header(version: tuple[int, int, int] = (0, 2, 5), seen: int = SEEN) -> bytes:
    """Version, and images seen: 64 bits from version 0.2 on, 32 before."""
    wide = version[0] * 10 + version[1] >= 2
    return struct.pack("<3iQ" if wide else "<3iI", *version, seen)


def count(one: Network) -> int:
    """Floats of the network's file."""
    return sum(stored.tensor.numel() for layer in one.layers for stored in layer.loaded())


def numbered(path: Path, floats: int, version: tuple[int, int, int] = (0, 2, 5)) -> Path:
    """A file whose floats are 0, 1, 2, …: each value says where it stood."""
    path.write_bytes(header(version) + np.arange(floats, dtype="<f4").tobytes())
    return path


def random_file(path: Path, floats: int, version: tuple[int, int, int] = (0, 2, 5), seed: int = 1) -> bytes:
    """A file of random bits, among them infinities and all kinds of NaN."""
    data = header(version) + np.random.default_rng(seed).bytes(4 * floats)
    path.write_bytes(data)
    return data


def value(one: Network, name: str) -> torch.Tensor:
    """`0.input_layer.biases` → that tensor of layer 0."""
    index, *attributes = name.split(".")
    found = one.layers[int(index)]
    for attribute in attributes:
        found = getattr(found, attribute)
    assert isinstance(found, torch.Tensor)
    return found.detach()


# ---------------------------------------------------------------------------------------------------- order of values


def parts(names: str, fields: str) -> str:
    """The fields of each layer inside a recurrent one."""
    return " ".join(f"0.{part}.{one}" for part in names.split() for one in fields.split())


PLAIN, CONV_BN, CONNECTED_BN = (
    "biases weights",
    "biases scales rolling_mean rolling_variance weights",
    "biases weights scales rolling_mean rolling_variance",
)
ORDER = {  # a network, and its tensors in the order of Darknet's parser.c:load_weights_upto
    "convolutional": (NET + "[convolutional]\nfilters=2\nsize=3\n", "0.biases 0.weights"),
    "convolutional, batch norm": (
        NET + "[convolutional]\nfilters=2\nsize=3\nbatch_normalize=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "convolutional, cbn": (
        NET + "[convolutional]\nfilters=2\ncbn=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "convolutional, groups": (NET + "[convolutional]\nfilters=6\ngroups=3\nsize=2\n", "0.biases 0.weights"),
    "convolutional, xnor": (NET + "[convolutional]\nfilters=2\nsize=3\nxnor=1\n", "0.biases 0.weights"),
    "convolutional, antialiasing": (NET + "[convolutional]\nfilters=2\nstride=2\nantialiasing=1\n", "0.biases 0.weights"),
    "convolutional, shared": (
        NET
        + "[convolutional]\nfilters=3\nbatch_normalize=1\n[convolutional]\nfilters=3\nbatch_normalize=1\nshare_index=0\n[connected]\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights 2.biases 2.weights",
    ),
    "deconvolutional": (NET + "[deconvolutional]\nfilters=2\nsize=2\n", "0.biases 0.weights"),
    "deconvolutional, batch norm": (
        NET + "[deconvolutional]\nfilters=2\nsize=2\nbatch_normalize=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "connected": (FLAT + "[connected]\noutput=3\n", "0.biases 0.weights"),
    "connected, batch norm": (
        FLAT + "[connected]\noutput=3\nbatch_normalize=1\n",
        "0.biases 0.weights 0.scales 0.rolling_mean 0.rolling_variance",
    ),
    "batchnorm": (NET + "[batchnorm]\n", "0.biases 0.scales 0.rolling_mean 0.rolling_variance"),
    "local": (NET + "[local]\nfilters=2\nsize=3\n", "0.biases 0.weights"),
    "shortcut, one weight per source": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\nweights_type=per_feature\n",
        "0.biases 0.weights 1.biases 1.weights 2.weights",
    ),
    "shortcut, one weight per source and channel": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\nweights_type=per_channel\n",
        "0.biases 0.weights 1.biases 1.weights 2.weights",
    ),
    "shortcut without weights": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\n",
        "0.biases 0.weights 1.biases 1.weights",
    ),
    "implicit": (NET + "[implicit]\nfilters=4\natoms=2\n", "0.weights"),
    "rnn": (FLAT + "[rnn]\nhidden=3\noutput=2\n", parts("input_layer self_layer output_layer", PLAIN)),
    "rnn, batch norm": (
        FLAT + "[rnn]\nhidden=3\noutput=2\nbatch_normalize=1\n",
        parts("input_layer self_layer output_layer", CONNECTED_BN),
    ),
    "gru": (FLAT + "[gru]\noutput=3\n", parts("input_z input_r input_h state_z state_r state_h", PLAIN)),
    "gru, batch norm": (
        FLAT + "[gru]\noutput=3\nbatch_normalize=1\n",
        parts("input_z input_r input_h state_z state_r state_h", CONNECTED_BN),
    ),
    "lstm": (FLAT + "[lstm]\noutput=3\n", parts("wf wi wg wo uf ui ug uo", PLAIN)),
    "lstm, batch norm": (FLAT + "[lstm]\noutput=3\nbatch_normalize=1\n", parts("wf wi wg wo uf ui ug uo", CONNECTED_BN)),
    "crnn": (NET + "[crnn]\nhidden=4\noutput=2\npad=1\n", parts("input_layer self_layer output_layer", PLAIN)),
    "crnn, batch norm": (
        NET + "[crnn]\nhidden=4\noutput=2\npad=1\nbatch_normalize=1\n",
        parts("input_layer self_layer output_layer", CONV_BN),
    ),
    "conv_lstm": (NET + "[conv_lstm]\noutput=2\npad=1\n", parts("wf wi wg wo uf ui ug uo", PLAIN)),
    "conv_lstm, peephole and batch norm": (
        NET + "[conv_lstm]\noutput=2\npad=1\npeephole=1\nbatch_normalize=1\n",
        parts("vf vi vo wf wi wg wo uf ui ug uo", CONV_BN),
    ),
    "conv_lstm, bottleneck": (NET + "[conv_lstm]\noutput=3\npad=1\nbottleneck=1\n", parts("wf uf ui ug uo", PLAIN)),
    "conv_lstm, peephole and bottleneck": (
        NET + "[conv_lstm]\noutput=3\npad=1\npeephole=1\nbottleneck=1\n",
        parts("vf vi vo wf uf ui ug uo", PLAIN),
    ),
}
VERSIONS = [(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0), (1001, 0, 0), (0, 1001, 3)]


@pytest.mark.parametrize("kind", ORDER)
def test_floats_stand_in_darknets_order(kind: str, tmp_path: Path) -> None:
    cfg, order = ORDER[kind]
    one = network(cfg)
    load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    position = 0
    for name in order.split():
        values = value(one, name).flatten()
        assert values.tolist() == list(range(position, position + len(values))), name
        position += len(values)
    assert position == count(one), "the file holds more than these tensors"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ORDER)
def test_a_loaded_file_is_saved_byte_for_byte(kind: str, version: tuple[int, int, int], tmp_path: Path) -> None:
    one = network(ORDER[kind][0])
    data = random_file(tmp_path / "my.weights", count(one), version)
    load_weights(one, tmp_path / "my.weights")
    save_weights(one, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == data


def test_a_convolutions_weights_are_filter_channel_row_column(tmp_path: Path) -> None:
    one = network(NET + "[convolutional]\nfilters=2\nsize=2\n")
    load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    first = 2  # after the biases
    assert value(one, "0.weights")[1, 2, 0, 1] == first + 1 * 3 * 4 + 2 * 4 + 0 * 2 + 1


def test_a_connected_layers_weights_are_output_by_output(tmp_path: Path) -> None:
    one = network(FLAT + "[connected]\noutput=3\n")
    load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    assert value(one, "0.weights")[2, 1] == 3 + 2 * 5 + 1


@pytest.mark.parametrize("version", [(1001, 0, 0), (0, 1001, 0)])
@pytest.mark.parametrize("kind", ["connected", "rnn", "gru", "lstm"])
def test_very_old_files_hold_connected_weights_input_by_input(kind: str, version: tuple[int, int, int], tmp_path: Path) -> None:
    cfg, order = ORDER[kind]
    one = network(cfg)
    load_weights(one, numbered(tmp_path / "my.weights", count(one), version))
    name = order.split()[1]
    weights, biases = value(one, name), value(one, order.split()[0])
    expected = len(biases) + torch.arange(weights.numel()).view(weights.shape[1], weights.shape[0]).t()
    assert torch.equal(weights, expected.float())


def test_the_versions_up_to_1000_are_not_transposed(tmp_path: Path) -> None:
    one = network(FLAT + "[connected]\noutput=3\n")
    load_weights(one, numbered(tmp_path / "my.weights", count(one), (1000, 1000, 0)))
    assert value(one, "0.weights")[0].tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", ["filters=2\n", "filters=2\nbatch_normalize=1\n", "filters=6\ngroups=3\n"])
def test_flipped_convolutions_hold_their_weights_transposed(options: str, version: tuple[int, int, int], tmp_path: Path) -> None:
    one = network(NET + f"[convolutional]\n{options}size=2\nflipped=1\n")
    path = numbered(tmp_path / "my.weights", count(one), version)
    load_weights(one, path)
    weights = value(one, "0.weights")
    filters = len(weights)
    start = count(one) - weights.numel()
    expected = start + torch.arange(weights.numel()).view(-1, filters).t().reshape(weights.shape)
    assert torch.equal(weights, expected.float())
    save_weights(one, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


# ------------------------------------------------------------------------------------------------------------ header


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seen", [0, SEEN, 2**32 - 1])
def test_the_header_is_kept(version: tuple[int, int, int], seen: int, tmp_path: Path) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(header(version, seen) + bytes(4 * 5))
    one = network(FLAT + "[implicit]\nfilters=5\n")
    load_weights(one, path)
    assert (one.version, one.seen) == (version, seen)
    assert read_header(path).size == (16 if version == (0, 1, 0) else 20)


def test_images_seen_are_64_bits_from_version_0_2_on(tmp_path: Path) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(header((0, 2, 0), 2**40) + bytes(4 * 5))
    one = network(FLAT + "[implicit]\nfilters=5\n")
    load_weights(one, path)
    assert one.seen == 2**40


def test_a_new_network_is_saved_as_version_0_2_5(tmp_path: Path) -> None:
    one = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    one.save_weights(tmp_path / "my.weights")
    assert (tmp_path / "my.weights").read_bytes()[:20] == header((0, 2, 5), 0)
    assert (tmp_path / "my.weights").stat().st_size == weights_size(one)


def test_seen_can_be_given_when_saving(tmp_path: Path) -> None:
    one = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    save_weights(one, tmp_path / "my.weights", seen=64)
    save_weights(one, tmp_path / "my.safetensors", seen=64)
    for name in ("my.weights", "my.safetensors"):
        again = network(FLAT + "[implicit]\nfilters=5\n")
        load_weights(again, tmp_path / name)
        assert again.seen == 64, name


def test_more_images_than_an_old_header_can_hold_are_no_crash(tmp_path: Path) -> None:
    """A network from a 32-bit file may be trained on; Darknet itself then writes version 0.2.5."""
    one = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    one.version, one.seen = (0, 1, 0), 2**32
    one.save_weights(tmp_path / "my.weights")
    assert read_header(tmp_path / "my.weights").seen == 2**32


# ------------------------------------------------------------------------------- what is not in the file: dontload, cutoff

BACKBONE = NET + textwrap.dedent("""\
    [convolutional]
    filters=2
    batch_normalize=1
    [maxpool]
    [convolutional]
    filters=3
    {}
    [convolutional]
    filters=4
    """)


def states(report: list[Loaded]) -> list[tuple[int, str]]:
    return [(one.index, one.state) for one in report]


def test_every_layer_with_weights_is_reported(tmp_path: Path) -> None:
    one = network(BACKBONE.format(""))
    report = load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    assert report == [
        Loaded(0, "convolutional", 14, 14, "loaded"),
        Loaded(2, "convolutional", 9, 9, "loaded"),
        Loaded(3, "convolutional", 16, 16, "loaded"),
    ]
    assert describe_loaded(report).split() == ["layers", "0-3", "loaded"]


def test_a_layer_with_dontload_takes_nothing_from_the_file(tmp_path: Path) -> None:
    one = network(BACKBONE.format("dontload=1"))
    report = load_weights(one, numbered(tmp_path / "my.weights", 14 + 16))
    assert states(report) == [(0, "loaded"), (2, "dontload"), (3, "loaded")]
    assert value(one, "3.biases").tolist() == [14, 15, 16, 17]
    assert value(one, "2.biases").tolist() == [0, 0, 0], "fresh"
    assert 0 < value(one, "2.weights").abs().max() <= 1, "fresh"


def test_a_layer_with_dontload_is_saved_all_the_same(tmp_path: Path) -> None:
    """parser.c:save_weights_upto knows no dontload; what such a layer has learned would be lost."""
    one = network(BACKBONE.format("dontload=1")).initialise(1)
    save_weights(one, tmp_path / "my.weights")
    again = network(BACKBONE.format(""))
    load_weights(again, tmp_path / "my.weights")
    assert torch.equal(value(again, "2.weights"), value(one, "2.weights"))


@pytest.mark.parametrize("layer", ["convolutional", "connected", "batchnorm"])
def test_a_layer_with_dontloadscales_takes_no_batch_norm_from_the_file(layer: str, tmp_path: Path) -> None:
    normal = "" if layer == "batchnorm" else "batch_normalize=1\n"
    one = network(NET + f"[{layer}]\n{normal}dontloadscales=1\n")
    report = load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    assert states(report) == [(0, "dontload")]
    channels = len(value(one, "0.biases"))
    assert value(one, "0.biases").tolist() == list(range(channels))
    if layer != "batchnorm":
        assert value(one, "0.weights").flatten()[0] == channels, "the weights follow the biases at once"
    assert value(one, "0.scales").tolist() == [1] * channels, "fresh"
    assert value(one, "0.rolling_mean").tolist() == [0] * channels, "fresh"


@pytest.mark.parametrize("cutoff", [0, 1, 2, 3, 4])
def test_a_backbone_ends_before_the_cutoff(cutoff: int, tmp_path: Path) -> None:
    inside = [14, 14, 14 + 9, 14 + 9 + 16]
    floats = inside[cutoff - 1] if cutoff else 0
    one = network(BACKBONE.format(""))
    path = numbered(tmp_path / "my.conv.1", floats)
    report = load_weights(one, path, cutoff=cutoff)
    assert states(report) == [(index, "loaded" if index < cutoff else "fresh") for index in (0, 2, 3)]
    loaded = torch.cat(
        [stored.tensor.detach().flatten() for layer in one.layers[:cutoff] for stored in layer.stored()] or [torch.empty(0)]
    )
    assert loaded.tolist() == list(range(floats))
    for index in (0, 2, 3):
        if index >= cutoff:
            assert value(one, f"{index}.biases").abs().max() == 0, "fresh"
            assert 0 < value(one, f"{index}.weights").abs().max() < 2, "fresh"
    save_weights(one, tmp_path / "again.conv.1", cutoff=cutoff)
    assert (tmp_path / "again.conv.1").read_bytes() == path.read_bytes()


def test_fresh_weights_beside_a_backbone_are_the_same_each_time(tmp_path: Path) -> None:
    path = numbered(tmp_path / "my.conv.1", 14)
    networks = [network(BACKBONE.format("")) for _ in range(2)]
    for one in networks:
        load_weights(one, path, cutoff=2)
    assert torch.equal(value(networks[0], "3.weights"), value(networks[1], "3.weights"))


def test_load_takes_a_cutoff(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(BACKBONE.format(""))
    one = darknet_py.load(tmp_path / "my.cfg", numbered(tmp_path / "my.conv.1", 14), cutoff=1)
    assert value(one, "0.biases").tolist() == [0, 1]


def test_a_cutoff_below_0_is_refused(tmp_path: Path) -> None:
    """Python would count it from the end."""
    one = network(BACKBONE.format("")).initialise(1)
    with pytest.raises(WeightsError, match="cutoff"):
        load_weights(one, numbered(tmp_path / "my.weights", 14 + 9), cutoff=-1)
    with pytest.raises(WeightsError, match="cutoff"):
        save_weights(one, tmp_path / "again.weights", cutoff=-1)


def test_a_report_reads_as_runs_of_layers(tmp_path: Path) -> None:
    one = network(BACKBONE.format(""))
    report = load_weights(one, numbered(tmp_path / "my.conv.3", 14 + 9), cutoff=3)
    assert [line.split() for line in describe_loaded(report).splitlines()] == [["layers", "0-2", "loaded"], ["layer", "3", "fresh"]]


# ------------------------------------------------------------------------------------------------- shared, fused, moved

SHARED = NET + "[convolutional]\nfilters=3\nbatch_normalize=1\n[convolutional]\nfilters=3\nbatch_normalize=1\nshare_index=-1\n"


def test_a_sharer_has_the_others_numbers(tmp_path: Path) -> None:
    one = network(SHARED)
    load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert value(one, f"0.{name}").data_ptr() == value(one, f"1.owner.{name}").data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_sharer_stays_with_the_other_in_another_precision(dtype: torch.dtype) -> None:
    one = network(SHARED).initialise(1).to(dtype)
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert value(one, f"1.owner.{name}").dtype == dtype
        assert value(one, f"0.{name}").data_ptr() == value(one, f"1.owner.{name}").data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["convolutional, batch norm", "connected"])
def test_a_network_in_another_precision_is_loaded_rightly(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    one = network(ORDER[kind][0]).to(dtype)
    load_weights(one, numbered(tmp_path / "my.weights", count(one)))
    values = torch.cat([stored.tensor.detach().flatten() for layer in one.layers for stored in layer.stored()])
    assert values.tolist() == list(range(count(one)))  # up to 256 the floats of 16 bits hold every integer


def test_a_network_in_channels_last_is_loaded_rightly(tmp_path: Path) -> None:
    one = network(NET + "[convolutional]\nfilters=2\nsize=3\n").to(memory_format=torch.channels_last)
    path = numbered(tmp_path / "my.weights", count(one))
    load_weights(one, path)
    assert value(one, "0.weights").flatten().tolist() == list(range(2, 2 + 54))
    save_weights(one, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_a_fused_network_is_neither_loaded_nor_saved(tmp_path: Path) -> None:
    one = network(BACKBONE.format("")).initialise(1)
    path = numbered(tmp_path / "my.weights", count(one))
    one.fuse()
    with pytest.raises(WeightsError, match="fused"):
        load_weights(one, path)
    for name in ("again.weights", "again.safetensors"):
        with pytest.raises(WeightsError, match="fused"):
            save_weights(one, tmp_path / name)
    assert os.listdir(tmp_path) == ["my.weights"]


# -------------------------------------------------------------------------------------------------------- wrong files

ERRORS = NET + "[convolutional]\nfilters=2\nbatch_normalize=1\n[maxpool]\n[convolutional]\nfilters=3\n"  # 14 and 9 floats
NEEDED = 20 + 4 * 23
GOOD = header() + np.arange(23, dtype="<f4").tobytes()
WRONG = {
    "4 bytes short": (
        GOOD[:-4],
        f"{NEEDED - 4} bytes, but my.cfg needs {NEEDED}: the file ends 4 bytes early, inside layer 2 (convolutional, weights). "
        "Wrong cfg (other classes or filters?), or a cut-off download?",
    ),
    "1 byte short": (
        GOOD[:-1],
        f"{NEEDED - 1} bytes, but my.cfg needs {NEEDED}: the file ends 1 byte early, inside layer 2 (convolutional, weights). "
        "Wrong cfg (other classes or filters?), or a cut-off download?",
    ),
    "cut in the middle of a tensor": (
        GOOD[: 20 + 4 * 7],
        f"48 bytes, but my.cfg needs {NEEDED}: the file ends {NEEDED - 48} bytes early, inside layer 0 (convolutional, rolling_variance). "
        "Wrong cfg (other classes or filters?), or a cut-off download?",
    ),
    "cut before a layer": (
        GOOD[: 20 + 4 * 14],
        f"76 bytes, but my.cfg needs {NEEDED}: the file ends just before layer 2 (convolutional); a backbone? Load it with cutoff=2. "
        "Otherwise: another cfg, or a cut-off download",
    ),
    "4 bytes too long": (
        GOOD + bytes(4),
        f"{NEEDED + 4} bytes, but my.cfg needs {NEEDED}: 4 bytes are left over after layer 2. "
        "Wrong cfg (other classes or filters, or fewer layers)?",
    ),
    "empty": (b"", "0 bytes; not even a header (16 bytes) fits; a download that failed?"),
    "10 bytes": (GOOD[:10], "10 bytes; not even a header (16 bytes) fits; a download that failed?"),
    "18 bytes": (GOOD[:18], "18 bytes; the header of version 0.2 has 20; a download that failed?"),
    "a PNG picture": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01",
        r"not a .weights file: its first bytes b'\x89PNG\r\n\x1a\n' are no version number (this is a picture)",
    ),
    "a JPEG picture": (
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
        r"not a .weights file: its first bytes b'\xff\xd8\xff\xe0\x00\x10JF' are no version number (this is a picture)",
    ),
    "a zip": (
        b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(20),
        r"not a .weights file: its first bytes b'PK\x03\x04\x14\x00\x00\x00' are no version number (this is a zip or PyTorch file)",
    ),
    "a web page": (
        b"\n<!DOCTYPE html>\n<html><head>",
        r"not a .weights file: its first bytes b'\n<!DOCTY' are no version number (this is a web page)",
    ),
    "a git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
        "not a .weights file: its first bytes b'version ' are no version number (this is a git-lfs pointer)",
    ),
    "a cfg": (
        b"[net]\nwidth=416\nheight=416\n",
        r"not a .weights file: its first bytes b'[net]\nwi' are no version number (this is a .cfg)",
    ),
    "a gzip": (
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(20),
        r"not a .weights file: its first bytes b'\x1f\x8b\x08\x00\x00\x00\x00\x00' are no version number (this is a gzip file)",
    ),
    "something else": (
        bytes(range(100, 140)),
        "not a .weights file: its first bytes b'defghijk' are no version number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    data, message = WRONG[what]
    path = tmp_path / "my.weights"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as error:
        load_weights(network(ERRORS), path)
    assert str(error.value) == f"{path}: {message}"


def test_nothing_is_loaded_from_a_wrong_file(tmp_path: Path) -> None:
    one = network(ERRORS).initialise(1)
    before = value(one, "0.weights").clone()
    (tmp_path / "my.weights").write_bytes(GOOD[:-4])
    with pytest.raises(WeightsError):
        load_weights(one, tmp_path / "my.weights")
    assert torch.equal(value(one, "0.weights"), before)
    assert one.seen == 0


def test_a_header_alone_is_no_backbone(tmp_path: Path) -> None:
    """`cutoff=0` would load nothing at all: no advice."""
    (tmp_path / "my.weights").write_bytes(header())
    with pytest.raises(WeightsError) as error:
        load_weights(network(ERRORS), tmp_path / "my.weights")
    assert "cutoff" not in str(error.value)


def test_the_message_counts_up_to_the_cutoff(tmp_path: Path) -> None:
    (tmp_path / "my.weights").write_bytes(GOOD)
    with pytest.raises(WeightsError) as error:
        load_weights(network(ERRORS), tmp_path / "my.weights", cutoff=1)
    assert str(error.value) == (
        f"{tmp_path / 'my.weights'}: {NEEDED} bytes, but my.cfg needs 76 for the layers before 1: 36 bytes are left over after layer 0. "
        "Another cfg, or cutoff=1 is too small?"
    )


@pytest.mark.parametrize("ending", ["weights", "safetensors"])
@pytest.mark.parametrize("name", ["missing", "folder", "missing/my"])
def test_a_file_that_cannot_be_read_is_named(name: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"folder.{ending}").mkdir()
    path = tmp_path / f"{name}.{ending}"
    with pytest.raises(WeightsError, match=re.escape(f"{path}: cannot read this file: ")):
        load_weights(network(ERRORS), path)


@needs_kit
def test_another_models_weights_are_refused() -> None:
    real = KIT / "real"
    cfg = next((real / "yolo-fastest-1.1").glob("*.cfg"))
    weights = next((real / "yolo-fastest-1.1-xl").glob("*.weights"))
    with pytest.raises(
        WeightsError, match=re.escape(f"{weights}: 3693964 bytes, but {cfg} needs 1384268: 2309696 bytes are left over")
    ):
        darknet_py.load(cfg, weights)
    with pytest.raises(WeightsError, match=r"ends \d+ bytes early, inside layer \d+ \(convolutional, \w+\)"):
        darknet_py.load(next((real / "yolo-fastest-1.1-xl").glob("*.cfg")), next((real / "yolo-fastest-1.1").glob("*.weights")))


# ---------------------------------------------------------------------------------------------------- writing that fails


def saved(path: Path) -> bytes:
    """A good file at this place, as it was before a writing that fails."""
    network(ERRORS).initialise(1).save_weights(path)
    return path.read_bytes()


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file can grow beyond `largest` bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    old = saved(tmp_path / name)
    large = network(NET + "[connected]\noutput=5000\n").initialise(1)  # 980 kB
    with full_disk(100_000), pytest.raises(WeightsError, match=re.escape(f"{tmp_path / name}: cannot write this file: ")):
        large.save_weights(tmp_path / name)
    assert (tmp_path / name).read_bytes() == old
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_a_failure_at_the_last_moment_leaves_the_old_file(
    failure: BaseException, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved(tmp_path / name)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WeightsError if isinstance(failure, OSError) else KeyboardInterrupt):
        network(ERRORS).initialise(2).save_weights(tmp_path / name)
    assert (tmp_path / name).read_bytes() == old
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_folder_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / name
    with pytest.raises(WeightsError, match=re.escape(f"{path}: cannot write this file: ")):
        network(ERRORS).initialise(1).save_weights(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_folder_in_the_files_place_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(WeightsError, match="cannot write this file"):
        network(ERRORS).initialise(1).save_weights(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_place_that_has_no_name_is_refused(name: str) -> None:
    with pytest.raises(WeightsError):
        network(ERRORS).initialise(1).save_weights(name)


# ------------------------------------------------------------------------------------------------------- safetensors


@pytest.mark.parametrize("kind", ORDER)
def test_safetensors_keep_every_number(kind: str, tmp_path: Path) -> None:
    one = network(ORDER[kind][0])
    data = random_file(tmp_path / "my.weights", count(one), (0, 1, 0))
    load_weights(one, tmp_path / "my.weights")
    one.save_weights(tmp_path / "my.safetensors")
    again = network(ORDER[kind][0])
    report = load_weights(again, tmp_path / "my.safetensors")
    assert {layer.state for layer in report} == {"loaded"}
    again.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == data


@pytest.mark.parametrize("option", ["dontload=1", "dontloadscales=1"])
def test_safetensors_hold_layers_that_a_weights_file_leaves_out(option: str, tmp_path: Path) -> None:
    cfg = NET + f"[convolutional]\nfilters=2\nbatch_normalize=1\n{option}\n"
    one = network(cfg).initialise(1)
    one.layers[0].rolling_mean += 5
    one.save_weights(tmp_path / "my.safetensors")
    again = network(cfg)
    load_weights(again, tmp_path / "my.safetensors")
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert torch.equal(value(again, f"0.{name}"), value(one, f"0.{name}")), name


def test_safetensors_are_named_by_layer(tmp_path: Path) -> None:
    network(FLAT + "[rnn]\n").initialise(1).save_weights(tmp_path / "my.safetensors")
    names = set(safetensors.load_file(tmp_path / "my.safetensors"))
    assert names == {f"layers.0.{part}.{one}" for part in ("input", "self", "output") for one in ("biases", "weights")}


def test_safetensors_of_a_backbone(tmp_path: Path) -> None:
    one = network(BACKBONE.format("")).initialise(1)
    one.save_weights(tmp_path / "my.safetensors", cutoff=2)
    again = network(BACKBONE.format(""))
    report = load_weights(again, tmp_path / "my.safetensors", cutoff=2)
    assert states(report) == [(0, "loaded"), (2, "fresh"), (3, "fresh")]
    assert torch.equal(value(one, "0.weights"), value(again, "0.weights"))


def write_safetensors(path: Path, change: str) -> None:
    """A file for ERRORS with one thing wrong."""
    network(ERRORS).initialise(1).save_weights(path)
    tensors, metadata = safetensors.load_file(path), {"cfg": "", "version": [0, 2, 5], "seen": 7}
    if change == "a tensor is missing":
        del tensors["layers.2.weights"]
    elif change == "a tensor too many":
        tensors["layers.3.weights"] = torch.zeros(1)
    elif change == "a tensor of another shape":
        tensors["layers.2.weights"] = torch.zeros(3, 2)
    elif change == "no version":
        del metadata["version"]
    elif change == "no seen":
        del metadata["seen"]
    elif change == "a version of words":
        metadata["version"] = "new"
    safetensors.save_file(tensors, path, {"darknet_py": json.dumps(metadata)})
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif change == "only the beginning":
        path.write_bytes(path.read_bytes()[:7])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "a .weights file":
        path.write_bytes(GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a tensor is missing", "does not fit my.cfg: 'layers.2.weights' is missing; wrong cfg?"),
        ("a tensor too many", "does not fit my.cfg: 'layers.3.weights' has no place in it; wrong cfg?"),
        ("a tensor of another shape", "'layers.2.weights' is (3, 2), my.cfg needs (3, 2, 1, 1); wrong cfg?"),
        ("truncated", "not a safetensors file: "),
        ("only the beginning", "not a safetensors file: "),
        ("empty", "not a safetensors file: "),
        ("a .weights file", "not a safetensors file: "),
        ("no version", ""),
        ("no seen", ""),
        ("a version of words", ""),
    ],
)
def test_wrong_safetensors_are_refused_in_a_sentence(change: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    write_safetensors(path, change)
    with pytest.raises(WeightsError, match=re.escape(f"{path}: {message}")):
        load_weights(network(ERRORS), path)


def test_safetensors_of_another_program_may_lack_metadata(tmp_path: Path) -> None:
    one = network(ERRORS).initialise(1)
    one.save_weights(tmp_path / "my.safetensors")
    safetensors.save_file(safetensors.load_file(tmp_path / "my.safetensors"), tmp_path / "bare.safetensors")
    again = network(ERRORS)
    load_weights(again, tmp_path / "bare.safetensors")
    assert torch.equal(value(again, "2.weights"), value(one, "2.weights"))
    assert (again.version, again.seen) == ((0, 2, 5), 0)


# -------------------------------------------------------------------------------------------------------- real files


def models(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.weights"))


@needs_kit
@pytest.mark.parametrize("weights", models(KIT / "real"), ids=lambda path: path.parent.name)
def test_a_real_file_is_saved_byte_for_byte(weights: Path, tmp_path: Path) -> None:
    one = darknet_py.load(next(weights.parent.glob("*.cfg")), weights)
    one.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == weights.read_bytes()


@needs_realdata
@pytest.mark.parametrize("weights", models(REALDATA / "weights"), ids=lambda path: path.parent.name)
def test_a_real_file_beside_the_kit_is_saved_byte_for_byte(weights: Path, tmp_path: Path) -> None:
    test_a_real_file_is_saved_byte_for_byte(weights, tmp_path)


@needs_realdata
@pytest.mark.parametrize("name", ["yolo-fastest.conv.109", "mobilenetv2-yolo-fastest.conv.57"])
def test_a_real_backbone_is_loaded_as_the_message_advises(name: str, tmp_path: Path) -> None:
    folder = REALDATA / "weights" / name
    weights = next(path for path in folder.iterdir() if ".conv." in path.name)
    cfg = next(folder.glob("*.cfg"))
    with pytest.raises(WeightsError) as error:
        darknet_py.load(cfg, weights)
    advice = re.search(r"cutoff=(\d+)", str(error.value))
    assert advice, str(error.value)
    cutoff = int(advice[1])
    one = Network(parse_cfg(cfg))
    report = load_weights(one, weights, cutoff=cutoff)
    assert {layer.state for layer in report if layer.index < cutoff} == {"loaded"}
    assert {layer.state for layer in report if layer.index >= cutoff} == {"fresh"}
    one.save_weights(tmp_path / "again", cutoff=cutoff)
    assert (tmp_path / "again").read_bytes() == weights.read_bytes()
    assert all(torch.isfinite(parameter).all() for parameter in one.parameters())


# ------------------------------------------------------------------------------------------------------------ memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1, 0)])
def test_loading_takes_no_more_memory_than_the_file(version: tuple[int, int, int], tmp_path: Path) -> None:
    """No second copy, not even of one tensor: 96 MB may cost 1.2 times as much. VmHWM is the largest resident size so far."""
    (tmp_path / "my.cfg").write_text("[net]\ninputs=4900\n[connected]\noutput=4900\n")
    with open(tmp_path / "my.weights", "wb") as file:
        file.write(header(version) + np.ones(4900 + 4900 * 4900, dtype="<f4").tobytes())
    script = textwrap.dedent("""\
        from darknet_py.cfg import parse_cfg
        from darknet_py.network import Network
        from darknet_py.weights import load_weights

        def kilobytes(name):
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

        network = Network(parse_cfg("my.cfg"))
        before = kilobytes("VmRSS")
        load_weights(network, "my.weights")
        print(kilobytes("VmHWM") - before)
        """)
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    size = (tmp_path / "my.weights").stat().st_size
    assert size > 95_000_000
    assert int(run.stdout) * 1024 < 1.2 * size
