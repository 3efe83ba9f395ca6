"""Every flag of the C program is honoured, or it is said that it is not: none is dropped in silence."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from project import CFGS

from darknet_py import __main__ as program
from darknet_py import anchors, classify, convert, detect, evaluate, generate, network, rewriting, train
from darknet_py.bundled import bundled
from darknet_py.command import run_command
from darknet_py.darknet_words import ACTIONS, QUESTION, REFUSED, SWITCHES, VALUES, _label_file, split
from darknet_py.errors import DarknetError

# find_arg, find_int_arg, find_float_arg and find_char_arg of darknet.c, detector.c, classifier.c, yolo.c, coco.c, rnn.c
FLAGS = {
    "-avgframes": "3", "-benchmark": None, "-benchmark_layers": None, "-c": "1", "-chart": "chart.png", "-clear": None,
    "-cuda_debug_sync": None, "-dont_show": None, "-dontdraw_bbox": None, "-dontuse_opencv": None, "-ext_output": None,
    "-file": "text.txt", "-gpus": "1", "-hier": "0.4", "-height": "64", "-http_post_host": "host", "-i": "-1",
    "-iou_thresh": "0.6", "-json_file_output": "r.json", "-json_port": "8070", "-len": "5", "-letter_box": None,
    "-mAP_epochs": "2", "-map": None, "-mjpeg_port": "8090", "-num_of_clusters": "6", "-out": "out",
    "-out_filename": "x.mp4", "-points": "11", "-prefix": "frame", "-s": "1", "-save_labels": None, "-seed": "ab",
    "-show": None, "-show_imgs": None, "-srand": "7", "-t": "3", "-temp": "0.5", "-thresh": "0.6",
    "-time_limit_sec": "9", "-tokenized": None, "-tokens": "tokens.txt", "-topk": None, "-width": "64",
}  # fmt: skip
OTHER_ACTIONS = (  # of go.c, nightmare.c, tag.c and art.c, which are not here
    "-multi", "-range", "-norm", "-rounds", "-iters", "-octaves", "-zoom", "-rate", "-rotate", "-momentum", "-lambda",
    "-reconstruct", "-smooth",
)  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the commands are called with; none of them runs."""
    made: list[Any] = []

    def start(args: argparse.Namespace, **more: Any) -> int:
        made.append((vars(args), more))
        return 0

    monkeypatch.setattr(detect, "start", start)
    for command, name in (
        (train, "main"), (classify, "main"), (anchors, "main"), (generate, "main"), (convert, "main"),
        (evaluate, "main"), (evaluate, "valid_main"), (evaluate, "recall_main"),
    ):  # fmt: skip
        monkeypatch.setattr(command, name, lambda arguments, **_: made.append(arguments) or 0)
    monkeypatch.setattr(rewriting, "oneoff", network.load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"x")
    (tmp_path / "images" / "1.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "x.names").write_text("a\nb\nc\nd\n")
    (tmp_path / "x.data").write_text("classes=4\ntrain=images\nvalid=images\nnames=x.names\n")
    return made


def line(action: str) -> list[str]:
    """A command line of an action, without flags."""
    words = {
        "DATA": "x.data",
        "CFG": str(bundled("cfg")),
        "WEIGHTS": str(bundled("weights")),
        "OUT": "o.weights",
        "N": "3",
    }
    return [*action.split(), *(words[word] for word in ACTIONS[action].usage.split("[")[0].split())]


def test_the_list_of_flags_is_the_programs() -> None:
    assert {flag for flag, value in FLAGS.items() if value is None} | {"-nogpu", "-nocolor", "-verbose"} == set(
        SWITCHES
    )
    assert {flag for flag, value in FLAGS.items() if value is not None} | {"-nms"} == set(VALUES)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_flag_is_honoured_or_named(action: str, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(line(action)) == 0
    plain, silent = list(calls), []
    for flag, value in FLAGS.items():
        calls.clear()
        capsys.readouterr()
        status = run_command(
            functools.partial(program.main, [*line(action), flag, *([] if value is None else [value])])
        )
        said = f"error: option {flag}" if status else f"note: {flag} has no effect on '{action}'"
        if calls == plain and said not in capsys.readouterr().err:
            silent.append(flag)
    assert silent == ["-dont_show"]  # no window opens anyway


@pytest.mark.parametrize("action", ACTIONS)
def test_words_that_are_not_read_are_named(action: str, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """As of `detector test … *.jpg`, of which Darknet reads the first."""
    assert program.main(line(action)) == 0
    assert "no effect" not in capsys.readouterr().err
    words = [*line(action), *["b.jpg", "c.jpg", "d.jpg"]]
    run_command(functools.partial(program.main, words))
    assert ("what follows it have no effect" in capsys.readouterr().err) == (action != "average")


def test_gpus_that_are_no_numbers_are_refused(calls: list[Any]) -> None:
    with pytest.raises(DarknetError, match=r"option -gpus 0,1,x: write GPUs' numbers"):
        program.main([*line("detector train"), "-gpus", "0,1,x"])


def test_flags_of_darknets_other_actions_are_refused() -> None:
    for flag in (*OTHER_ACTIONS, "-fontsize"):
        with pytest.raises(DarknetError, match=f"option {flag} is not known"):
            split([flag, "1"])


@pytest.mark.parametrize("flag", REFUSED)
def test_what_is_not_done_is_refused_with_another_way(
    flag: str, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    value = FLAGS[flag]
    words = [*line("detector demo"), flag, *([] if value is None else [value])]
    assert run_command(lambda: program.main(words)) == 2
    assert capsys.readouterr().err == f"error: option {flag}: {REFUSED[flag]}\n"
    assert not calls


def test_the_words_of_a_demo(calls: list[Any]) -> None:
    flags = "-prefix p -dontdraw_bbox -json_port 8070 -mjpeg_port 8090 -time_limit_sec 9 -json_file_output r.json -c 2"
    assert program.main([*line("detector demo"), *flags.split(), "-out_filename", "x.mp4"]) == 0
    ((args, more),) = calls
    expected = {"frames": "p", "no_boxes": True, "json_port": 8070, "mjpeg_port": 8090, "time_limit": 9}
    expected |= {"json": "r.json", "sources": ["2"], "host": "127.0.0.1", "no_pictures": False}
    assert {name: args[name] for name in expected} == expected
    assert more == {"save_as": "x.mp4", "labels": None, "json_lines": False, "question": QUESTION}


@pytest.mark.parametrize(
    ("number", "device"), [("0", "0" if torch.cuda.is_available() else "cpu"), ("-1", "cpu"), (None, "auto")]
)
def test_the_gpu_is_darknets_number_and_the_cpu_does_without(
    number: str | None, device: str, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([*line("detector test"), "x.jpg", *(["-i", number] if number else [])]) == 0
    assert calls[0][0]["device"] == device
    noted = "note: -i 0: there is no GPU; the CPU is used\n"
    assert capsys.readouterr().err == (noted if number == "0" and not torch.cuda.is_available() else "")
    with pytest.raises(DarknetError, match="option -i x: write the number of a GPU"):
        program.main([*line("detector test"), "x.jpg", "-i", "x"])


def test_epochs_between_evaluations_become_iterations(calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("images/1.jpg\n" * 3000)
    (tmp_path / "x.data").write_text("classes=4\ntrain=list.txt\nvalid=images\nnames=x.names\n")
    (tmp_path / "x.cfg").write_text("[net]\nbatch=10\n")
    assert program.main(["detector", "train", "x.data", "x.cfg", "-map", "-mAP_epochs", "2"]) == 0
    assert calls[0][-2:] == ["--map-every", "600"]


def test_labels_are_saved_where_darknet_saves_them() -> None:
    assert _label_file("a/dog.jpg") == "a/dog.txt"
    assert _label_file("VOC/JPEGImages/1.png") == "VOC/labels/1.txt"
    assert _label_file("a/dog.webp") == "a/dog.txt"
    assert _label_file("http://host/a/dog.jpg") == "dog.txt"


def test_save_labels_writes_beside_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((CFGS.parent / "weights" / "shapes.png").read_bytes())
    names, cfg, weights = (str(bundled(what)) for what in ("names", "cfg", "weights"))
    (tmp_path / "x.data").write_text(f"classes=4\nnames={names}\n")
    words = ["detector", "test", "x.data", cfg, weights, "in/a.png", "-save_labels", "-dont_show", "-out", "r.json"]
    assert program.main(words) == 0
    lines = (tmp_path / "in" / "a.txt").read_text().splitlines()
    assert lines
    assert all(len(one.split()) == 5 for one in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "predictions.jpg", "r.json", "x.data"]
