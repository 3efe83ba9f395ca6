"""The networks of the systems for inference: the boxes, weights and counts of the original programs' deployed forms."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import digest
from test_networks import assert_close, expected_boxes, loaded, maps_of, original_order
from yolos import YOLOS, arrays, files_of, models, needs_yolos, networks, weights_of

from darknet_py import Network
from darknet_py.cfg import parse_text
from darknet_py.inference.reparameterise import reparameterised

CONVOLUTION = "[convolutional]\nfilters={}\nsize={}\npad=1\nbatch_normalize=1\nactivation=linear\n"
BATCH_NORM = {"biases": "bias", "scales": "weight", "rolling_mean": "running_mean", "rolling_variance": "running_var"}


def block_of(key: str, weights: dict[str, Any]) -> Network:
    """The RepVGG block `key` as layers of a cfg: two convolutions, and batch norm if the block has that branch."""
    filters, channels = weights[f"{key}.rbr_dense.conv.weight"].shape[:2]
    identity = f"{key}.rbr_identity.weight" in weights
    text = f"[net]\nwidth=8\nheight=8\nchannels={channels}\nbn_eps=.001\n[empty]\n"
    text += CONVOLUTION.format(filters, 3) + "[route]\nlayers=0\n" + CONVOLUTION.format(filters, 1)
    text += "[route]\nlayers=0\n[batchnorm]\n[shortcut]\nfrom=1,3\n" if identity else "[shortcut]\nfrom=1\n"
    network = Network(parse_text(text + "activation=relu\n"))
    for layer, branch in ((1, "rbr_dense"), (3, "rbr_1x1"), *([(5, "rbr_identity")] if identity else [])):
        norm = f"{key}.{branch}" if branch == "rbr_identity" else f"{key}.{branch}.bn"
        for stored in network.layers[layer].stored():
            leaf = f"{norm}.{BATCH_NORM[stored.name]}" if stored.name in BATCH_NORM else f"{key}.{branch}.conv.weight"
            with torch.no_grad():
                stored.tensor.copy_(torch.from_numpy(weights[leaf]))
    return network


@needs_yolos
@pytest.mark.parametrize("model", models("yolov6"))
def test_repvgg_blocks_fold_into_the_original_convolutions(model: str) -> None:
    weights = weights_of(model)
    keys = json.loads((YOLOS / model / "meta.json").read_text())["deploy_digest_keys"]
    expected = dict(zip(keys, arrays(YOLOS / model / "forward.npz")["deploy_digest"], strict=True))
    blocks = [key.removesuffix(".rbr_reparam.weight") for key in keys if key.endswith(".rbr_reparam.weight")]
    assert blocks
    for block in blocks:
        small = reparameterised(block_of(block, weights))
        assert [layer.kind for layer in small.layers] == ["empty", "convolutional"]
        for stored in small.layers[1].stored():
            numbers = digest(stored.tensor.numpy())
            original = expected[f"{block}.rbr_reparam.{'bias' if stored.name == 'biases' else 'weight'}"]
            assert abs(numbers - original).max() <= 1e-6 * abs(original).max(), (block, stored.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("original")


@cache
def deployed(name: str, folder: Path) -> Network:
    return reparameterised(loaded(name, folder))


@needs_yolos
@pytest.mark.parametrize("name", networks())
def test_boxes_stay_the_same(name: str, folder: Path) -> None:
    """The original program's two forms differ by up to 8e-3 pixels."""
    network, (_, values, _) = deployed(name, folder), files_of(name)
    if "decoded" not in values:
        pytest.skip("the boxes of this network are not at hand")
    boxes = [
        original_order(head.boxes(raw, network.size), head.anchors, network.size)
        for head, raw in zip(network.head_layers(), maps_of(network, name), strict=True)
    ]
    assert_close(torch.cat(boxes, 1), expected_boxes(values, network.classes), 1e-4, of_max=False)


@needs_yolos
@pytest.mark.parametrize("name", [*models("yolov6"), *models("yolov7")])
def test_parameters_are_as_many_as_in_the_deployed_form(name: str, folder: Path) -> None:
    """YOLOv6's program counts the bins of its distributions, too, YOLOv7's file lists the anchors."""
    settings, network = files_of(name)[0], deployed(name, folder)
    expected = settings["deploy_parameters"] - 2 * (settings.get("reg_max", 0) + 1)
    if "fused_deploy_keys" in settings:
        shapes = {key.split()[0]: key.split()[-1].split("x") for key in settings["fused_deploy_keys"]}
        expected = sum(math.prod(map(int, shape)) for key, shape in shapes.items() if "anchor" not in key)
    assert sum(stored.tensor.numel() for layer in network.layers for stored in layer.stored()) == expected


@needs_yolos
@pytest.mark.parametrize("name", models("yolov7"))
def test_heads_have_the_weights_of_the_deployed_form(name: str, folder: Path) -> None:
    network, values = deployed(name, folder), files_of(name)[1]
    convolutions: list[Any] = [network.layers[index - 1] for index in network.heads]
    tensors = [tensor for layer in convolutions for tensor in (layer.weights, layer.biases)]
    for tensor, expected in zip(tensors, values["deploy_head_weight_digest"], strict=True):
        assert abs(digest(tensor.numpy()) - expected).max() <= 1e-6 * abs(expected).max()
    assert all(layer.options.activation == "logistic" for layer in convolutions)
    assert "implicit_add" not in {layer.kind for layer in network.layers}
