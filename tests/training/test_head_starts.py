"""The heads of a fresh network begin where the program does that their loss is of: with few, uncertain objects."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darknet_py.cfg import parse_cfg
from darknet_py.errors import CfgError
from darknet_py.layers import Layer
from darknet_py.losses import loss_of
from darknet_py.network import Network
from darknet_py.training.run import load_start_weights, network_to_train

STRIDES = (8, 16, 32)


def predictors(network: Network) -> list[tuple[Layer, Layer]]:
    """Each head with the convolution that gives its channels, before what multiplies them."""
    found = []
    for head in network.head_layers():
        layer = network.layers[head.source_indices[0]]
        while layer.kind == "implicit_mul":
            layer = network.layers[layer.source_indices[0]]
        found.append((head, layer))
    return found


def keyed(network: Network, key: str) -> Layer:
    return next(layer for layer in network.layers if layer.options.key == key)


def raw_outputs(cfg: str) -> list[Tensor]:
    """What the heads read where everything before is 0: the biases, (channels,) each."""
    network = network_to_train(cfg)
    for layer in network.layers:
        if getattr(layer, "scales", None) is not None:
            torch.nn.init.zeros_(layer.scales)
    width, height = network.size
    with torch.no_grad():
        return [raw[0, :, 0, 0] for raw in network.eval()(torch.zeros(1, 3, height, width))]


def assert_pytorchs(values: Tensor, inputs: int, middle: Tensor | float = 0.0) -> None:
    """Uniform within 1/sqrt(inputs) around a middle."""
    limit = inputs**-0.5
    away = values.detach() - middle
    assert float(away.abs().max()) <= limit + 1e-6
    assert float(away.std()) == pytest.approx(limit / 3**0.5, rel=0.15)


@pytest.mark.parametrize(("cfg", "spare"), [("cfg/yolov5n.cfg", 0.99999), ("cfg/yolov7-tiny-ota.cfg", 0.99)])
def test_heads_with_anchors_expect_eight_objects_in_an_image(cfg: str, spare: float) -> None:
    """This is added to PyTorch's random biases; the weights are PyTorch's."""
    network = network_to_train(cfg)
    for (_, layer), stride in zip(predictors(network), STRIDES, strict=True):
        middle = torch.zeros(3, 85)
        middle[:, 4], middle[:, 5:] = math.log(8 / (640 / stride) ** 2), math.log(0.6 / (80 - spare))
        inputs = layer.weights[0].numel()
        assert_pytorchs(layer.weights, inputs)
        assert_pytorchs(layer.biases, inputs, middle.flatten())


def test_heads_without_anchors_begin_with_rare_classes_and_boxes_around_their_cells() -> None:
    for raw, stride in zip(raw_outputs("cfg/yolov8n.cfg"), STRIDES, strict=True):
        torch.testing.assert_close(raw[:64], torch.ones(64))
        torch.testing.assert_close(raw[64:], torch.full((80,), math.log(5 / 80 / (640 / stride) ** 2)))
    for raw in raw_outputs("cfg/yolov6n.cfg"):
        torch.testing.assert_close(raw, torch.cat((torch.ones(4), torch.full((80,), -math.log(99)))))
    for raw in raw_outputs("cfg/yolox-nano.cfg"):
        assert 0 < float(raw[:4].abs().max()) < 64**-0.5
        torch.testing.assert_close(raw[4:], torch.full((81,), -math.log(99)))


@pytest.mark.parametrize("cfg", ["cfg/yolov8n.cfg", "cfg/yolox-nano.cfg"])
def test_their_weights_are_pytorch_s(cfg: str) -> None:
    network = network_to_train(cfg)
    heads = list(network.head_layers())
    for head in heads:
        joined = network.layers[head.source_indices[0]]
        assert joined.kind == "route"
        for index in joined.source_indices:
            weights = network.layers[index].weights
            if weights.numel() >= 64:
                assert_pytorchs(weights, weights[0].numel())


@pytest.mark.parametrize("name", ["yolov5n", "yolov6n", "yolov7-tiny-ota", "yolov8n", "yolox-nano"])
def test_so_are_those_of_all_other_layers(name: str) -> None:
    network = network_to_train(f"cfg/{name}.cfg")
    trunk = [layer for layer in network.layers if layer.kind == "convolutional" and layer.scales is not None]
    assert len(trunk) > 20
    for layer in trunk:
        if layer.weights.numel() >= 400:
            assert_pytorchs(layer.weights, layer.weights[0].numel())
        assert not layer.biases.any()


def test_heads_of_yolov6_give_the_same_for_every_image() -> None:
    network = network_to_train("cfg/yolov6n.cfg")
    joined = [network.layers[head.source_indices[0]] for head in network.head_layers()]
    weights = [network.layers[index].weights for layer in joined for index in layer.source_indices]
    assert len(weights) == 6
    assert not any(tensor.any() for tensor in weights)


def test_proposals_and_regions_begin_as_in_both_programs() -> None:
    small = network_to_train("cfg/faster-rcnn-small.cfg")
    names = [layer.options.key for layer in small.layers if layer.options.key.startswith("rpn.head")]
    assert len(names) == 3
    for name in names:
        assert float(keyed(small, name).weights.detach().std()) == pytest.approx(0.01, rel=0.1)
        assert not keyed(small, name).biases.any()
    for name in ("cls_score", "bbox_pred"):
        layer = keyed(small, f"roi_heads.box_predictor.{name}")
        assert_pytorchs(layer.weights, 128)
        assert layer.biases.any()
    classical = network_to_train("cfg/faster-rcnn.cfg")
    for name, deviation in (("rpn_conv/3x3", 0.01), ("rpn_cls_score", 0.01), ("rpn_bbox_pred", 0.01),
                            ("cls_score", 0.01), ("bbox_pred", 0.001)):  # fmt: skip
        assert float(keyed(classical, name).weights.detach().std()) == pytest.approx(deviation, rel=0.1)
        assert not keyed(classical, name).biases.any()


def test_mmdetection_s_yolov3_expects_eight_objects_on_each_map() -> None:
    network = network_to_train("cfg/yolov3-mmdet.cfg")
    assert len(predictors(network)) == 3
    for head, layer in predictors(network):
        rare = 8 / (608 / (network.net.width / head.shape.w)) ** 2
        by_anchor = layer.biases.view(3, 85)
        torch.testing.assert_close(by_anchor[:, 4].sigmoid(), torch.full((3,), rare))
        torch.testing.assert_close(by_anchor[:, 5:].sigmoid(), torch.full((3, 80), 0.01))
        before = network.layers[head.index - 2]
        for tensor in (layer.weights, before.weights):
            assert float(tensor.detach().std()) == pytest.approx(0.01, rel=0.05)


def test_the_start_follows_from_the_seed() -> None:
    networks = [network_to_train("cfg/yolov5n.cfg", seed=seed) for seed in (1, 1, 2)]
    first, same, other = (predictors(network)[0][1].weights for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cfg", ["cfg/yolov3-tiny.cfg", "cfg/yolov2-tiny.cfg"])
def test_darknets_networks_begin_as_its_own_with_biases_of_0(cfg: str) -> None:
    network: Network = network_to_train(cfg)
    fresh = Network(network.cfg).initialise(0)
    for head in network.head_layers():
        loss = loss_of(head)
        assert loss is not None
        assert loss.start is None
        assert network.layers[head.index - 1].biases.abs().max() == 0
    for layer, darknets in zip(network.layers, fresh.layers, strict=True):
        if layer.kind == "convolutional":
            assert torch.equal(layer.weights, darknets.weights)


@pytest.mark.parametrize("text", ["loss=mine", "loss=yolov5\nassigner=mine"])
def test_a_loss_or_an_assigner_that_is_not_known_is_refused(text: str, tmp_path: Path) -> None:
    cfg = tmp_path / "my.cfg"
    cfg.write_text(Path("cfg/yolov5n.cfg").read_text().replace("loss=yolov5", text))
    with pytest.raises(CfgError, match=r"my\.cfg:\d+: \[yolo\] \w+=mine: 'mine' is not known; write one of"):
        network_to_train(cfg)


@pytest.mark.parametrize(
    ("cfg", "cutoff"), [("yolov5n", 90), ("yolov8n", 85), ("yolox-nano", 112), ("yolov3-tiny", 15)]
)
@pytest.mark.parametrize("ending", ["weights", "safetensors"])
def test_layers_behind_a_backbone_keep_their_start(cfg: str, cutoff: int, ending: str, tmp_path: Path) -> None:
    """And those before have the backbone's weights; the seed is the training's."""
    path = tmp_path / f"backbone.{ending}"
    Network(parse_cfg(f"cfg/{cfg}.cfg")).initialise(7).save_weights(path)
    network, untouched = (network_to_train(f"cfg/{cfg}.cfg", seed=3) for _ in range(2))
    load_start_weights(network, path, cutoff=cutoff)
    backbone = Network(parse_cfg(f"cfg/{cfg}.cfg")).initialise(7)
    for layer in network.layers:
        expected = (backbone if layer.index < cutoff else untouched).layers[layer.index].state_dict()
        for name, values in layer.state_dict().items():
            assert torch.equal(values, expected[name]), (layer.index, name)
