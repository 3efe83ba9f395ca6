"""The boxes of every head are one formula: traceable, differentiable, and what decoding gives over a threshold."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from darknet_py import Network
from darknet_py.cfg import parse_text
from darknet_py.layers import Head
from darknet_py.training.batch_norm import Statistics
from darknet_py.training.derivatives import DarknetTraining, set_arithmetic

ANCHORS = "num=2\nanchors=8.3,12.1,20.7,16.9\nclasses=3\n"
HEADS = {
    "[yolo]": (16, f"[yolo]\n{ANCHORS}scale_x_y=1.2\n"),
    "[yolo] with new_coords": (16, f"[yolo]\n{ANCHORS}new_coords=1\nscale_x_y=2\n"),
    "[Gaussian_yolo]": (24, f"[Gaussian_yolo]\n{ANCHORS}scale_x_y=1.1\n"),
    "[Gaussian_yolo] by corners": (24, f"[Gaussian_yolo]\n{ANCHORS}yolo_point=left_top\n"),
    "[region]": (16, f"[region]\n{ANCHORS}"),
    "[region] with softmax": (16, f"[region]\n{ANCHORS}softmax=1\n"),
    "[anchor_free]": (7, "[anchor_free]\nclasses=3\n"),
    "[anchor_free] with distributions": (23, "[anchor_free]\nclasses=3\nreg_max=4\n"),
    "[anchor_free] with an objectness": (8, "[anchor_free]\nclasses=3\ncoords=xywh\nobjectness=1\n"),
    "[anchor_free] with anchors": (14, "[anchor_free]\nclasses=3\nanchors=8.3,12.1,20.7,16.9\n"),
    "[detection]": (0, "[detection]\nclasses=3\ncoords=4\nnum=2\nside=4\n"),
    "[detection] with softmax and roots": (0, "[detection]\nclasses=3\ncoords=4\nnum=2\nside=4\nsoftmax=1\nsqrt=1\n"),
}
SIZE = (40, 32)  # of the input, pixels


def head_of(kind: str) -> Head:
    filters, section = HEADS[kind]
    before = f"[convolutional]\nfilters={filters}\nsize=8\nstride=8\n" if filters else "[connected]\noutput=208\n"
    network = Network(parse_text(f"[net]\nwidth={SIZE[0]}\nheight={SIZE[1]}\nchannels=3\n{before}{section}"))
    return network.head_layers()[0]


def raw_for(head: Head, images: int = 2) -> Tensor:
    """Values of 0..1, as after the logistic function that new_coords asks for."""
    shape = head.input[:3] if head.kind != "detection" else (head.shape.count,)
    return torch.rand((images, *shape), generator=torch.Generator().manual_seed(1))


class AllBoxes(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head.boxes(raw, SIZE))


@pytest.mark.parametrize("kind", HEADS)
def test_boxes_are_traceable(kind: str) -> None:
    module, raw = AllBoxes(head_of(kind)), raw_for(head_of(kind))
    exported = torch.export.export(module, (raw,)).module()
    for actual, expected in zip(exported(raw), module(raw), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("kind", HEADS)
def test_boxes_are_differentiable(kind: str) -> None:
    """Compared with differences of the formula in double precision; every value of the raw output counts."""
    head = head_of(kind).double()
    raw = raw_for(head, images=1).double().requires_grad_(True)
    weights = [torch.randn(value.shape).double() for value in head.boxes(raw, SIZE)]

    def total(values: Tensor) -> Tensor:
        return cast(Tensor, sum((w * v).sum() for w, v in zip(weights, head.boxes(values, SIZE), strict=True)))

    assert torch.autograd.gradcheck(total, (raw,), fast_mode=True)
    (gradient,) = torch.autograd.grad(total(raw), raw)
    assert bool((gradient != 0).all())


@pytest.mark.parametrize("kind", HEADS)
def test_boxes_do_not_depend_on_the_number_format_of_the_network(kind: str) -> None:
    """Anchors of 373 pixels would be 372 in bfloat16."""
    raw = raw_for(head_of(kind))
    for found, expected in zip(head_of(kind).bfloat16().boxes(raw, SIZE), head_of(kind).boxes(raw, SIZE), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", HEADS)
def test_decoding_gives_the_boxes_over_the_threshold(kind: str) -> None:
    head = head_of(kind)
    raw = raw_for(head)
    xywh, objectness, classes = head.boxes(raw, SIZE)
    probs = objectness[..., None] * classes
    thresh = float(probs.amax(-1).quantile(0.5))  # between two values: half of the boxes exceed it
    image, box = (probs > thresh).any(-1).nonzero(as_tuple=True)
    assert len(image) == objectness.numel() // 2
    candidates = head.decode(raw, thresh, SIZE)
    counted = (candidates.probs > 0).any(-1)  # a head may also give boxes whose objectness alone exceeds it
    assert torch.equal(candidates.image[counted], image)
    expected = probs[image, box] * (probs[image, box] > thresh)
    assert torch.allclose(candidates.probs[counted], expected, rtol=1e-6, atol=0)
    assert torch.allclose(candidates.xywh[counted], xywh[image, box], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "head",
    [
        "[yolo]\nclasses=2\nnum=1\nanchors=1,2\n",
        "[Gaussian_yolo]\nclasses=2\nnum=1\nanchors=1,2\n",
        "[region]\nclasses=2\nnum=1\nanchors=1,2\ncoords=4\nsoftmax=1\n",
        "[detection]\nclasses=2\nside=2\nnum=1\ncoords=4\nsoftmax=1\n",
    ],
)
def test_a_gradient_from_layers_behind_a_head_passes_its_activations_by(head: str) -> None:
    """Darknet adds the delta of a head's output to that of its input as it is (yolo_layer.c:backward_yolo_layer …)."""
    filters = 11 if "Gaussian" in head else 7
    net = f"[net]\nwidth=2\nheight=2\nchannels=3\n[convolutional]\nfilters={filters}\nactivation=linear\n"
    flat = "[connected]\noutput=28\nactivation=linear\n" if "detection" in head else ""
    network = Network(parse_text(net + flat + head + "[empty]\n")).initialise(0)
    set_arithmetic(network, DarknetTraining(Statistics(), 1))
    index = len(network.layers) - 3  # what the head reads
    maps = network.features(torch.rand(2, 3, 2, 2), [index, index + 2])
    weights = torch.rand(maps[index + 2].shape)
    (gradient,) = torch.autograd.grad((maps[index + 2] * weights).sum(), maps[index])
    if "region" in head:  # its output is box by box
        assert torch.equal(gradient, weights.view(2, 2, 2, 7).permute(0, 3, 1, 2))
    else:
        assert torch.equal(gradient, weights.view_as(gradient))
