"""The bundled model finds what its images show; the bundled files are found by name in any folder."""

from pathlib import Path

import pytest
from project import ROOT

from darknet_py import detect, load
from darknet_py.bundled import bundled, or_bundled
from darknet_py.data.dataset import open_dataset
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import CfgError, DarknetError
from darknet_py.measuring.evaluation import evaluate

SHAPES = ["circle", "cross", "square", "triangle"]


def classes_found(printed: str) -> list[str]:
    return sorted(line.split(":")[0] for line in printed.splitlines() if line.endswith("%"))


def test_detect_without_arguments_names_the_shapes_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert detect.main([]) == 0
    assert classes_found(capsys.readouterr().out) == SHAPES
    assert len(list((tmp_path / "runs" / "detect-1").iterdir())) == 1


def test_its_map_on_images_that_it_has_never_seen(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path, train=1, valid=60, seed=1234), "valid")
    assert evaluate(load(bundled("cfg"), bundled("weights")), dataset).mAP > 0.85


def test_bundled_files_are_found_by_name_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights", "--names", "cfg/shapes.names"]
    assert detect.main([*model, "weights/shapes.png"]) == 0
    assert classes_found(capsys.readouterr().out) == SHAPES
    assert load("cfg/yolov3-tiny.cfg").cfg.path == str(ROOT / "cfg" / "yolov3-tiny.cfg")


def test_a_file_in_the_current_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("cfg", "yolov3.cfg")
    own.parent.mkdir()
    own.write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[maxpool]\n")
    assert len(load("cfg/yolov3.cfg").layers) == 1


def test_other_names_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("yolov3.cfg", "cfg/none.cfg", "other/cfg/yolov3.cfg", "weights/README.md", "cfg", ""):
        assert or_bundled(name) == name
    with pytest.raises(CfgError, match=r"^cfg/none\.cfg: cannot read"):
        load("cfg/none.cfg")


def test_a_damaged_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darknet_py.bundled.ROOT", tmp_path)
    with pytest.raises(DarknetError, match="this file of the bundled model is missing; install darknet_py again"):
        bundled("cfg")
