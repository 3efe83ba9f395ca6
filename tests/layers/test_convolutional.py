"""A convolution's gradient is the same in every memory layout, and touches no memory but its own."""

from __future__ import annotations

from pathlib import Path

import torch
from project import python

from darknet_py.cfg import parse_text
from darknet_py.network import Network

SUPPORT = str(Path(__file__).parents[1] / "support")
CFG = """[net]
width=64
height=64
channels={channels}
[convolutional]
filters={filters}
size={size}
stride={stride}
pad=1
activation=linear
"""


def network(channels: int, filters: int, size: int, stride: int) -> Network:
    text = CFG.format(channels=channels, filters=filters, size=size, stride=stride)
    return Network(parse_text(text)).initialise(0).train()


def test_1x1_convolutions_with_a_stride() -> None:
    """PyTorch writes the gradient of some of them beyond their memory: so in a process of its own, which would end."""
    code = f"""
import sys
sys.path.append({SUPPORT!r})
import torch
from test_convolutional import network
for channels, stride in [(channels, stride) for channels in (1, 2, 3, 5, 7, 8, 16) for stride in (1, 2, 3)]:
    print(channels, "channels, stride", stride, flush=True)
    plain, turned = network(channels, 16, 1, stride), network(channels, 16, 1, stride).channels_last()
    for _ in range(10):
        images = torch.rand(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))
        for one, given in (plain, images), (turned, images.contiguous(memory_format=torch.channels_last)):
            one(given)[0].square().sum().backward()
    for a, b in zip(plain.parameters(), turned.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-3)
"""
    done = python("-c", code, cwd=Path(__file__).parent)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_training_and_detection_compute_the_same_map() -> None:
    convolution = network(3, 16, 1, 2)
    images = torch.rand(2, 3, 64, 64)
    trained = convolution(images)[0].detach()
    with torch.no_grad():
        assert torch.allclose(convolution(images)[0], trained, rtol=1e-6, atol=1e-6)
