""".weights files: the floats stand in Darknet's order, and a loaded file is saved again byte for byte."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import KIT, REALDATA, needs_kit, needs_realdata
from project import python
from weight_files import BACKBONE, FLAT, NET, ORDER, SEEN, count, header, network, numbered, random_file, states, value

import darknet_py
from darknet_py.cfg import parse_cfg
from darknet_py.errors import WeightsError
from darknet_py.inference.deploy import deployed
from darknet_py.network import Network
from darknet_py.weights import Loaded, describe_loaded, load_weights, read_header, save_weights, weights_size

VERSIONS = [(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0), (1001, 0, 0), (0, 1001, 3)]


# ----------------------------------------------------------------------------------------------------- order of values


@pytest.mark.parametrize("kind", ORDER)
def test_floats_stand_in_darknets_order(kind: str, tmp_path: Path) -> None:
    cfg, order = ORDER[kind]
    model = network(cfg)
    load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    position = 0
    for name in order.split():
        values = value(model, name).flatten()
        assert values.tolist() == list(range(position, position + len(values))), name
        position += len(values)
    assert position == count(model), "the file holds more than these tensors"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ORDER)
def test_a_loaded_file_is_saved_byte_for_byte(kind: str, version: tuple[int, int, int], tmp_path: Path) -> None:
    model = network(ORDER[kind][0])
    data = random_file(tmp_path / "my.weights", count(model), version)
    load_weights(model, tmp_path / "my.weights")
    save_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == data


def test_a_convolutions_weights_are_filter_channel_row_column(tmp_path: Path) -> None:
    model = network(NET + "[convolutional]\nfilters=2\nsize=2\n")
    load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    first = 2  # after the biases
    assert value(model, "0.weights")[1, 2, 0, 1] == first + 1 * 3 * 4 + 2 * 4 + 0 * 2 + 1


def test_a_connected_layers_weights_are_output_by_output(tmp_path: Path) -> None:
    model = network(FLAT + "[connected]\noutput=3\n")
    load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    assert value(model, "0.weights")[2, 1] == 3 + 2 * 5 + 1


@pytest.mark.parametrize("version", [(1001, 0, 0), (0, 1001, 0)])
@pytest.mark.parametrize("kind", ["connected", "rnn", "gru", "lstm"])
def test_very_old_files_hold_connected_weights_input_by_input(
    kind: str, version: tuple[int, int, int], tmp_path: Path
) -> None:
    cfg, order = ORDER[kind]
    model = network(cfg)
    load_weights(model, numbered(tmp_path / "my.weights", count(model), version))
    name = order.split()[1]
    weights, biases = value(model, name), value(model, order.split()[0])
    expected = len(biases) + torch.arange(weights.numel()).view(weights.shape[1], weights.shape[0]).t()
    assert torch.equal(weights, expected.float())


def test_the_versions_up_to_1000_are_not_transposed(tmp_path: Path) -> None:
    model = network(FLAT + "[connected]\noutput=3\n")
    load_weights(model, numbered(tmp_path / "my.weights", count(model), (1000, 1000, 0)))
    assert value(model, "0.weights")[0].tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", ["filters=2\n", "filters=2\nbatch_normalize=1\n", "filters=6\ngroups=3\n"])
def test_flipped_convolutions_hold_their_weights_transposed(
    options: str, version: tuple[int, int, int], tmp_path: Path
) -> None:
    model = network(NET + f"[convolutional]\n{options}size=2\nflipped=1\n")
    path = numbered(tmp_path / "my.weights", count(model), version)
    load_weights(model, path)
    weights = value(model, "0.weights")
    filters = len(weights)
    start = count(model) - weights.numel()
    expected = start + torch.arange(weights.numel()).view(-1, filters).t().reshape(weights.shape)
    assert torch.equal(weights, expected.float())
    save_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


# -------------------------------------------------------------------------------------------------------------- header


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seen", [0, SEEN, 2**32 - 1])
def test_the_header_is_kept(version: tuple[int, int, int], seen: int, tmp_path: Path) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(header(version, seen) + bytes(4 * 5))
    model = network(FLAT + "[implicit]\nfilters=5\n")
    load_weights(model, path)
    assert (model.version, model.seen) == (version, seen)
    assert read_header(path).size == (16 if version == (0, 1, 0) else 20)


def test_images_seen_are_64_bits_from_version_0_2_on(tmp_path: Path) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(header((0, 2, 0), 2**40) + bytes(4 * 5))
    model = network(FLAT + "[implicit]\nfilters=5\n")
    load_weights(model, path)
    assert model.seen == 2**40


def test_a_new_network_is_saved_as_version_0_2_5(tmp_path: Path) -> None:
    model = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    model.save_weights(tmp_path / "my.weights")
    assert (tmp_path / "my.weights").read_bytes()[:20] == header((0, 2, 5), 0)
    assert (tmp_path / "my.weights").stat().st_size == weights_size(model)


def test_seen_can_be_given_when_saving(tmp_path: Path) -> None:
    model = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    save_weights(model, tmp_path / "my.weights", seen=64)
    save_weights(model, tmp_path / "my.safetensors", seen=64)
    for name in ("my.weights", "my.safetensors"):
        again = network(FLAT + "[implicit]\nfilters=5\n")
        load_weights(again, tmp_path / name)
        assert again.seen == 64, name


def test_more_images_than_an_old_header_can_hold_are_no_crash(tmp_path: Path) -> None:
    """A network from a 32-bit file may be trained on; Darknet itself then writes version 0.2.5."""
    model = network(FLAT + "[implicit]\nfilters=5\n").initialise(1)
    model.version, model.seen = (0, 1, 0), 2**32
    model.save_weights(tmp_path / "my.weights")
    assert read_header(tmp_path / "my.weights").seen == 2**32


# --------------------------------------------------------------------------- what is not in the file: dontload, cutoff


def test_every_layer_with_weights_is_reported(tmp_path: Path) -> None:
    model = network(BACKBONE.format(""))
    report = load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    assert report == [
        Loaded(0, "convolutional", 14, 14, "loaded"),
        Loaded(2, "convolutional", 9, 9, "loaded"),
        Loaded(3, "convolutional", 16, 16, "loaded"),
    ]
    assert describe_loaded(report).split() == ["layers", "0-3", "loaded"]


def test_a_layer_with_dontload_takes_nothing_from_the_file(tmp_path: Path) -> None:
    model = network(BACKBONE.format("dontload=1"))
    report = load_weights(model, numbered(tmp_path / "my.weights", 14 + 16))
    assert states(report) == [(0, "loaded"), (2, "dontload"), (3, "loaded")]
    assert value(model, "3.biases").tolist() == [14, 15, 16, 17]
    assert value(model, "2.biases").tolist() == [0, 0, 0], "fresh"
    assert 0 < value(model, "2.weights").abs().max() <= 1, "fresh"


def test_a_layer_with_dontload_is_saved_all_the_same(tmp_path: Path) -> None:
    """parser.c:save_weights_upto knows no dontload; what such a layer has learned would be lost."""
    model = network(BACKBONE.format("dontload=1")).initialise(1)
    save_weights(model, tmp_path / "my.weights")
    again = network(BACKBONE.format(""))
    load_weights(again, tmp_path / "my.weights")
    assert torch.equal(value(again, "2.weights"), value(model, "2.weights"))


@pytest.mark.parametrize("layer", ["convolutional", "connected", "batchnorm"])
def test_a_layer_with_dontloadscales_takes_no_batch_norm_from_the_file(layer: str, tmp_path: Path) -> None:
    normal = "" if layer == "batchnorm" else "batch_normalize=1\n"
    model = network(NET + f"[{layer}]\n{normal}dontloadscales=1\n")
    report = load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    assert states(report) == [(0, "dontload")]
    channels = len(value(model, "0.biases"))
    assert value(model, "0.biases").tolist() == list(range(channels))
    if layer != "batchnorm":
        assert value(model, "0.weights").flatten()[0] == channels, "the weights follow the biases at once"
    assert value(model, "0.scales").tolist() == [1] * channels, "fresh"
    assert value(model, "0.rolling_mean").tolist() == [0] * channels, "fresh"


@pytest.mark.parametrize("cutoff", [0, 1, 2, 3, 4])
def test_a_backbone_ends_before_the_cutoff(cutoff: int, tmp_path: Path) -> None:
    inside = [14, 14, 14 + 9, 14 + 9 + 16]
    floats = inside[cutoff - 1] if cutoff else 0
    model = network(BACKBONE.format(""))
    path = numbered(tmp_path / "my.conv.1", floats)
    report = load_weights(model, path, cutoff=cutoff)
    assert states(report) == [(index, "loaded" if index < cutoff else "fresh") for index in (0, 2, 3)]
    loaded = torch.cat(
        [stored.tensor.detach().flatten() for layer in model.layers[:cutoff] for stored in layer.stored()]
        or [torch.empty(0)]
    )
    assert loaded.tolist() == list(range(floats))
    for index in (0, 2, 3):
        if index >= cutoff:
            assert value(model, f"{index}.biases").abs().max() == 0, "fresh"
            assert 0 < value(model, f"{index}.weights").abs().max() < 2, "fresh"
    save_weights(model, tmp_path / "again.conv.1", cutoff=cutoff)
    assert (tmp_path / "again.conv.1").read_bytes() == path.read_bytes()


def test_fresh_weights_beside_a_backbone_are_the_same_each_time(tmp_path: Path) -> None:
    path = numbered(tmp_path / "my.conv.1", 14)
    networks = [network(BACKBONE.format("")) for _ in range(2)]
    for model in networks:
        load_weights(model, path, cutoff=2)
    assert torch.equal(value(networks[0], "3.weights"), value(networks[1], "3.weights"))


def test_load_takes_a_cutoff(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(BACKBONE.format(""))
    model = darknet_py.load(tmp_path / "my.cfg", numbered(tmp_path / "my.conv.1", 14), cutoff=1)
    assert value(model, "0.biases").tolist() == [0, 1]


def test_a_cutoff_below_0_is_refused(tmp_path: Path) -> None:
    """Python would count it from the end."""
    model = network(BACKBONE.format("")).initialise(1)
    with pytest.raises(WeightsError, match="cutoff"):
        load_weights(model, numbered(tmp_path / "my.weights", 14 + 9), cutoff=-1)
    with pytest.raises(WeightsError, match="cutoff"):
        save_weights(model, tmp_path / "again.weights", cutoff=-1)


def test_a_report_reads_as_runs_of_layers(tmp_path: Path) -> None:
    model = network(BACKBONE.format(""))
    report = load_weights(model, numbered(tmp_path / "my.conv.3", 14 + 9), cutoff=3)
    assert [line.split() for line in describe_loaded(report).splitlines()] == [
        ["layers", "0-2", "loaded"],
        ["layer", "3", "fresh"],
    ]


# ------------------------------------------------------------------------------------------------ shared, fused, moved


SHARED = (
    NET
    + "[convolutional]\nfilters=3\nbatch_normalize=1\n[convolutional]\nfilters=3\nbatch_normalize=1\nshare_index=-1\n"
)


def test_a_sharer_has_the_others_numbers(tmp_path: Path) -> None:
    model = network(SHARED)
    load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert value(model, f"0.{name}").data_ptr() == value(model, f"1.owner.{name}").data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_sharer_stays_with_the_other_in_another_precision(dtype: torch.dtype) -> None:
    model = network(SHARED).initialise(1).to(dtype)
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert value(model, f"1.owner.{name}").dtype == dtype
        assert value(model, f"0.{name}").data_ptr() == value(model, f"1.owner.{name}").data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["convolutional, batch norm", "connected"])
def test_a_network_in_another_precision_is_loaded_rightly(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = network(ORDER[kind][0]).to(dtype)
    load_weights(model, numbered(tmp_path / "my.weights", count(model)))
    values = torch.cat([stored.tensor.detach().flatten() for layer in model.layers for stored in layer.stored()])
    assert values.tolist() == list(range(count(model)))  # up to 256 the floats of 16 bits hold every integer


def test_a_network_in_channels_last_is_loaded_rightly(tmp_path: Path) -> None:
    model = network(NET + "[convolutional]\nfilters=2\nsize=3\n").to(memory_format=torch.channels_last)
    path = numbered(tmp_path / "my.weights", count(model))
    load_weights(model, path)
    assert value(model, "0.weights").flatten().tolist() == list(range(2, 2 + 54))
    save_weights(model, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == path.read_bytes()


def test_the_deployed_form_is_a_cfg_and_weights_of_its_own(tmp_path: Path) -> None:
    """Its batch norm is folded into the weights, and it shares nothing with the original network."""
    text = (
        NET + "[convolutional]\nfilters=3\nbatch_normalize=1 # folded\nactivation=leaky\n[convolutional]\nfilters=2\n"
    )
    original = filled(network(text)).eval()
    before = [stored.tensor.clone() for layer in original.layers for stored in layer.stored()]
    form = deployed(original)
    images = torch.rand(2, *original.input_shape[:3])
    assert torch.allclose(form(images)[0], original(images)[0], atol=1e-6)
    (tmp_path / "form.cfg").write_text(form.cfg.text)
    form.save_weights(tmp_path / "form.weights")
    again = darknet_py.load(tmp_path / "form.cfg", tmp_path / "form.weights")
    assert again.layers[0].scales is None
    assert torch.equal(again(images)[0], form(images)[0])
    assert all(map(torch.equal, before, (stored.tensor for layer in original.layers for stored in layer.stored())))


def filled(made: Network) -> Network:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in made.layers:
            for stored in layer.stored():
                stored.tensor.copy_(torch.rand(stored.tensor.shape, generator=generator) + 0.5)
    return made


# ---------------------------------------------------------------------------------------------------------- real files


def models(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.weights"))


@needs_kit
@pytest.mark.parametrize("weights", models(KIT / "real"), ids=lambda path: path.parent.name)
def test_a_real_file_is_saved_byte_for_byte(weights: Path, tmp_path: Path) -> None:
    model = darknet_py.load(next(weights.parent.glob("*.cfg")), weights)
    model.save_weights(tmp_path / "again.weights")
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
    model = Network(parse_cfg(cfg))
    report = load_weights(model, weights, cutoff=cutoff)
    assert {layer.state for layer in report if layer.index < cutoff} == {"loaded"}
    assert {layer.state for layer in report if layer.index >= cutoff} == {"fresh"}
    model.save_weights(tmp_path / "again", cutoff=cutoff)
    assert (tmp_path / "again").read_bytes() == weights.read_bytes()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


# -------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1, 0)])
def test_loading_takes_no_more_memory_than_the_file(version: tuple[int, int, int], tmp_path: Path) -> None:
    """No second copy, not even of a single tensor: 96 MB may cost 1.2 times as much. VmHWM: largest resident size."""
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
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "my.weights").stat().st_size
    assert size > 95_000_000
    assert int(done.stdout) * 1024 < 1.2 * size
