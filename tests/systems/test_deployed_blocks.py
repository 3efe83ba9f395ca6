"""The branches of RepVGG blocks fold into the convolution that YOLOv6's own program folds them into."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from recipes import digest
from yolos import YOLOS, arrays, models, needs_yolos, weights_of

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
