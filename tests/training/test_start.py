"""The heads of a fresh network begin where the program does that their loss is of: with few, uncertain objects."""

from __future__ import annotations

import math

import pytest
import torch

from darknet_py.losses import loss_of
from darknet_py.network import Network
from darknet_py.training.run import network_to_train

STRIDES = (8, 16, 32)


def raw_outputs(cfg: str) -> list[torch.Tensor]:
    """What the heads read where everything before is 0: the biases, (channels,) each."""
    network = network_to_train(cfg)
    for layer in network.layers:
        if getattr(layer, "scales", None) is not None:
            torch.nn.init.zeros_(layer.scales)
    width, height = network.size
    with torch.no_grad():
        return [raw[0, :, 0, 0] for raw in network.eval()(torch.zeros(1, 3, height, width))]


def test_heads_with_anchors_expect_eight_objects_in_an_image() -> None:
    for raw, stride in zip(sorted(raw_outputs("cfg/yolov5n.cfg"), key=lambda raw: float(raw[4])), STRIDES, strict=True):
        by_anchor = raw.view(3, 85)
        assert by_anchor[:, :4].abs().max() == 0
        torch.testing.assert_close(by_anchor[:, 4], torch.full((3,), math.log(8 / (640 / stride) ** 2)))
        torch.testing.assert_close(by_anchor[:, 5:], torch.full((3, 80), math.log(0.6 / (80 - 0.99999))))


def test_heads_without_anchors_begin_with_rare_classes_and_boxes_around_their_cells() -> None:
    for raw, stride in zip(raw_outputs("cfg/yolov8n.cfg"), STRIDES, strict=True):
        torch.testing.assert_close(raw[:64], torch.ones(64))
        torch.testing.assert_close(raw[64:], torch.full((80,), math.log(5 / 80 / (640 / stride) ** 2)))
    for raw in raw_outputs("cfg/yolov6n.cfg"):
        torch.testing.assert_close(raw, torch.cat((torch.ones(4), torch.full((80,), -math.log(99)))))
    for raw in raw_outputs("cfg/yolox-nano.cfg"):
        torch.testing.assert_close(raw, torch.cat((torch.zeros(4), torch.full((81,), -math.log(99)))))


@pytest.mark.parametrize("cfg", ["cfg/yolov3-tiny.cfg", "cfg/yolov2-tiny.cfg"])
def test_darknets_heads_begin_with_biases_of_0(cfg: str) -> None:
    network: Network = network_to_train(cfg)
    for head in network.head_layers():
        loss = loss_of(head)
        assert loss is not None
        assert loss.start is None
        assert network.layers[head.index - 1].biases.abs().max() == 0
