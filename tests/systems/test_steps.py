"""Training steps are those of the newer systems' own programs: optimizer, batch norm, moving average."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from yolos import YOLOS, arrays, drawn_weights, needs_yolos

from darknet_py.cfg import parse_text
from darknet_py.losses.loss import Value
from darknet_py.network import Network
from darknet_py.training.step import Trainer

pytestmark = needs_yolos

# Toys: a network whose loss is the squared difference from given maps -----------------------------------------------

LAYERS = """
[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=swish

[convolutional]
filters=6
size=1
activation=linear

[anchor_free]
classes=2
"""
NET = """[net]
width=8
height=8
channels=3
batch=2
epochs=12
max_batches=60
optimizer=sgd
nesterov=1
decay=0.0005
bn_eps=0.001
bn_momentum=0.03
ema_ramp=2000
"""
YOLOX = """policy=warmcos
learning_rate=0.0025
learning_rate_min=0.000125
momentum=0.9
burn_in_epochs=2
power=2
close_mosaic=3
ema_alpha=0.9998
"""
YOLOV8 = """policy=linear
learning_rate=0.01
learning_rate_min=0.0001
momentum=0.937
burn_in=20
power=1
burn_in_bias_rate=0.1
burn_in_momentum=0.8
clip_norm=10
ema_alpha=0.9999
"""
TOYS = {
    "yolox": (YOLOX, "yolox/schedule_ema.json", "mean", 1.0),
    "yolov8": (YOLOV8, "yolov8/toy_train.json", "sum", 0.05),
}
"""The words of [net], the file with the losses, and the loss: which of all squares, times a factor."""

NAMES = {
    "conv.weight": ("layers.0.weights", "4x3x3x3", "param"),
    "bn.weight": ("layers.0.scales", "4", "param:bn"),
    "bn.bias": ("layers.0.biases", "4", "param:bn"),
    "bn.running_mean": ("layers.0.rolling_mean", "4", "buffer:bn"),
    "bn.running_var": ("layers.0.rolling_variance", "4", "buffer:bn"),
    "head.weight": ("layers.1.weights", "6x4x1x1", "param"),
    "head.bias": ("layers.1.biases", "6", "param"),
}
"""A toy's tensors by the original's names: ours, shape and kind."""


def stored(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"layers.{layer.index}.{one.name}": one.tensor for layer in trainer.network.layers for one in layer.stored()
    }


def toy(words: str, about: dict[str, Any]) -> Trainer:
    """Of a network with the drawn weights."""
    network = Network(parse_text(NET + words + LAYERS)).initialise(0)
    settings = {"seed": about["weights_seed"], "gain": 2.0, "weights_sha256": about["weights_sha256"]}
    keys = [{"key": key, "shape": shape, "kind": kind} for key, (_, shape, kind) in NAMES.items()]
    drawn = drawn_weights(settings, keys)
    with torch.no_grad():
        for layer in network.layers:
            for one in layer.stored():
                key = next(key for key, (ours, *_) in NAMES.items() if ours == f"layers.{layer.index}.{one.name}")
                one.tensor.copy_(drawn[key])
    return Trainer(network)


@pytest.mark.parametrize("system", TOYS)
def test_a_toy_is_trained_to_the_original_s_weights_and_averages(system: str) -> None:
    words, file, kind, factor = TOYS[system]
    about = json.loads((YOLOS / file).read_text())["toy"]
    trainer = toy(words, about)
    rng, expected = np.random.Generator(np.random.PCG64(501)), arrays(YOLOS / system / "toy_train.npz")

    def loss(raws: Any, truths: Tensor, size: tuple[int, int], seen: int) -> Value:
        (raw,) = raws.values()
        return Value(factor * getattr((raw - truths) ** 2, kind)())

    trainer.loss = loss  # type: ignore[method-assign]
    for number, step in enumerate(about["trace"], start=1):
        images = torch.from_numpy(rng.random((2, 3, 8, 8)).astype(np.float32))
        maps = torch.from_numpy(rng.standard_normal((2, 6, 8, 8)).astype(np.float32))
        assert trainer.accumulate(images, maps).cost == pytest.approx(step["loss"], rel=2e-6)
        trainer.update()
        for name, (ours, *_) in NAMES.items():
            for form, tensors in (("model", stored(trainer)), ("ema", trainer.ema.values)):
                wanted = expected.get(f"it{number}.{form}.{name}")
                if wanted is not None:
                    torch.testing.assert_close(tensors[ours].detach(), torch.from_numpy(wanted), rtol=2e-6, atol=1e-6)
    assert number == 60
