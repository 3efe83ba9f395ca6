"""What a cfg says of images, detection and training stands in words below its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import CFGS, ROOT

from darknet_py import Detector, detect, summary
from darknet_py.cfg import parse_cfg
from darknet_py.conventions import conventions
from darknet_py.network import Network

SAMPLE = ROOT / "weights" / "shapes.png"


def lines_of(name: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in conventions(Network(parse_cfg(CFGS / name))))


def test_darknets_own_defaults_are_said_too() -> None:
    lines = lines_of("yolov3-tiny.cfg")
    assert lines["images"] == "stretched; RGB, 0..1"
    assert lines["detection"].startswith("thresh=0.25 nms=0.45 nms_kind=default;")
    assert {"loss=darknet", "max_batches=500200;"} <= set(lines["training"].split())
    assert "evaluation" not in lines  # the metric's own thresholds


def test_a_cfg_of_another_program_says_its_conventions() -> None:
    lines = lines_of("yolox-nano.cfg")
    assert lines["images"] == "aspect ratio kept, at the left top of grey 114 of 255; BGR, 0..255"
    assert lines["evaluation"] == "valid_thresh=0.01 valid_nms=0.65"
    assert {"loss=yolox", "epochs=300;"} <= set(lines["training"].split())


def test_a_classifier_has_no_thresholds() -> None:
    assert list(lines_of("darknet19.cfg")) == ["images", "training"]


@pytest.mark.parametrize(
    "name", ["yolov5n", "yolov6n", "yolov7-tiny-ota", "yolov8n", "yolox-nano", "faster-rcnn-small", "yolov3-tiny"]
)
def test_detect_goes_by_them_without_options(name: str, tmp_path: Path) -> None:
    network = Network(parse_cfg(CFGS / f"{name}.cfg")).initialise(0)
    network.save_weights(tmp_path / "fresh.weights")
    files = ["--cfg", str(CFGS / f"{name}.cfg"), "--weights", str(tmp_path / "fresh.weights")]
    out = ["--json", str(tmp_path / "found.json"), "--out", str(tmp_path)]
    assert detect.main([*files, *out, "weights/shapes.png"]) == 0
    (image,) = json.loads((tmp_path / "found.json").read_text())
    confidences = [found["confidence"] for found in image["objects"]]
    thresh, max_det = network.net.thresh or 0.25, network.net.max_det
    assert all(confidence > thresh - 1e-4 for confidence in confidences)
    assert not max_det or len(confidences) <= max_det
    expected = Detector(network)(SAMPLE)[0]
    assert confidences == pytest.approx(expected.confidences.tolist(), abs=1e-4)


def test_summary_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(CFGS / "shapes.cfg")]) == 0
    assert capsys.readouterr().out.splitlines()[-3].startswith("images: ")
