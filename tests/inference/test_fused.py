"""A fused network gives the numbers of the plain one, for any number of images, and leaves the process as it was."""

from __future__ import annotations

import pytest
import torch
from project import OWN_CFGS

from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.inference.fused import fused_graph
from darknet_py.inference.runner import Runner, prepare
from darknet_py.network import Network, load

BATCH = 3
LARGE = 20_000_000  # weights; larger networks take longer and show nothing else


def small(path: str) -> Network:
    network = Network(parse_cfg(path), size=(128, 128)).initialise(1)
    for name, buffer in network.named_buffers():
        if name.endswith("rolling_variance"):
            buffer.fill_(1)
    return network.eval()


def fused_runner(network: Network) -> Runner:
    runner = prepare(network, batch=BATCH, fused=True)
    if runner._graph(BATCH) is None:
        pytest.skip("this PyTorch does not fuse")
    return runner


@pytest.mark.parametrize("path", [path for path in OWN_CFGS if "yolo" in path.name], ids=lambda path: path.stem)
def test_detectors_are_fused_and_keep_their_numbers(path: object) -> None:
    network = small(str(path))
    if sum(parameter.numel() for parameter in network.parameters()) > LARGE:
        pytest.skip("a large network")
    plain, runner = prepare(network, batch=BATCH), fused_runner(network)
    images = torch.rand(BATCH + 1, 3, 128, 128)
    for count in range(1, BATCH + 2):
        for ours, expected in zip(runner(images[:count]), plain(images[:count]), strict=True):
            assert ours.shape == expected.shape
            assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_fused_network_reads_other_number_formats() -> None:
    network = small("cfg/yolov3-tiny.cfg")
    images = torch.rand(1, 3, 128, 128)
    expected = prepare(network)(images)
    runner = prepare(network, precision="bf16", batch=1, fused=True)  # some CPUs fuse it, some do not
    for ours, exact in zip(runner(images.bfloat16()), expected, strict=True):
        assert (ours.float() - exact).abs().max() <= 0.05 * exact.abs().max()


def test_what_cannot_be_fused_runs_as_it_is() -> None:
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[crnn]\npad=1\nhidden=4\noutput=4\nactivation=leaky\n"
    network = Network(parse_text(text)).initialise(1).eval()
    assert fused_graph(network, 2) is None
    runner = prepare(network, batch=2, fused=True)
    assert runner(torch.rand(2, 3, 8, 8))[0].shape[0] == 2


def test_the_switch_of_the_process_is_left_as_it_was() -> None:
    before = torch.jit.onednn_fusion_enabled()
    fused_runner(load("cfg/shapes.cfg", "weights/shapes.weights"))
    assert torch.jit.onednn_fusion_enabled() == before


def test_a_fused_network_does_not_follow_later_changes() -> None:
    network = load("cfg/shapes.cfg", "weights/shapes.weights")
    runner = fused_runner(network)
    width, height = network.size
    images = torch.rand(1, 3, height, width)
    before = [output.clone() for output in runner(images)]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    for now, then in zip(runner(images), before, strict=True):
        assert torch.equal(now, then)
