"""What `detect` leaves behind: no output lost, none where it does not belong, each line with its source."""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from project import ROOT

from darknet_py.bundled import bundled
from darknet_py.command import run_command
from darknet_py.detect import main, parser
from darknet_py.detection_files import as_labels, folder_name
from darknet_py.detections import Detections
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.pictures import serving
from darknet_py.pictures.sources import VideoSource
from darknet_py.pictures.videos import Video
from darknet_py.work.detect import Run

MODEL = [part for what in ("cfg", "weights", "names") for part in (f"--{what}", str(bundled(what)))]
PICTURE = ROOT / "weights" / "shapes.png"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path, width: int = 160) -> Path:
    image = cv2.imread(str(PICTURE))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(image, (width, width * 3 // 4), interpolation=cv2.INTER_AREA))
    return path


def film(path: Path, frames: int = 5, fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (160, 120))
    frame = cv2.resize(cv2.imread(str(PICTURE)), (160, 120), interpolation=cv2.INTER_AREA)
    for _ in range(frames):
        writer.write(frame)
    writer.release()
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_sources_of_one_stem_never_share_an_output(here: Path) -> None:
    for name in ("a.jpg", "a.png", "sub1/1.jpg", "sub2/1.jpg", "sub2/A.jpg", "a_2.jpg"):
        picture(here / "in" / name)
    assert main([*MODEL, "in", "--recursive", "--out", "out", "--txt", "--crops", "--quiet"]) == 0
    stems = {"1", "1_2", "A_3", "a", "a_2", "a_2_2"}
    assert {path.stem for path in (here / "out").glob("*.*")} == stems
    assert {Path(name).stem for name in files(here / "out" / "labels")} == stems
    assert {Path(name).stem.rpartition("_")[0] for name in files(here / "out" / "crops")} == stems


def test_annotated_images_keep_their_size(here: Path) -> None:
    picture(here / "small.png", 40)
    assert main([*MODEL, "small.png", "--out", "out", "--quiet"]) == 0
    assert cv2.imread("out/small.png").shape == (30, 40, 3)


def test_nothing_readable_leaves_no_folder(here: Path) -> None:
    (here / "torn.jpg").write_bytes(b"torn")
    assert main([*MODEL, "torn.jpg"]) == 1
    assert files(here) == ["torn.jpg"]
    assert not (here / "runs").exists()


def test_videos_count_their_own_frames_and_lines_name_source_and_time(here: Path) -> None:
    film(here / "a.mp4", 3)
    film(here / "b.mp4", 4, fps=5)
    picture(here / "a_000001.png")
    arguments = [*MODEL, "a.mp4", "b.mp4", "a_000001.png", "--json", "r.jsonl", "--out", "out", "--txt", "--quiet"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert [(line["filename"], line["frame_id"], line.get("time")) for line in lines] == [
        ("a_000001.png", 1, None),
        *[("a.mp4", number, round((number - 1) / 10, 3)) for number in (1, 2, 3)],
        *[("b.mp4", number, round((number - 1) / 5, 3)) for number in (1, 2, 3, 4)],
    ]
    assert len(files(here / "out" / "labels")) == 8
    assert {Path(name).stem for name in files(here / "out") if "/" not in name} == {"a", "b", "a_000001"}


def test_a_video_without_a_frame_is_reported(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film(here / "a.mp4", 3)
    monkeypatch.setattr(Video, "__iter__", lambda self: iter([]))
    assert main([*MODEL, "a.mp4"]) == 1
    assert "error: a.mp4: cannot read this video: no frame of it\n" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_video_has_one_line_and_its_frames_only_if_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(here / "a.mp4", 3)
    assert main([*MODEL, "a.mp4", "--out", "out"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a.mp4: 3 frames in ")
    assert " circle" in first
    (written,) = (here / "out").iterdir()
    assert f"; {written.name} is " in first
    assert second == "results in out"
    assert main([*MODEL, "a.mp4", "--no-pictures", "--verbose"]) == 0
    assert capsys.readouterr().out.count("a.mp4 frame ") == 3


def test_frames_are_written_with_a_prefix(here: Path) -> None:
    film(here / "a.mp4", 3)
    assert main([*MODEL, "a.mp4", "--no-pictures", "--frames", "f", "--no-boxes", "--quiet"]) == 0
    assert files(here) == ["a.mp4", "f_00000001.jpg", "f_00000002.jpg", "f_00000003.jpg"]
    plain = cv2.imread("f_00000001.jpg").astype(int)
    expected = next(iter(Video("a.mp4")))[..., ::-1].astype(int)
    assert np.abs(plain - expected).mean() < 5


def test_only_some_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(here / "a.png", 512)
    assert main([*MODEL, "a.png", "--no-pictures", "--json", "r.json", "--classes", "circle,1", "--max-det", "2"]) == 0
    (image,) = json.loads((here / "r.json").read_text())
    assert 0 < len(image["objects"]) <= 2
    capsys.readouterr()
    assert run_command(lambda: main([*MODEL, "a.png", "--classes", "cirle"])) == 2
    assert capsys.readouterr().err == "error: classes: there is no class 'cirle'; did you mean 'circle'?\n"
    assert not (here / "runs").exists()


def test_label_files_with_confidence_and_one_line_for_a_box() -> None:
    xywh = np.float32([[0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25], [0.25, 0.5, 0.25, 0.25]])
    found = Detections(np.array([3, 1, 1]), np.float32([0.75, 0.5, 0.25]), xywh, (100, 100), list("abcd"))
    assert as_labels(found) == "3 0.500000 0.500000 0.250000 0.250000\n1 0.250000 0.500000 0.250000 0.250000\n"
    assert as_labels(found, confidence=True).splitlines()[0] == "3 0.500000 0.500000 0.250000 0.250000 0.750000"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "/etc", "../x", "C:", "x" * 300, "con\x1b[31m"])
def test_a_class_is_a_folder_inside_crops(name: str, tmp_path: Path) -> None:
    folder = tmp_path / folder_name(name)
    folder.mkdir()
    assert folder.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert folder.resolve() != tmp_path.resolve()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that gives the files of `served/`."""

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {"": "image/png", ".mp4": "video/mp4"}  # noqa: RUF012

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "served").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_pictures_and_videos_on_the_web_end_when_they_end(
    here: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(here / "served" / "a.png")
    (here / "served" / "snapshot").write_bytes((here / "served" / "a.png").read_bytes())
    film(here / "served" / "b.mp4", 4)
    sources = [f"http://{server}/snapshot", f"http://me:secret@{server}/a.png?v=1", f"http://{server}/b.mp4"]
    assert main([*MODEL, *sources, "--out", "out", "--json", "r.jsonl"]) == 0
    lines = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == [1, 2, 1, 2, 3, 4]
    assert lines[1]["filename"] == f"http://***@{server}/a.png?v=1"
    assert {Path(name).stem for name in files(here / "out")} == {"snapshot", "a", "b"}
    printed = capsys.readouterr()
    assert "secret" not in printed.out + printed.err + (here / "r.jsonl").read_text() + str(files(here))


def test_what_is_not_on_the_web_is_reported(here: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [f"http://me:secret@{server}/{name}" for name in ("gone.jpg", "gone.mp4")]
    assert main([*MODEL, *sources]) == 1
    error = capsys.readouterr().err
    assert f"error: http://***@{server}/gone.jpg: cannot read this image: File not found\n" in error
    assert f"error: http://***@{server}/gone.mp4: cannot read this video: no such address" in error
    assert "secret" not in error


def test_a_video_is_served_frame_by_frame(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are there before the first frame: the run begins when they listen."""
    film(here / "a.mp4", 4)
    answers: dict[str, bytes] = {}
    clients: list[threading.Thread] = []

    def listen(run: Run) -> None:
        assert run.json
        assert run.mjpeg
        for port in (run.json, run.mjpeg):

            def get(port: serving.Port = port) -> None:
                answers[port.content_type] = urllib.request.urlopen(port.address, timeout=20).read()

            clients.append(threading.Thread(target=get))
            clients[-1].start()
        while not (run.json.clients and run.mjpeg.clients):
            pass

    detector = load_detector(*(bundled(what) for what in ("cfg", "weights", "names")), device="cpu")
    args = parser().parse_args([*MODEL, "a.mp4", "--no-pictures", "--quiet"])
    monkeypatch.setattr(serving.MjpegPort, "waiting", 100)
    args.json_port, args.mjpeg_port = 0, 0
    run = Run(detector, args, json_lines=False)
    listen(run)
    assert run.over([[VideoSource("a.mp4", live=False)]]) == 0
    for client in clients:
        client.join(20)
    items = json.loads(answers["application/json"])
    assert [item["frame_id"] for item in items] == [1, 2, 3, 4]
    assert items[0]["objects"][0]["relative_coordinates"]
    assert answers[serving.MjpegPort.content_type].count(b"Content-type: image/jpeg") == 4


def test_the_video_of_a_stream_shows_its_real_time(here: Path) -> None:
    """A stream of about 20 frames a second, of which OpenCV claims 25."""
    port, running = serving.MjpegPort("127.0.0.1", 0), threading.Event()
    frame = cv2.cvtColor(cv2.resize(cv2.imread(str(PICTURE)), (160, 120)), cv2.COLOR_BGR2RGB)

    def feed() -> None:
        while not running.wait(0.05):
            port.send(frame)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        arguments = ["--out", "out", "--json", "r.jsonl", "--time-limit", "2", "--codec", "mpeg4", "--quiet"]
        assert main([*MODEL, f"{port.address}/stream", *arguments]) == 0
    finally:
        running.set()
        feeder.join()
        port.close()
    lines = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["time"] > 1
    (path,) = (here / "out").iterdir()
    video = Video(str(path))
    assert len(list(video)) / video.fps == pytest.approx(lines[-1]["time"], abs=0.3)


def test_the_time_limit_ends_a_video(here: Path) -> None:
    film(here / "a.mp4", 500)
    arguments = [*MODEL, "a.mp4", "--no-pictures", "--json", "r.jsonl", "--time-limit", "1", "--batch", "1"]
    assert main([*arguments, "--size", "512x512"]) == 0
    assert 0 < len((here / "r.jsonl").read_text().splitlines()) < 500


def test_the_list_for_images_is_complete_or_not_there(here: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(here / name)
    assert main([*MODEL, "a.png", "b.png", "--no-pictures", "--quiet", "--json", "r.json"]) == 0
    assert [image["filename"] for image in json.loads((here / "r.json").read_text())] == ["a.png", "b.png"]
    assert main([*MODEL, "gone.png", "--no-pictures", "--quiet", "--json", "none.json"]) == 1
    assert json.loads((here / "none.json").read_text()) == []
    assert files(here) == ["a.png", "b.png", "none.json", "r.json"]


def test_a_port_that_is_taken_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(here / "a.png")
    port = serving.JsonPort("127.0.0.1", 0)
    number = str(port.server.server_address[1])
    assert run_command(lambda: main([*MODEL, "a.png", "--json", "r.json", "--json-port", number])) == 2
    port.close()
    assert f"error: port {number}: cannot listen" in capsys.readouterr().err
    assert files(here) == ["a.png"]
    assert not (here / "runs").exists()


def test_labels_with_confidence_need_no_second_option(here: Path) -> None:
    picture(here / "a.png", 512)
    assert main([*MODEL, "a.png", "--no-pictures", "--txt-conf", "--quiet"]) == 0
    lines = (here / "runs" / "detect-1" / "labels" / "a.txt").read_text().splitlines()
    assert lines
    assert all(len(line.split()) == 6 for line in lines)


def test_options_that_take_a_number_name_a_wrong_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([*MODEL, "a.png", "--max-det", "0"])
    assert "'0' is not a whole number of at least 1" in capsys.readouterr().err
    assert isinstance(parser().parse_args([*MODEL, "a.png"]), argparse.Namespace)


def test_json_on_the_standard_output_is_nothing_but_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MODEL, "--json", "-", "--no-pictures", str(bundled("image"))]) == 0
    printed = capsys.readouterr()
    (image,) = json.loads(printed.out)
    assert len(image["objects"]) > 3
    assert "Predicted in" in printed.err


def limited(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
@pytest.mark.parametrize("codec", ["vp8", "mpeg4"])
def test_a_video_that_the_disk_has_no_room_for_is_an_error_and_leaves_no_file(here: Path, codec: str) -> None:
    """A WebM that was cut off can be opened, and a few of its frames read."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter("noise.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(40):
        writer.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    writer.release()
    words = [
        sys.executable,
        "-m",
        "darknet_py.detect",
        *MODEL,
        "noise.avi",
        "--out",
        "out",
        "--codec",
        codec,
        "--quiet",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words, capture_output=True, text=True, preexec_fn=lambda: limited(300_000), env=environment, check=False
    )
    if "OpenCV cannot write videos" in done.stderr:
        pytest.skip("this OpenCV cannot write it")
    assert done.returncode == 2, done.stderr
    assert "this video could not be written; is the disk full?" in done.stderr
    assert not [path for path in (here / "out").iterdir() if path.suffix in (".webm", ".mp4")]


def test_two_images_never_share_a_coco_number(here: Path) -> None:
    for name in ("a/1.png", "b/1.png", "c.png"):
        picture(here / name)
    with pytest.warns(CfgWarning, match="two images have the number 1 in their names"):
        main(
            [
                *MODEL,
                "a/1.png",
                "b/1.png",
                "c.png",
                "--no-pictures",
                "--coco",
                "coco.json",
                "--thresh",
                "0.01",
                "--quiet",
            ]
        )
    rows = json.loads((here / "coco.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2, 3}


def test_an_output_that_is_a_device_stays_one_and_a_links_target_is_written(here: Path) -> None:
    os.symlink("target.json", "link.json")
    main([*MODEL, str(bundled("image")), "--no-pictures", "--json", "link.json", "--quiet"])
    assert os.path.islink("link.json")
    assert len(json.loads((here / "target.json").read_text())) == 1
    main([*MODEL, str(bundled("image")), "--no-pictures", "--json", "/dev/null", "--quiet"])
    assert Path("/dev/null").is_char_device()


def test_a_reader_that_goes_away_does_not_end_the_work(here: Path) -> None:
    for name in "abcd":
        picture(here / f"{name}.png")
    command = (
        f"{sys.executable} -m darknet_py.detect {' '.join(MODEL)} a.png b.png c.png d.png --batch 1 --out out | head -1"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, shell=True, check=True, capture_output=True, env=environment)
    assert files(here / "out") == ["a.png", "b.png", "c.png", "d.png"]


def test_a_list_may_have_backslashes_and_quotes(here: Path) -> None:
    picture(here / "in" / "a b.png")
    picture(here / "in" / "c.png")
    (here / "list.txt").write_text('"in/a b.png"\r\nin\\c.png\r\n')
    assert main([*MODEL, "list.txt", "--out", "out", "--quiet"]) == 0
    assert files(here / "out") == ["a b.png", "c.png"]


def test_a_very_long_name_is_written(here: Path) -> None:
    name = "x" * 240 + ".png"
    picture(here / name)
    assert main([*MODEL, name, "--out", "out", "--quiet"]) == 0
    assert files(here / "out") == [name]


def test_the_frames_of_a_video_follow_each_other(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recurrent layers keep their states from frame to frame, and begin anew with the next video."""
    for name in ("one.mp4", "two.mp4"):
        film(here / name, frames=3)
    told: list[bool] = []
    detect = Detector.detect

    def noting(self: Detector, *args: Any, continued: bool = False, **kwargs: Any) -> list[Detections]:
        told.append(continued)
        return detect(self, *args, continued=continued, **kwargs)

    monkeypatch.setattr(Detector, "detect", noting)
    assert main([*MODEL, "one.mp4", "two.mp4", "--no-pictures", "--batch", "1", "--quiet"]) == 0
    assert told == [False, True, True, False, True, True]


@pytest.mark.parametrize("option", ["--json", "--coco"])
def test_a_result_that_cannot_be_written_is_found_before_the_work(here: Path, option: str) -> None:
    with pytest.raises(DarknetError, match=r"missing/r\.json: cannot write this file"):
        main([*MODEL, "there_is_no_image.png", option, "missing/r.json"])
