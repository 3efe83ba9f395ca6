"""YOLOX-nano's real weights, from a file of the original program's names, find in pictures what it finds there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import REALDATA, needs_realdata
from project import CFGS
from yolos import YOLOS, arrays, needs_yolos

import darknet_py
from darknet_py import Detector
from darknet_py.convert import main as convert
from darknet_py.detections import Detections

pytestmark = [needs_yolos, needs_realdata]
ABOUT = YOLOS / "yolox" / "real_nano.json"
CONTENT: dict[str, Any] = json.loads(ABOUT.read_text()) if ABOUT.is_file() else {"pictures": []}
CASES = [
    pytest.param(picture["picture"], run, id=f"{Path(picture['picture']).stem}-{k}")
    for picture in CONTENT["pictures"]
    for k, run in enumerate(picture["runs"])
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .weights file that `convert` wrote, as a user would make it."""
    folder = tmp_path_factory.mktemp("nano")
    values = arrays(YOLOS / "yolox" / "real_nano_fused_weights.npz")
    torch.save({name: torch.from_numpy(value) for name, value in values.items()}, folder / "nano.pth")
    out = folder / "nano.weights"
    assert convert([str(folder / "nano.pth"), "--cfg", str(CFGS / "yolox-nano.cfg"), "--out", str(out)]) == 0
    return out


def assert_same(found: Detections, rows: list[list[float]]) -> None:
    """rows: corners in the picture's pixels, objectness, class probability, class; the most confident objects alone."""
    wanted = np.array(rows)
    confidences = wanted[:, 4] * wanted[:, 5]
    order, best = np.argsort(-confidences), np.argsort(-np.asarray(found.confidences))[: len(rows)]
    np.testing.assert_array_equal(np.asarray(found.class_ids)[best], wanted[order, 6])
    np.testing.assert_allclose(np.asarray(found.confidences)[best], confidences[order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found.xyxy)[best], wanted[order, :4], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("picture", "run"), CASES)
def test_the_real_network_finds_what_the_original_program_finds(
    picture: str, run: dict[str, Any], weights: Path
) -> None:
    detector = Detector(darknet_py.load(CFGS / "yolox-nano.cfg", weights), agnostic=run["class_agnostic"])
    (found,) = detector(str(REALDATA / picture), thresh=run["conf_thre"], nms=run["nms_thre"])
    assert len(found) == run["n"]
    assert_same(found, run["rows_x1y1x2y2_obj_cls_class"])


def test_an_input_that_is_not_square(weights: Path) -> None:
    about = CONTENT["non_square"]
    height, width = about["input_hw"]
    network = darknet_py.load(CFGS / "yolox-nano.cfg", weights, size=(width, height))
    picture = next(Path(other["picture"]) for other in CONTENT["pictures"] if about["picture"] in other["picture"])
    (found,) = Detector(network)(str(REALDATA / picture), thresh=about["conf_thre"], nms=about["nms_thre"])
    assert_same(found, about["rows"])
