"""Suppression in an exported graph leaves what Darknet's leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from darknet_py.boxes import nms
from darknet_py.choices import NMS_KINDS
from darknet_py.inference import graph_nms as module
from darknet_py.inference.graph_nms import graph_nms
from darknet_py.inference.onnx_runner import open_session

IMAGES, CLASSES, BOXES, OVERLAP = 3, 4, 60, 0.2


def crowd(images: int = IMAGES) -> tuple[Tensor, Tensor]:
    """Boxes (n, k, 4) that overlap much, and scores (n, classes, k)."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(images, BOXES, 4, generator=generator) * 0.4 + 0.2
    return boxes, torch.rand(images, CLASSES, BOXES, generator=generator)


def darknets(
    boxes: Tensor, scores: Tensor, thresh: float, most: int, kind: str, beta: float
) -> list[tuple[int, int, int]]:
    """(image, class, box) of what `boxes.nms` leaves of the most confident candidates of each image."""
    flat = scores.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :most].sort(1).values
    image, place = (flat.gather(1, order) > thresh).nonzero(as_tuple=True)
    class_id, box = order[image, place] // BOXES, order[image, place] % BOXES
    group, confidence = image * CLASSES + class_id, scores[image, class_id, box]
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
