"""A GPU sends a batch's candidates at once, and they are those that each head decodes."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from darknet_py import Detector, Network, parse_cfg
from darknet_py.cfg import parse_text
from darknet_py.inference import gathered
from darknet_py.inference.gathered import gather, packed
from darknet_py.layers import Candidates

CFGS = Path(__file__).resolve().parents[2] / "cfg"
NAMES = ["yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny-ota", "yolox-nano", "yolov6n", "yolov8n"]
THRESH = 0.25


@functools.cache
def network_of(name: str) -> Network:
    return Network(parse_cfg(CFGS / f"{name}.cfg"), size=(96, 64)).initialise(0).eval()


def raw_of(name: str, images: int = 3) -> list[Tensor]:
    """Raw outputs with some dozen boxes over the threshold in each image."""
    network = network_of(name)
    with torch.no_grad():
        outputs = network(torch.zeros(images, 3, 64, 96))
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(output.shape, generator=generator) * 4 - 2 for output in outputs]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_those_that_the_heads_decode(name: str) -> None:
    network, raw = network_of(name), raw_of(name)
    each = [head.decode(one, THRESH, network.size) for head, one in zip(network.head_layers(), raw, strict=True)]
    decoded = Candidates(*map(torch.cat, zip(*each, strict=True)))
    some = decoded.probs.amax(1) > THRESH  # the others are of no class
    order = decoded.image[some].argsort(stable=True)
    found, complete, finite = gather(network.head_layers(), raw, THRESH, network.size)
    assert complete
    assert finite
    assert len(order) > 30
    for ours, theirs in zip(found, decoded, strict=True):
        assert torch.equal(ours, theirs[some][order])


@pytest.mark.parametrize("name", NAMES)
def test_the_device_is_not_waited_for(name: str) -> None:
    network, raw = network_of(name), raw_of(name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # knows no values: what needs one fails
        raw = [mode.from_tensor(output) for output in raw]
        rows, counts, finite = packed(network.head_layers(), raw, THRESH, network.size)
        assert rows.shape == (3, min(gathered.ROOM, rows.shape[1]), 5 + network.classes)
        assert (counts.shape, finite.shape) == ((3,), ())
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            network.head_layers()[0].decode(raw[0], THRESH, network.size)


def test_an_image_with_more_than_there_is_room_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    network, raw = network_of("yolov3-tiny"), raw_of("yolov3-tiny")
    monkeypatch.setattr(gathered, "ROOM", 8)
    found, complete, _ = gather(network.head_layers(), raw, THRESH, network.size)
    assert not complete
    assert found.image.bincount().tolist() == [8, 8, 8]


def test_a_head_may_have_no_classes() -> None:
    text = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=10\nactivation=linear\n"
    network = Network(parse_text(f"{text}[yolo]\nclasses=0\nnum=2\nanchors=4,5,8,9\n")).initialise(0).eval()
    found, complete, _ = gather(network.head_layers(), network(torch.rand(2, 3, 32, 32)), THRESH, network.size)
    assert complete
    assert not len(found.image)


def test_objectness_below_zero_makes_no_candidate() -> None:
    """As it can be where `new_coords=1` reads no probabilities; a negative class would make the product positive."""
    text = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=14\nactivation=linear\n"
    head = "[yolo]\nclasses=2\nnum=2\nanchors=4,5,8,9\nnew_coords=1\n"
    network = Network(parse_text(text + head)).initialise(0).eval()
    raw = torch.randn(1, 14, 32, 32, generator=torch.Generator().manual_seed(0))
    decoded = network.head_layers()[0].decode(raw, THRESH, network.size)
    expected = int((decoded.probs.amax(1) > THRESH).sum())
    found = gather(network.head_layers(), [raw], THRESH, network.size).candidates
    assert len(found.image) == min(expected, gathered.ROOM)
    assert expected < gathered.ROOM


def test_values_that_are_not_finite_are_told() -> None:
    network, raw = network_of("yolov3-tiny"), raw_of("yolov3-tiny")
    raw[0][1, 0, 0, 0] = float("nan")
    assert not gather(network.head_layers(), raw, THRESH, network.size).finite


@pytest.mark.parametrize("room", [8, 512])
def test_detections_are_the_same(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, raw, sizes = Detector(network_of("yolov3-tiny")), raw_of("yolov3-tiny"), [(640, 480)] * 3
    expected = detector.postprocess(raw, sizes, THRESH, 0.45)
    monkeypatch.setattr(gathered, "ROOM", room)
    monkeypatch.setattr(Detector, "gathers", lambda *_: True)
    found = detector.postprocess(raw, sizes, THRESH, 0.45)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) > 5
        assert np.array_equal(ours.class_ids, theirs.class_ids)
        assert np.array_equal(ours.confidences, theirs.confidences)
        assert np.array_equal(ours.xywh, theirs.xywh)
