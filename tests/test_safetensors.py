""".safetensors files keep all that a network has learned, and a wrong one is refused in a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import safetensors.torch as safetensors
import torch
from weight_files import BACKBONE, ERRORS, FLAT, GOOD, NET, ORDER, count, network, random_file, states, value

from darknet_py.errors import WeightsError
from darknet_py.network import load
from darknet_py.weights import load_weights


@pytest.mark.parametrize("kind", ORDER)
def test_safetensors_keep_every_number(kind: str, tmp_path: Path) -> None:
    model = network(ORDER[kind][0])
    data = random_file(tmp_path / "my.weights", count(model), (0, 1, 0))
    load_weights(model, tmp_path / "my.weights")
    model.save_weights(tmp_path / "my.safetensors")
    again = network(ORDER[kind][0])
    report = load_weights(again, tmp_path / "my.safetensors")
    assert {layer.state for layer in report} == {"loaded"}
    again.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == data


@pytest.mark.parametrize("option", ["dontload=1", "dontloadscales=1"])
def test_safetensors_hold_layers_that_a_weights_file_leaves_out(option: str, tmp_path: Path) -> None:
    cfg = NET + f"[convolutional]\nfilters=2\nbatch_normalize=1\n{option}\n"
    model = network(cfg).initialise(1)
    model.layers[0].rolling_mean += 5
    model.save_weights(tmp_path / "my.safetensors")
    again = network(cfg)
    load_weights(again, tmp_path / "my.safetensors")
    for name in ("biases", "scales", "rolling_mean", "rolling_variance", "weights"):
        assert torch.equal(value(again, f"0.{name}"), value(model, f"0.{name}")), name


def test_safetensors_are_named_by_layer(tmp_path: Path) -> None:
    network(FLAT + "[rnn]\n").initialise(1).save_weights(tmp_path / "my.safetensors")
    names = set(safetensors.load_file(tmp_path / "my.safetensors"))
    assert names == {
        f"layers.0.{part}.{field}" for part in ("input", "self", "output") for field in ("biases", "weights")
    }


def test_safetensors_of_a_backbone(tmp_path: Path) -> None:
    model = network(BACKBONE.format("")).initialise(1)
    model.save_weights(tmp_path / "my.safetensors", cutoff=2)
    again = network(BACKBONE.format(""))
    report = load_weights(again, tmp_path / "my.safetensors", cutoff=2)
    assert states(report) == [(0, "loaded"), (2, "fresh"), (3, "fresh")]
    assert torch.equal(value(model, "0.weights"), value(again, "0.weights"))


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
        ("a tensor too many", "does not fit my.cfg: 'layers.3.weights' is not part of the network; wrong cfg?"),
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
    model = network(ERRORS).initialise(1)
    model.save_weights(tmp_path / "my.safetensors")
    safetensors.save_file(safetensors.load_file(tmp_path / "my.safetensors"), tmp_path / "bare.safetensors")
    again = network(ERRORS)
    load_weights(again, tmp_path / "bare.safetensors")
    assert torch.equal(value(again, "2.weights"), value(model, "2.weights"))
    assert (again.version, again.seen) == ((0, 2, 5), 0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.complex64])
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    load("cfg/shapes.cfg", "weights/shapes.weights").save_weights(tmp_path / "x.safetensors")
    tensors, name = safetensors.load_file(tmp_path / "x.safetensors"), "layers.0.weights"
    safetensors.save_file(tensors | {name: tensors[name].to(dtype)}, tmp_path / "y.safetensors")
    with pytest.raises(WeightsError, match=f"'{name}' has values of type {dtype}; weights are floats"):
        load("cfg/shapes.cfg", tmp_path / "y.safetensors")
