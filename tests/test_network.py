"""A network as PyTorch code: traceable, independent of batch, layout and other networks, trainable in any loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from project import CFGS
from torch import nn

from darknet_py import DarknetError, Network, load, parse_cfg
from darknet_py.cfg import parse_text
from darknet_py.inference.deploy import deployed
from darknet_py.layers import KINDS, Layer
from darknet_py.layers.layer import LayerOptions, Place
from darknet_py.training.step import Trainer

DETECTORS = sorted(path.stem for path in CFGS.glob("yolo*.cfg"))
QUICK = {"yolov1", "yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny"}
TRACED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
TOLERANCE = 2e-5  # relative to the largest value: another order of float32 sums


def network_of(name: str, size: tuple[int, int] | None = None) -> Network:
    network = Network(parse_cfg(CFGS / f"{name}.cfg"), size=size).initialise(seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for layer in network.layers:  # as if trained: values keep their size from layer to layer
        if getattr(layer, "rolling_variance", None) is None:
            continue
        if "weights" in layer.stored_names:
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


def assert_same(actual: list[Any], expected: list[Any], tolerance: float = TOLERANCE) -> None:
    """Raw outputs of heads: tensors, or tuples of tensors."""
    assert len(actual) == len(expected)
    for tensor, other in zip(each_tensor(actual), each_tensor(expected), strict=True):
        assert tensor.shape == other.shape
        assert float((tensor - other).abs().max()) <= tolerance * max(float(other.abs().max()), 1e-6)


def each_tensor(raws: list[Any]) -> Iterator[torch.Tensor]:
    for raw in raws:
        yield from raw if isinstance(raw, tuple) else (raw,)


def small(name: str) -> tuple[int, int] | None:
    """A small, non-square size of which the strides are divisors; None: connected layers fix the size."""
    return {"yolov1": None, "yolov7-w6": (192, 128)}.get(name, (128, 96))


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


@pytest.mark.parametrize(("name", "variance"), [("yolov3-tiny", 0), ("yolov5n", 1), ("yolov6n", 1), ("yolox-nano", 1)])
def test_rolling_statistics_begin_as_where_the_recipe_comes_from(name: str, variance: float) -> None:
    network = Network(parse_cfg(CFGS / f"{name}.cfg")).initialise(0)
    statistics = [layer.rolling_variance for layer in network.layers if hasattr(layer, "rolling_variance")]
    assert {value for values in statistics if values is not None for value in values.tolist()} == {variance}


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


# ------------------------------------------------------------------------- heads that are sources of later layers

NET = "[net]\nwidth=32\nheight=32\nchannels=3\nbatch=2\n"
HEAD = (
    "[convolutional]\nfilters=7\nsize=3\nstride={}\npad=1\nactivation=linear\n[yolo]\nnum=1\nanchors=9,9\nclasses=2\n"
)
TWO_HEADS = NET + HEAD.format(4) + "[route]\nlayers=1\n" + HEAD.format(2)  # the second reads what the first gives


def test_a_head_may_be_the_source_of_later_layers() -> None:
    network = Network(parse_text(TWO_HEADS)).initialise(1).eval()
    images = images_for(network, 2)
    first, last = network(images)
    assert network.heads == [1, 4]
    convolution, head, _, later, _ = network.layers
    assert torch.equal(first, convolution(images))
    assert torch.equal(last, later(head(first)))  # activated, Darknet's l.output
    assert torch.equal(network.features(images, [2])[2], head(first))


def test_a_head_that_is_a_source_is_trained_by_both_losses() -> None:
    network = Network(parse_text(TWO_HEADS)).initialise(1)
    trainer = Trainer(network)
    images = images_for(network, 2)
    truths = torch.zeros(2, 200, 6)
    truths[:, 0] = torch.tensor([0.4, 0.6, 0.3, 0.3, 1, 0])
    trainer.accumulate(images, truths)
    weights = network.layers[0].weights
    both = weights.grad.clone()
    convolution, head, _, later, _ = network.layers
    first = convolution(images)
    value = trainer.loss({1: first, 4: later(head(first))}, truths, network.size, 2)
    (expected,) = torch.autograd.grad(value.total, [weights])
    assert torch.allclose(both, expected, rtol=1e-5, atol=1e-7)
    first = convolution(images)
    value = trainer.loss({1: first, 4: later(head(first.detach()))}, truths, network.size, 2)
    (alone,) = torch.autograd.grad(value.total, [weights])
    assert not torch.allclose(both, alone, rtol=1e-2)


# --------------------------------------------------------------------------------------- each network's own arithmetic

# Every layer here has an arithmetic of Darknet's in training that is no derivative.
PECULIAR = (
    "[net]\nwidth=6\nheight=6\nchannels=3\nbatch=4\n"
    "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=gelu\n"
    "[normalization]\n[local_avgpool]\nsize=3\nstride=1\n[connected]\noutput=3\nactivation=linear\n[softmax]\n"
)


def outputs_and_gradients(network: Network, images: torch.Tensor) -> list[torch.Tensor]:
    (output,) = network.train()(images)
    weights = list(network.parameters())
    squares = output.square().sum()
    return [output.detach(), *torch.autograd.grad(squares, weights, allow_unused=True, materialize_grads=True)]


def test_training_a_network_leaves_the_others_as_they_are() -> None:
    before = Network(parse_text(PECULIAR)).initialise(1)
    images = images_for(before, 4)
    expected = outputs_and_gradients(before, images)
    trained = Network(parse_text(PECULIAR)).initialise(1)
    trainer = Trainer(trained)
    trainer.accumulate(images, torch.eye(3)[[0, 1, 2, 0]])
    after = Network(parse_text(PECULIAR)).initialise(1)
    for network in (before, after):
        assert all(map(torch.equal, outputs_and_gradients(network, images), expected))
    assert not torch.allclose(outputs_and_gradients(trained, images)[1], expected[1], rtol=1e-3)


def test_a_plain_training_loop_has_the_batch_norm_of_pytorch() -> None:
    net = "[net]\nwidth=6\nheight=6\nchannels=3\n"
    text = "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nactivation=leaky\n"
    network = Network(parse_text(net + text)).initialise(1).train()
    layer = network.layers[0]
    convolution, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    with torch.no_grad():
        layer.scales.uniform_(0.5, 1.5)
        layer.biases.uniform_(-1, 1)
        convolution.weight.copy_(layer.weights)
        norm.weight.copy_(layer.scales)
        norm.bias.copy_(layer.biases)
        norm.running_var.copy_(layer.rolling_variance)
    reference = nn.Sequential(convolution, norm, nn.LeakyReLU(0.1))
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (network, reference)]
    for seed in range(3):
        images = torch.rand((4, 3, 6, 6), generator=torch.Generator().manual_seed(seed))
        outputs = network(images)[0], reference(images)
        assert torch.allclose(*outputs, atol=1e-6)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            optimizer.zero_grad()
            output.square().mean().backward()
        pairs = ((layer.weights, convolution.weight), (layer.scales, norm.weight), (layer.biases, norm.bias))
        for parameter, expected in pairs:
            assert torch.allclose(parameter.grad, expected.grad, rtol=1e-5, atol=1e-7)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(layer.rolling_mean, norm.running_mean, atol=1e-6)
    assert torch.allclose(layer.rolling_variance, norm.running_var, atol=1e-6)


def test_a_layer_gives_all_its_parameters_to_stored() -> None:
    """One that it kept to itself would be neither trained, saved nor deployed."""

    class Forgetful(Layer):
        kind = "forgetful"

        def __init__(self, options: LayerOptions, place: Place) -> None:
            super().__init__(options, place)
            self.shape, self.gain = place.input, nn.Parameter(torch.ones(1))

    try:
        KINDS["forgetful"] = Forgetful
        with pytest.raises(TypeError, match=r"'gain'.*stored_names"):
            Network(parse_text("[net]\nwidth=4\nheight=4\nchannels=1\n[forgetful]\n"))
    finally:
        del KINDS["forgetful"]
