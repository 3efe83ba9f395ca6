"""What programs that run `./darknet` read of its output: their patterns fit this program's."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from project import CFGS, ROOT, python
from small_data import write_noise

from darknet_py.cfg import parse_cfg
from darknet_py.command import UNREADABLE
from darknet_py.darknet_words import run_action
from darknet_py.network import Network

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


def test_training_prints_every_iteration_and_names_the_files_that_it_saves(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(MODEL[0]).read_text()
    net = "batch=2\nsubdivisions=1\nmax_batches=3\nwidth=64\nheight=64\n"
    (data / "my.cfg").write_text(
        re.sub(r"(?m)^(batch|subdivisions|max_batches|width|height)\s*=.*\n", "", text).replace(
            "[net]\n", f"[net]\n{net}"
        )
    )
    monkeypatch.chdir(data)
    assert run_action("detector train", ["obj.data", "my.cfg", "-dont_show", "-nocolor", "-map"]) == 0
    printed = capsys.readouterr()
    losses = re.findall(LOSS, printed.out, re.MULTILINE)
    assert [(loss[0], loss[-1]) for loss in losses] == [("1", "2"), ("2", "4"), ("3", "6")]
    assert len(re.findall(r"^Loaded: [\d.]+ seconds$", printed.out, re.MULTILINE)) == 3
    assert len(re.findall(r"images, [\d.]+ hours left$", printed.out, re.MULTILINE)) == 3
    averages = [line for line in printed.out.splitlines() if "avg" in line]
    assert all(float(line.split(",")[1].split()[0]) > 0 and int(line.split(":")[0]) for line in averages)
    assert re.search(r"mean_average_precision \(mAP@0\.50\) = [\d.]+ \nNew best mAP!", printed.out)
    assert re.search(r"Saving weights to .*_final\.weights", printed.err)


def test_measuring_prints_each_class_and_the_mean(data: Path) -> None:
    result = python("-m", "darknet_py", "detector", "map", "obj.data", *MODEL, "-verbose", cwd=data)
    assert re.findall(r"class_id = (\d+), name = ([\w.-]+), ap = ([\d.]+)%\s+\(TP = (\d+), FP = (\d+)\)", result.stdout)
    assert re.search(r"average IoU = [\d.]+ %", result.stdout)
    assert re.search(r"mean average precision \(mAP@0.50\) = [\d.]+, or [\d.]+ %", result.stdout)
    assert re.search(r"for conf_thresh = [\d.]+, precision = [\d.]+, recall = [\d.]+, F1-score = [\d.]+", result.stdout)


def test_detecting_prints_a_line_for_each_image_and_object(data: Path) -> None:
    words = ("detector", "test", "obj.data", *MODEL, "-ext_output", "-dont_show", "-out", "result.json")
    result = python("-m", "darknet_py", *words, cwd=data, stdin="images/a.jpg\nimages/b.png\n")
    answers = r"^Enter Image Path: ([\w/-]+\.\w+): Predicted in [\d.]+ milli-seconds\.$"
    assert re.findall(answers, result.stdout, re.MULTILINE) == ["images/a.jpg", "images/b.png"]
    assert result.stdout.endswith("\nEnter Image Path: ")
    box = r"^circle: \d+%\s+\(left_x:\s+-?\d+\s+top_y:\s+-?\d+\s+width:\s+\d+\s+height:\s+\d+\)$"
    assert len(re.findall(box, result.stdout, re.MULTILINE)) == 1
    assert '"relative_coordinates"' in (data / "result.json").read_text()


class Conversation:
    """A standard input whose lines are given one by one, and what was printed before each of them was read."""

    def __init__(self, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.lines, self.capsys, self.printed = iter([*lines, ""]), capsys, list[str]()

    def readline(self) -> str:
        self.printed.append(self.capsys.readouterr().out)
        return next(self.lines)


@pytest.fixture
def conversation(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Runs a command line in the data set's folder; what it prints before it reads each line."""

    def run(command: str, *words: str, lines: list[str]) -> list[str]:
        said = Conversation(lines, capsys)
        monkeypatch.chdir(data)
        monkeypatch.setattr(sys, "stdin", said)
        assert run_action(command, words) == UNREADABLE
        return said.printed

    return run


def test_programs_name_the_next_image_when_they_have_read_the_answer(conversation: Callable[..., list[str]]) -> None:
    lines = ["images/b.png\n", "no.jpg\n", "images/a.jpg\n"]
    first, *answers = conversation("detector test", "obj.data", *MODEL, "-dont_show", lines=lines)
    assert first.endswith("Enter Image Path: ")
    assert all(answer.endswith("\nEnter Image Path: ") for answer in answers)
    beginnings = ("images/b.png: Predicted in ", "no.jpg: cannot read ", "images/a.jpg: Predicted in ")
    assert all(answer.startswith(text) for answer, text in zip(answers, beginnings, strict=True))


def test_classifying_asks_for_images(data: Path, conversation: Callable[..., list[str]]) -> None:
    (data / "c.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=6\nsize=1\n[avgpool]\n[softmax]\n"
    )
    Network(parse_cfg(data / "c.cfg")).initialise(0).save_weights(data / "c.weights")
    lines = ["images/a.jpg\n", "no.jpg\n"]
    first, *answers = conversation("classifier predict", "obj.data", "c.cfg", "c.weights", lines=lines)
    assert first.endswith("Enter Image Path: ")
    assert re.fullmatch(
        r"images/a\.jpg: Predicted in [\d.]+ milli-seconds\.\n(\w+: [\d.]+\n)+Enter Image Path: ", answers[0]
    )
    assert answers[1].startswith("no.jpg: cannot read ")
