"""What programs that run `./darknet` read of its output: their patterns fit this program's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from project import CFGS, ROOT, python
from small_data import write_noise

MODEL = str(CFGS / "shapes.cfg"), str(ROOT / "weights/shapes.weights")
LOSS = r"^\s*(\d+): ([\d.]+), ([\d.]+) avg loss, ([\d.]+) rate, ([\d.]+) seconds, (\d+) images"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of two images, one of which is the model's own sample image with its label."""
    shutil.copy(ROOT / "weights/shapes.png", write_noise(tmp_path / "images/a.jpg").with_name("b.png"))
    (tmp_path / "images/a.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "images/b.txt").write_text("0 0.459 0.244 0.228 0.297\n")
    (tmp_path / "list.txt").write_text("images/a.jpg\nimages/b.png\n")
    (tmp_path / "obj.data").write_text(
        f"classes=6\ntrain=list.txt\nvalid=list.txt\nnames={CFGS / 'shapes.names'}\nbackup=backup\n"
    )
    return tmp_path


def test_training_prints_losses_and_names_the_files_that_it_saves(data: Path) -> None:
    text = Path(MODEL[0]).read_text()
    net = "batch=2\nsubdivisions=1\nmax_batches=3\nwidth=64\nheight=64\n"
    (data / "my.cfg").write_text(
        re.sub(r"(?m)^(batch|subdivisions|max_batches|width|height)\s*=.*\n", "", text).replace(
            "[net]\n", f"[net]\n{net}"
        )
    )
    result = python("-m", "darknet_py", "detector", "train", "obj.data", "my.cfg", "-dont_show", "-nocolor", cwd=data)
    assert result.returncode == 0, result.stderr
    losses = re.findall(LOSS, result.stdout, re.MULTILINE)
    assert (losses[-1][0], losses[-1][-1]) == ("3", "6")
    averages = [line for line in result.stdout.splitlines() if "avg" in line]
    assert all(float(line.split(",")[1].split()[0]) > 0 and int(line.split(":")[0]) for line in averages)
    assert re.search(r"Saving weights to .*_final\.weights", result.stdout + result.stderr)


def test_measuring_prints_each_class_and_the_mean(data: Path) -> None:
    result = python("-m", "darknet_py", "detector", "map", "obj.data", *MODEL, "-verbose", cwd=data)
    assert re.findall(r"class_id = (\d+), name = ([\w.-]+), ap = ([\d.]+)%\s+\(TP = (\d+), FP = (\d+)\)", result.stdout)
    assert re.search(r"average IoU = [\d.]+ %", result.stdout)
    assert re.search(r"mean average precision \(mAP@0.50\) = [\d.]+, or [\d.]+ %", result.stdout)
    assert re.search(r"for conf_thresh = [\d.]+, precision = [\d.]+, recall = [\d.]+, F1-score = [\d.]+", result.stdout)


def test_detecting_prints_a_line_for_each_image_and_object(data: Path) -> None:
    words = ("detector", "test", "obj.data", *MODEL, "-ext_output", "-dont_show", "-out", "result.json")
    result = python("-m", "darknet_py", *words, cwd=data, stdin="images/a.jpg\nimages/b.png\n")
    assert re.findall(r"^([\w/-]+\.\w+): Predicted in [\d.]+ milli-seconds\.$", result.stdout, re.MULTILINE) == [
        "images/a.jpg",
        "images/b.png",
    ]
    box = r"^circle: \d+%\s+\(left_x:\s+-?\d+\s+top_y:\s+-?\d+\s+width:\s+\d+\s+height:\s+\d+\)$"
    assert len(re.findall(box, result.stdout, re.MULTILINE)) == 1
    assert '"relative_coordinates"' in (data / "result.json").read_text()
