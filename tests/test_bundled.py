"""The model that comes along finds what its images show."""

from pathlib import Path

import pytest

from darknet_py import detect, load
from darknet_py.bundled import bundled
from darknet_py.data.dataset import open_dataset
from darknet_py.errors import DarknetError
from darknet_py.measuring.evaluation import evaluate
from darknet_py.shapes import write_dataset


def test_detect_without_arguments_names_the_shapes_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert detect.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(":")[0] for line in lines if line.endswith("%")) == [
        "circle",
        "cross",
        "square",
        "triangle",
    ]
    assert len(list((tmp_path / "runs" / "detect-1").iterdir())) == 1


def test_its_map_on_images_that_it_has_never_seen(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path, train=1, valid=60, seed=1234), "valid")
    assert evaluate(load(bundled("cfg"), bundled("weights")), dataset).mAP > 0.85


def test_an_installation_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darknet_py.bundled.ROOT", tmp_path)
    with pytest.raises(DarknetError, match="the bundled model is not here; run this in a clone"):
        bundled("cfg")
