"""Suppression in an exported graph leaves what Darknet's leaves, and chooses before and after it as [net] says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from darknet_py import Detector, Network
from darknet_py.boxes import nms
from darknet_py.cfg import parse_text
from darknet_py.choices import NMS_KINDS
from darknet_py.inference import graph_nms as module
from darknet_py.inference.exporting import Form, Graph, export_onnx
from darknet_py.inference.graph_nms import graph_nms
from darknet_py.inference.onnx_runner import open_session

IMAGES, CLASSES, BOXES, OVERLAP = 3, 4, 60, 0.2


def crowd(images: int = IMAGES) -> tuple[Tensor, Tensor]:
    """Boxes (n, k, 4) that overlap much, and scores (n, k, classes)."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(images, BOXES, 4, generator=generator) * 0.4 + 0.2
    return boxes, torch.rand(images, BOXES, CLASSES, generator=generator)


def darknets(
    boxes: Tensor, scores: Tensor, thresh: float, most: int, kind: str, beta: float
) -> list[tuple[int, int, int]]:
    """(image, class, box) of what `boxes.nms` leaves of the most confident candidates of each image."""
    flat = scores.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :most].sort(1).values
    image, place = (flat.gather(1, order) > thresh).nonzero(as_tuple=True)
    box, class_id = order[image, place] // CLASSES, order[image, place] % CLASSES
    group, confidence = image * CLASSES + class_id, scores[image, box, class_id]
    kept = nms(boxes[image, box], confidence, group, OVERLAP, kind, beta)
    found = torch.stack((image, class_id, -confidence, box), 1)[kept]
    return [(int(image), int(class_id), int(box)) for image, class_id, _, box in sorted(found.tolist())]


@pytest.mark.parametrize("kind", NMS_KINDS)
@pytest.mark.parametrize(("thresh", "most"), [(0.3, 2048), (0.0, 50), (1.0, 2048)])
def test_the_graph_leaves_what_darknet_leaves(
    kind: str, thresh: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANDIDATES", most)
    boxes, scores = crowd()
    found = graph_nms(boxes, scores, torch.tensor([OVERLAP]), torch.tensor([thresh]), kind, 0.3)
    rows = list(zip(*(column.tolist() for column in found), strict=True))
    expected = darknets(boxes, scores, thresh, most, kind, 0.3)
    assert rows == expected
    assert bool(rows) == (thresh < 1)
    assert len(rows) < min(most, CLASSES * BOXES) * IMAGES * 0.8  # much is suppressed


class Suppression(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, overlap: Tensor, thresh: Tensor) -> tuple[Tensor, ...]:
        return graph_nms(boxes, scores, overlap, thresh, "diounms", 0.3)


@pytest.mark.filterwarnings("ignore")  # of the exporter, on its own working
def test_of_equal_scores_the_first_is_better_in_the_exported_graph_too(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    limits = torch.tensor([OVERLAP]), torch.tensor([0.3])
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        Suppression().eval(), (*crowd(2), *limits), tmp_path / "model.onnx", dynamo=True, external_data=False,
        verbose=False, input_names=["boxes", "scores", "overlap", "thresh"], dynamic_shapes=(batch, batch, {}, {}),
    )  # fmt: skip
    session = open_session(tmp_path / "model.onnx")
    for images in (1, 3):
        boxes, scores = crowd(images)
        scores = scores.mul(20).round() / 20
        inputs = dict(zip(("boxes", "scores", "overlap", "thresh"), (boxes, scores, *limits), strict=True))
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        rows = list(zip(*(column.tolist() for column in found), strict=True))
        assert rows == darknets(boxes, scores, 0.3, 2048, "diounms", 0.3)
        assert len(rows) > 10 * images


HEAD = """
[convolutional]
size=8
stride=8
filters=27
activation=linear
[yolo]
classes=4
mask=0,1,2
num=3
anchors=40,40,30,50,60,20
"""


CHOICES = [
    "thresh=.3 nms=.3 agnostic=1",
    "nms=0 best_class=1",
    "best_class=2 max_nms=100 max_det=30",
    "objectness_thresh=.55 class_thresh=.5",
    "objectness_thresh=.5 max_nms=100",
    "agnostic=1 max_nms=100 max_det=30",
]


def chooser(options: str) -> tuple[Network, Tensor]:
    """A network whose [net] has the options, and two images that bring a crowd of boxes."""
    net = "\n".join(["[net]", "width=96", "height=96", "channels=3", *options.split()])
    network = Network(parse_text(net + HEAD, "net.cfg")).initialise(0).requires_grad_(False).eval()
    return network, torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)) - 0.5


def assert_detects(rows: Tensor, network: Network, images: Tensor, kind: str) -> None:
    """The rows (m, 7) are what detection finds."""
    detector = Detector(network, nms_kind=kind)
    for number, found in enumerate(detector.postprocess(network(images), [(96, 96)] * 2, None, None)):
        ours = rows[rows[:, 0] == number]
        ours = ours[ours[:, 2].argsort(descending=True, stable=True)].numpy()
        assert list(ours[:, 1]) == list(found.class_ids)
        assert len(found) > 10
        assert np.abs(ours[:, 2] - found.confidences).max() <= 1e-5
        assert np.abs(ours[:, 3:] - found.xywh).max() <= 1e-5


@pytest.mark.parametrize("kind", ["greedynms", "diounms"])
@pytest.mark.parametrize("options", CHOICES)
def test_the_graph_finds_what_detection_finds(options: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = chooser(options)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    graph = Graph(network, Form("detections", nms_kind=kind))
    rows, *_ = graph(images, [torch.tensor([limit]) for limit in graph.form.limits(network)])
    assert_detects(rows, network, images, kind)


@pytest.mark.filterwarnings("ignore")  # of the exporter, on its own working
@pytest.mark.parametrize("options", CHOICES[-2:])
def test_a_graph_with_the_operator_finds_what_detection_finds(options: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    network, images = chooser(options)
    export_onnx(network, tmp_path / "model.onnx", Form("detections"), dynamic_size=True)
    (rows,) = open_session(tmp_path / "model.onnx").run(None, {"images": images.numpy()})
    assert_detects(torch.from_numpy(rows), network, images, "default")
