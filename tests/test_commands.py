"""The commands, run as a user runs them: real models and images, wrong files, exit statuses, complete files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kit import KIT, REALDATA, needs_kit, needs_realdata, read_json
from project import CFGS, environment, python

from darknet_py import __main__ as program
from darknet_py.command import run_command
from darknet_py.darknet_words import SWITCHES, VALUES, split
from darknet_py.detect import main as detect
from darknet_py.pictures.videos import Video
from darknet_py.summary import main as summary

MODEL = KIT / "real" / "yolo-fastest-1.1"
NET = ["--cfg", str(MODEL / "yolo-fastest-1.1.cfg"), "--weights", str(MODEL / "yolo-fastest-1.1.weights")]
NAMES = ["--names", str(MODEL / "coco.names")]
IMAGES = KIT / "real" / "images"
DOG = str(IMAGES / "dog.jpg")
NO_DEVICE = "there is no such device" if torch.cuda.is_available() else "no CUDA device is available"


def run(*arguments: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return python("-m", *arguments, cwd=cwd, stdin=stdin)


@needs_kit
def test_detect_writes_all_it_is_asked_for(tmp_path: Path) -> None:
    done = run(
        "darknet_py.detect",
        *NET,
        *NAMES,
        IMAGES,
        "--json",
        "r.json",
        "--coco",
        "c.json",
        "--txt",
        "--crops",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "dog.jpg: Predicted in" in done.stdout
    result = json.loads((tmp_path / "r.json").read_text())
    golden = read_json("real/expected", "yolo-fastest-1.1")["images"]
    assert [Path(image["filename"]).name for image in result] == sorted(golden)
    dog = next(image for image in result if image["filename"].endswith("dog.jpg"))
    assert dog["frame_id"] == 1
    assert dog["objects"][0]["name"] == "car"
    assert set(dog["objects"][0]["relative_coordinates"]) == {"center_x", "center_y", "width", "height"}
    folder = tmp_path / "runs" / "detect-1"
    assert {path.name for path in folder.glob("*.jpg")} == set(golden)
    assert cv2.imread(str(folder / "dog.jpg")).shape == (576, 768, 3)
    assert len((folder / "labels" / "dog.txt").read_text().splitlines()) == len(dog["objects"])
    assert list((folder / "crops" / "car").glob("dog_*.jpg"))
    coco = json.loads((tmp_path / "c.json").read_text())
    assert {row["category_id"] for row in coco if row["image_id"] == 1} >= {3, 18}  # COCO's car and dog
    assert not list(tmp_path.rglob("*.part*"))


@needs_kit
def test_detections_from_the_command_line_are_the_c_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main job, end to end: the program's own pixels in, its detections out."""
    monkeypatch.chdir(tmp_path)
    images = KIT / "real" / "images_stb_png"
    for folder in sorted(path.parent for path in (KIT / "real").glob("*/*.cfg")):
        model = folder.name
        model_files = [
            text for kind in ("cfg", "weights", "names") for text in (f"--{kind}", str(next(folder.glob(f"*.{kind}"))))
        ]
        assert (
            detect([*model_files, str(images), "--nms-kind", "default", "--no-pictures", "--quiet", "--json", "r.json"])
            == 0
        )
        for image in json.loads((tmp_path / "r.json").read_text()):
            name = Path(image["filename"]).stem + ".jpg"
            expected = read_json("real/expected", model)["images"][name]["resize"]["thresh_0.25"]["detections"]
            ours = [[o["class_id"], o["confidence"], *o["relative_coordinates"].values()] for o in image["objects"]]
            assert len(ours) == len(expected), (model, name)
            np.testing.assert_allclose(sorted(ours), sorted(expected), atol=2e-5, err_msg=f"{model} {name}")


@needs_kit
def test_an_unreadable_image_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes((IMAGES / "dog.jpg").read_bytes()[:50])
    done = run("darknet_py.detect", *NET, "torn.jpg", "gone.jpg", IMAGES / "dog.jpg", "--json", "r.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: torn.jpg: cannot read this image" in done.stderr
    assert "error: gone.jpg: cannot read this image: No such file" in done.stderr
    assert [image["objects"][0]["name"] for image in json.loads((tmp_path / "r.json").read_text())] == [
        "2"
    ]  # no names: numbers
    assert "Traceback" not in done.stderr


@needs_kit
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "gone.cfg", "--weights", "w", DOG], "gone.cfg: cannot read this cfg"),
        (["--cfg", NET[1], "--weights", NET[1], DOG], "not a .weights file"),
        ([*NET, "--names", str(KIT / "data" / "voc.names"), DOG], "20 names, but"),
        ([*NET, "--device", "cuda:77", DOG], NO_DEVICE),
        ([*NET, "nothing/*.jpg"], "no file matches"),
        ([*NET, "--data", "gone.data", DOG], "gone.data: cannot read"),
        ([*NET, "--batch", "0", DOG], "batch=0: write a whole number, 1 or more"),
    ],
)
def test_mistakes_get_one_sentence_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(lambda: detect(arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@needs_kit
def test_paths_on_standard_input_and_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dog = str(IMAGES / "dog.jpg")
    done = run("darknet_py.detect", *NET, "-", "--no-pictures", cwd=tmp_path, stdin=f"{dog}\n\n{dog}\n")
    assert done.stdout.count("dog.jpg: Predicted") == 2
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + dog.encode() + b"\r\n\r\n")
    monkeypatch.chdir(tmp_path)
    assert detect([*NET, "list.txt", "--no-pictures"]) == 0
    assert capsys.readouterr().out.count("dog.jpg: Predicted") == 1


@needs_kit
def test_two_images_of_one_name_both_get_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dog.jpg").write_bytes((IMAGES / "eagle.jpg").read_bytes())
    assert detect([*NET, str(IMAGES / "dog.jpg"), "other/dog.jpg", "--out", "out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dog.jpg", "dog_2.jpg"}


@needs_kit
@needs_realdata
def test_a_video_becomes_a_video_and_json_lines(tmp_path: Path) -> None:
    done = run(
        "darknet_py.detect",
        *NET,
        *NAMES,
        REALDATA / "video" / "road.mp4",
        "--json",
        "v.jsonl",
        "--out",
        "out",
        "--quiet",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(1, 39))
    assert {line["filename"] for line in lines} == {str(REALDATA / "video" / "road.mp4")}
    assert [line["time"] for line in lines] == sorted({line["time"] for line in lines})
    (video,) = (tmp_path / "out").glob("road.*")
    assert sum(1 for _ in Video(str(video))) == 38


@needs_kit
@needs_realdata
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_an_interrupt_leaves_complete_files(tmp_path: Path) -> None:
    folder = next(path for path in (REALDATA / "coco").rglob("*.jpg")).parent
    command = [
        sys.executable,
        "-m",
        "darknet_py.detect",
        *NET,
        str(folder),
        "--json",
        "r.json",
        "--out",
        "out",
        "--batch",
        "1",
    ]
    # the children of a background shell ignore Ctrl-C, and so would this process; a handler here prevents that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    written = json.loads((tmp_path / "r.json").read_text())
    assert written
    for path in (tmp_path / "out").glob("*.jpg"):
        assert cv2.imread(str(path)) is not None
    assert not list(tmp_path.rglob(".*part*"))


@needs_kit
def test_darknets_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco.data").write_text(f"classes = 80\nnames = {MODEL / 'coco.names'}\n")
    dog = IMAGES / "dog.jpg"
    model = ("coco.data", NET[1], NET[3])
    options = ("-thresh", ".25", "-ext_output", "-dont_show", "-out", "r.json", "-letter_box")
    done = run("darknet_py", "detector", "test", *model, dog, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "predictions.jpg").is_file()
    assert "(left_x:" in done.stdout
    objects = json.loads((tmp_path / "r.json").read_text())[0]["objects"]
    expected = read_json("real/expected", "yolo-fastest-1.1")["images"]["dog.jpg"]["letter_box"]["thresh_0.25"]
    sure = {int(row[0]) for row in expected.get("detections_cfg_nms_kind") or expected["detections"] if row[1] > 0.35}
    assert sure <= {found["class_id"] for found in objects}
    assert program.main(["detect", NET[1], NET[3], str(dog), "-thresh", "0.9"]) == 0
    done = run(
        "darknet_py", "detector", "test", "coco.data", NET[1], NET[3], "-thresh", "0.9", cwd=tmp_path, stdin=f"{dog}\n"
    )
    assert "dog.jpg: Predicted" in done.stdout


@needs_kit
@needs_realdata
def test_detector_demo_reads_a_video(tmp_path: Path) -> None:
    (tmp_path / "coco.data").write_text(f"names={MODEL / 'coco.names'}\n")
    video = REALDATA / "video" / "road.mp4"
    done = run(
        "darknet_py",
        "detector",
        "demo",
        "coco.data",
        NET[1],
        NET[3],
        video,
        "-dont_show",
        "-out_filename",
        "res.mp4",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "res.mp4").stat().st_size > 10_000


@needs_realdata
def test_classifier_predict_gives_the_c_programs_probabilities(tmp_path: Path) -> None:
    from darknet_py import load
    from darknet_py.classifier import Classifier

    folder = REALDATA / "weights"
    names = folder / "names" / "imagenet.shortnames.list"
    tiny = folder / "darknet-tiny_imagenet"
    golden = json.loads((REALDATA / "expected" / "classifier_darknet-tiny_imagenet.json").read_text())
    classifier = Classifier(load(tiny / "tiny.cfg", tiny / "tiny.weights"), names)
    for image, expected in golden["images"].items():
        guesses = classifier(KIT / "real" / "images_stb_png" / f"{Path(image).stem}.png", top=10)
        assert [guess.class_id for guess in guesses] == [row[0] for row in expected["top"]], image
        np.testing.assert_allclose(
            [guess.probability for guess in guesses], [row[2] for row in expected["top"]], atol=1e-5
        )
    (tmp_path / "imagenet.data").write_text(f"classes=1000\nlabels={names}\ntop=3\n")
    done = run(
        "darknet_py",
        "classifier",
        "predict",
        "imagenet.data",
        tiny / "tiny.cfg",
        tiny / "tiny.weights",
        IMAGES / "dog.jpg",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.splitlines()[1].startswith("dogsled: 0.4")


def test_rnn_generate_writes_text(tmp_path: Path) -> None:
    from darknet_py import Network, parse_cfg

    cfg = tmp_path / "rnn.cfg"
    cfg.write_text(
        "[net]\ninputs=256\n[rnn]\nhidden=8\noutput=8\nactivation=leaky\n"
        "[connected]\noutput=256\nactivation=leaky\n[softmax]\n[cost]\n"
    )
    network = Network(parse_cfg(cfg)).initialise(0)
    network.save_weights(tmp_path / "rnn.weights")
    arguments = ("darknet_py", "rnn", "generate", "rnn.cfg", "rnn.weights", "-len", "50", "-srand", "7", "-seed", "ab")
    command = [sys.executable, "-m", *arguments]
    texts = [subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True).stdout for _ in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].startswith(b"ab")
    assert len(texts[0]) == 2 + 50 + 1


def test_darknets_flags_may_stand_anywhere() -> None:
    values = [word for flag in VALUES for word in (flag, "7")]
    words = split(["a.cfg", *SWITCHES, *values, "a.weights"])
    assert words.plain == ["a.cfg", "a.weights"]
    assert words.flags == dict.fromkeys(SWITCHES, "") | dict.fromkeys(VALUES, "7")


def test_names_that_darknet_takes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`detect` reads cfg/coco.data; the bundled one is used only for as many classes."""
    monkeypatch.chdir(tmp_path)
    calls: list[list[str]] = []
    monkeypatch.setattr("darknet_py.darknet_words._detect", lambda words, model, *_, **__: calls.append(model) or 0)
    (tmp_path / "two.cfg").write_text("[net]\n[yolo]\nclasses=2\n")
    for cfg in ("cfg/yolov3.cfg", "two.cfg"):
        assert program.main(["detect", cfg, "a.weights", "dog.jpg"]) == 0
    assert calls == [
        ["--data", str(CFGS / "coco.data"), "--cfg", "cfg/yolov3.cfg", "--weights", "a.weights"],
        ["--cfg", "two.cfg", "--weights", "a.weights"],
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["detector", "tets"], "did you mean 'detector test'"),
        (["detector", "test", "a.data"], "usage: python -m darknet_py detector test DATA CFG WEIGHTS [IMAGE]"),
        (["detector", "test", "a", "b", "c", "-tresh", "1"], "did you mean -thresh?"),
        (["detector", "test", "a", "b", "c", "-thresh"], "needs a value"),
        (["nonsense"], "is not a command"),
    ],
)
def test_wrong_words_are_corrected(line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: program.main(line)) == 2
    assert message in capsys.readouterr().err


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"darknet_py.{name}" in printed for name in program.COMMANDS)


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        program.main([command, "--help"])
    assert stop.value.code == 0
    assert "example" in capsys.readouterr().out


def test_the_layer_table_of_yolov3(capsys: pytest.CaptureFixture[str]) -> None:
    assert summary([str(CFGS / "yolov3.cfg"), "--receptive-field"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "0 convolutional 32 3 x 3/ 1 416 x 416 x 3 -> 416 x 416 x 32 0.299 992 3 x 3"
    assert "Total BFLOPS 65.879, heads: 82, 94, 106" in lines[108]
    assert summary([str(CFGS / "yolov3.cfg"), "--json", "--size", "608x320"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["layers"][82]["out"] == [255, 10, 19]
    assert table["layers"][86]["inputs"] == [85, 61]


def test_wrong_cfgs_at_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text("[net]\nwidht=416\nwidth=32\nheight=32\nchannels=3\n[maxpool]\n")
    done = run("darknet_py.summary", "my.cfg", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        done.stderr == "warning: my.cfg:2: [net] widht=416: unknown option, Darknet ignores it; did you mean 'width'?\n"
    )
    done = run("darknet_py.summary", "my.cfg", "--strict", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == "error: my.cfg:2: [net] widht=416: unknown option, Darknet ignores it; did you mean 'width'?\n"
    )
