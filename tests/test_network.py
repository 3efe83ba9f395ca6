"""A network as PyTorch code: traceable, the same for a batch as for each image, in any layout, at any size."""

from __future__ import annotations

import math

import pytest
import torch
from project import CFGS

from darknet_py import DarknetError, Network, load, parse_cfg
from darknet_py.cfg import parse_text
from darknet_py.inference.deploy import deployed

DETECTORS = sorted(path.stem for path in CFGS.glob("yolo*.cfg"))
QUICK = {"yolov1", "yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny"}
TRACED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
TOLERANCE = 2e-5  # relative to the largest value: another order of float32 sums


def network_of(name: str, size: tuple[int, int] | None = None) -> Network:
    network = Network(parse_cfg(CFGS / f"{name}.cfg"), size=size).initialise(seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for layer in network.layers:  # as if trained: values keep their size from layer to layer
        if getattr(layer, "rolling_variance", None) is not None:
            before_shortcut = (
                layer.index + 1 < len(network.layers) and network.layers[layer.index + 1].kind == "shortcut"
            )
            layer.weights.mul_(math.sqrt(0.3 if before_shortcut else 3))
            layer.rolling_mean.normal_(0, 0.1, generator=generator)
            layer.rolling_variance.uniform_(0.5, 1.5, generator=generator)
    return network


def images_for(network: Network, count: int = 1) -> torch.Tensor:
    width, height = network.size
    return torch.rand((count, network.net.channels, height, width), generator=torch.Generator().manual_seed(3))


def assert_same(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = TOLERANCE) -> None:
    assert len(actual) == len(expected)
    for tensor, other in zip(actual, expected, strict=True):
        assert tensor.shape == other.shape
        assert float((tensor - other).abs().max()) <= tolerance * max(float(other.abs().max()), 1e-6)


def small(name: str) -> tuple[int, int] | None:
    """A small, non-square size, where the network is not fixed by connected layers."""
    return None if name == "yolov1" else (128, 96)


@pytest.mark.parametrize("name", TRACED)
def test_torch_compile_takes_the_whole_network(name: str) -> None:
    torch._dynamo.reset()  # it recompiles for at most eight networks in a process
    network = network_of(name, small(name))
    images = images_for(network)
    assert_same(torch.compile(network, backend="eager", fullgraph=True)(images), network(images), 0.0)


@pytest.mark.parametrize("name", TRACED)
def test_torch_export_takes_the_whole_network(name: str) -> None:
    network = network_of(name, small(name))
    images = images_for(network)
    assert_same(torch.export.export(network, (images,)).module()(images), network(images), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny", "yolov7-tiny"])
def test_the_compiler_gives_the_same_numbers(name: str) -> None:
    network = deployed(network_of(name, small(name)))
    images = images_for(network)
    assert_same(torch.compile(network)(images), network(images))


@pytest.mark.parametrize("name", DETECTORS)
def test_batch_fusing_and_layout_change_nothing(name: str) -> None:
    network = network_of(name, small(name))
    images = images_for(network, 3)
    plain = network(images)
    single = [network(image[None]) for image in images]
    assert_same(plain, [torch.cat(heads) for heads in zip(*single, strict=True)])
    fused = deployed(network).to(memory_format=torch.channels_last)
    assert_same(fused(images.to(memory_format=torch.channels_last)), plain)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels(channels: int) -> None:
    text = (CFGS / "yolov3-tiny.cfg").read_text().replace("channels=3", f"channels={channels}")
    network = Network(parse_text(text), size=(96, 64)).initialise(0).eval()
    heads = network(torch.rand(2, channels, 64, 96))
    assert [tuple(head.shape) for head in heads] == [(2, 255, 2, 3), (2, 255, 4, 6)]


def test_layers_keep_darknets_numbers() -> None:
    network = network_of("yolov3", (64, 64))
    assert network.heads == [82, 94, 106]
    assert network.layers[61].shape[:3] == (512, 4, 4)
    assert network.layers[86].source_indices == (85, 61)
    images = images_for(network)
    features = network.features(images, [61, 81, 82])
    assert features[61].shape == (1, 512, 4, 4)
    assert torch.equal(features[81], network(images)[0])
    assert torch.equal(features[82], network.layers[82](features[81]))
    with pytest.raises(IndexError, match="there is no layer 107; the network has 107"):
        network.features(images, [107])


def test_activations_are_freed_after_their_last_reader() -> None:
    network = network_of("yolov3", (64, 64))
    steps = network._plan(network._outputs)
    freed = [source for _, _, done in steps for source in done]
    assert len(freed) == len(set(freed))
    when = {source: index for index, _, done in steps for source in done}
    assert when[61] == 86
    assert when[36] == 98
    assert when[-1] == 0
    assert not set(network._outputs) & set(freed)


def test_a_classifier_gives_its_last_layer() -> None:
    network = network_of("darknet19", (64, 64))
    (output,) = network(images_for(network, 2))
    assert output.shape == (2, 1000)
    assert torch.allclose(output.sum(1), torch.ones(2))


def test_fresh_weights_are_darknets() -> None:
    network = Network(parse_cfg(CFGS / "yolov3-tiny.cfg")).initialise(seed=5)
    first = network.layers[0]
    limit = math.sqrt(2 / 27)
    assert 0.95 * limit < float(first.weights.abs().max()) <= limit
    assert float(first.scales.min()) == 1
    assert float(first.biases.abs().max()) == 0
    again = Network(parse_cfg(CFGS / "yolov3-tiny.cfg")).initialise(seed=5)
    assert torch.equal(first.weights, again.layers[0].weights)


def test_loaded_networks_are_ready_for_inference() -> None:
    network = load(CFGS / "yolov3-tiny.cfg", size=(64, 64))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert isinstance(DarknetError("x"), ValueError)


def test_recurrent_networks_remember_until_told_to_forget() -> None:
    text = (
        "[net]\ninputs=5\n[rnn]\noutput=7\nhidden=6\nactivation=leaky\n[lstm]\noutput=4\n[gru]\noutput=3\n[softmax]\n"
    )
    network = Network(parse_text(text)).initialise(0).eval()
    x = torch.eye(5)[:2]
    first, second = network(x)[0], network(x)[0]
    assert not torch.allclose(first, second)
    network.reset_state()
    assert torch.equal(network(x)[0], first)
