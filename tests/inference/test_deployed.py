"""The deployed form of a network has equal outputs, and a cfg and weights that load, run and save like any other's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from project import CFGS
from test_network import QUICK, assert_same, images_for, network_of

import darknet_py
from darknet_py import Network
from darknet_py.cfg import parse_text
from darknet_py.inference.deploy import deployed

TOLERANCE = 1e-5  # relative to the largest value: batch norm is folded in double precision
FIXED = {"yolov1"}  # a connected layer fixes the size of its input
SMALL = {*QUICK, "cells", "shapes"}
NAMES = [
    name if name in SMALL else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted(path.stem for path in CFGS.glob("*.cfg"))
]
RECURRENT = {
    "rnn": "[net]\ninputs=6\n[rnn]\noutput=4\nhidden=5\nactivation=leaky\nbatch_normalize=1\n",
    "gru": "[net]\ninputs=6\n[gru]\noutput=4\nbatch_normalize=1\n",
    "lstm": "[net]\ninputs=6\n[lstm]\noutput=4\nbatch_normalize=1\n",
    "crnn": "[net]\nwidth=6\nheight=5\nchannels=3\n[crnn]\noutput=4\nhidden=5\npad=1\nbatch_normalize=1\n",
    "conv_lstm": "[net]\nwidth=6\nheight=5\nchannels=3\n[conv_lstm]\noutput=4\npad=1\npeephole=1\nbatch_normalize=1\n",
}


SHARED = """[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
stride=2
activation=leaky
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[convolutional]
share_index=1
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
"""


def assert_deployed(network: Network, folder: Path, inputs: list[torch.Tensor]) -> None:
    """The inputs are consecutive, as recurrent layers remember them."""
    form = deployed(network)
    # a [batchnorm] section has no weights to be folded into
    with_weights = [layer for layer in form.layers if layer.kind != "batchnorm"]
    assert not [stored.name for layer in with_weights for stored in layer.stored() if "rolling" in stored.name]
    (folder / "form.cfg").write_text(form.cfg.text, encoding="utf-8")
    form.save_weights(folder / "form.weights")
    again = darknet_py.load(folder / "form.cfg", folder / "form.weights", size=network.size_override)
    again.save_weights(folder / "again.weights")
    assert (folder / "again.weights").read_bytes() == (folder / "form.weights").read_bytes()
    for values in inputs:
        outputs = form(values)
        assert_same(outputs, network(values), TOLERANCE)
        assert_same(again(values), outputs, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_bundled_cfg_can_be_deployed(name: str, tmp_path: Path) -> None:
    network = network_of(name, None if name in FIXED else (64, 64))
    assert_deployed(network, tmp_path, [images_for(network)])


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_can_be_deployed(kind: str, tmp_path: Path) -> None:
    network = Network(parse_text(RECURRENT[kind])).initialise(1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for stored in network.layers[0].stored():
        if "scales" in stored.name or "rolling" in stored.name:
            stored.tensor.uniform_(0.5, 1.5, generator=generator)
    shape = network.input_shape
    inputs = torch.rand((3, 2, *(shape[:3] if shape.c else shape[3:4])), generator=generator)
    assert_deployed(network, tmp_path, list(inputs))


def test_a_layer_that_shares_weights_can_be_deployed(tmp_path: Path) -> None:
    network = Network(parse_text(SHARED)).initialise(1).eval().requires_grad_(False)
    for layer in network.layers[:2]:
        layer.rolling_mean.fill_(0.1)
        layer.rolling_variance.fill_(0.7)
    assert_deployed(network, tmp_path, [images_for(network)])


def test_options_set_in_python_stay_set() -> None:
    network = network_of("yolov3-tiny", (64, 64))
    heads = network.head_layers()
    heads[0].options = replace(heads[0].options, scale_x_y=1.2)
    network.net = replace(network.net, letter_box=True)
    form = deployed(network)
    assert form.net.letter_box
    assert form.head_layers()[0].options.scale_x_y == 1.2
    assert_same(form(images_for(network)), network(images_for(network)), TOLERANCE)
