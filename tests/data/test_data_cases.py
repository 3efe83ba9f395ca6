"""Small data sets as people's tools and mistakes make them (`../shared/cases/data`, listed from the folder): what a
training says of each."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from kit import CASES, needs_cases
from project import python

from darknet_py.check import main as check
from darknet_py.command import MISTAKE, run_command
from darknet_py.data.dataset import open_dataset
from darknet_py.training.report import read_rows

FOLDERS = sorted(path.name for path in CASES.glob("data/*") if path.is_dir()) or ["(no cases)"]
pytestmark = needs_cases

# What a training prints of a data set that is known here; others only must not end in a traceback.
SAYS = {
    "bad_label_in_valid": ["va: 1 of 6 images are not measured", "va3.txt:1: ", "12 usable boxes in 6 images: blue 7"],
    "classification_label_in_path": ["train.list: none of 80 images can be used: 80 with no label in their path"],
    "coco_one_empty_bbox": ["(id 1); they are left out", "7 usable boxes in 4 images", "valid has the same images"],
    "cvat_yolo11_as_unzipped": ["8 usable boxes in 4 images"],
    "data_path_with_space": ["8 usable boxes in 4 images"],
    "negative_wh": ["none of 8 boxes can be used: 8 without area (first: ", "p0.txt: box 1"],
    "voc_size_swapped": ["p0.xml: its size is 64x96, but the picture", "p0.jpg is 96x64", "7 usable boxes in 4 images"],
}  # fmt: skip
STOPS = ("classification_label_in_path", "negative_wh")


def installed(name: str, folder: Path) -> Path:
    """A copy of a case as its texts say where it is: HERE is its folder, or the one around that. Its .data file."""
    case = CASES / "data" / name
    text = next(case.glob("*.data")).read_text()
    inner = re.search(r"HERE/([^/\n]+)/", text)
    is_around = inner is not None and not (case / inner[1]).exists()
    copy = folder / (inner[1] if inner is not None and is_around else name)
    shutil.copytree(case, copy)
    for path in [*copy.rglob("*.data"), *copy.rglob("*.txt"), *copy.rglob("*.list")]:
        path.write_text(path.read_text().replace("HERE", str(folder if is_around else copy)))
    return next(copy.glob("*.data"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_training_says_what_of_a_data_set_it_can_use(name: str, tmp_path: Path) -> None:
    data = installed(name, tmp_path)
    cfg = next(data.parent.glob("*.cfg"), CASES / "data/s.cfg")
    arguments = [data.name, cfg, "--out", tmp_path / "out", "--workers", "0", "--device", "cpu"]
    more = ["--map", "--map-every", "2"] if "valid" in data.read_text() else []
    ended = python("-m", "darknet_py.train", *arguments, *more, cwd=data.parent)
    printed = ended.stdout + ended.stderr
    assert "Traceback" not in printed
    assert not [text for text in SAYS.get(name, []) if text not in printed], printed
    if name in SAYS:
        assert ended.returncode == (MISTAKE if name in STOPS else 0)
    said = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert len(said) == len(set(said)), "each warning once"
    if ended.returncode == 0:
        assert len(read_rows(tmp_path / "out/metrics.csv")) == 3


@pytest.mark.parametrize("name", FOLDERS)
def test_every_image_of_a_data_set_is_found_and_checked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = installed(name, tmp_path)
    assert run_command(lambda: check([str(data)])) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
    if name != "classification_label_in_path":  # its list names files of another machine
        assert all(Path(image).is_file() for image in open_dataset(data).images)
