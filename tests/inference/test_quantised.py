"""Exported models with 8-bit numbers find the same objects, in a fraction of the bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from project import ROOT

from darknet_py import Detector, export, load
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import DarknetError
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.inference.quantised import quantise_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

MODEL = ["--cfg", str(ROOT / "cfg" / "shapes.cfg"), "--weights", str(ROOT / "weights" / "shapes.weights")]
PICTURE = ROOT / "weights" / "shapes.png"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), train=20, valid=1).parent


@pytest.mark.parametrize("more", [[], ["--uint8"]])
def test_the_same_objects_are_found(
    more: list[str], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    folder = next(path.parent for path in images.rglob("train-*.png"))
    assert export.main([*MODEL, "--out", str(out), "--type", "int8", "--calibrate", str(folder), *more]) == 0
    assert "scores: 8-bit numbers change it by" in capsys.readouterr().out
    exact = Detector(load("cfg/shapes.cfg", "weights/shapes.weights"))([str(PICTURE)], thresh=0.5)[0]
    found = Detector(out)([str(PICTURE)], thresh=0.5)[0]
    assert Counter(exact.class_ids.tolist()) == Counter(found.class_ids.tolist())
    model = onnx.load(out)
    kinds = Counter(tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4)
    assert kinds[onnx.TensorProto.INT8] > kinds[onnx.TensorProto.FLOAT] >= 2  # the first one, and the heads'
    assert '"type": "int8"' in {entry.key: entry.value for entry in model.metadata_props}["darknet_py"]


def test_without_images_there_are_no_ranges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        export.main([*MODEL, "--type", "int8"])
    assert ended.value.code == 2
    assert "--type int8 and --calibrate IMAGES go together" in capsys.readouterr().err
    source = tmp_path / "model.onnx"
    export_onnx(load("cfg/shapes.cfg", "weights/shapes.weights"), source, Form("raw"))
    with pytest.raises(DarknetError, match=r"8\.onnx: 8-bit numbers need example images"):
        quantise_onnx(source, tmp_path / "8.onnx", [])
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
