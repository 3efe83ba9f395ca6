"""What a cfg says of images, detection and training stands in words below its table."""

from __future__ import annotations

import pytest
from project import CFGS

from darknet_py import summary
from darknet_py.cfg import parse_cfg
from darknet_py.conventions import conventions
from darknet_py.network import Network


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


def test_summary_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(CFGS / "shapes.cfg")]) == 0
    assert capsys.readouterr().out.splitlines()[-3].startswith("images: ")
