"""What a user may name as a source, and streams that stall, end and come back."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import write_json
from darknet_py.pictures import sources, videos
from darknet_py.pictures.addresses import shown
from darknet_py.pictures.sources import ImageSource, VideoSource, expand, file_name
from darknet_py.pictures.videos import LiveVideo


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.JPG", "a.png", "note.md", "film.mp4", "sp ace.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_images_and_videos_in_order(folder: Path) -> None:
    found = expand([str(folder)])
    assert [Path(item.path if isinstance(item, ImageSource) else item.address).name for item in found] == [
        "a.png",
        "b.JPG",
        "film.mp4",
        "sp ace.jpeg",
    ]


def test_globs_lists_numbers_and_addresses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"http://host/snapshot": "image", "http://host/watch?v=1": "video", "http://host/live": "multipart"}
    monkeypatch.setattr(sources, "content_kind", said.__getitem__)
    assert [type(one).__name__ + str(getattr(one, "live", "")) for one in expand([*said])] == [
        "ImageSource",
        "VideoSourceFalse",
        "VideoSourceTrue",
    ]
    assert expand(["*.png"]) == [ImageSource("a.png")]
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n  sp ace.jpeg \r\n")
    assert expand(["list.txt"]) == [ImageSource("a.png"), ImageSource("sp ace.jpeg")]
    assert expand(["0", "rtsp://host/x", "film.mp4", "http://host/live", "http://host/a.JPG?v=2"]) == [
        VideoSource("0", True),
        VideoSource("rtsp://host/x", True),
        VideoSource("film.mp4", False),
        VideoSource("http://host/live", True),
        ImageSource("http://host/a.JPG?v=2"),
    ]
    assert expand(["rtsp://host/[a]*.txt"]) == [VideoSource("rtsp://host/[a]*.txt", True)]
    assert expand(["https://host/film.mp4", "rtsp://host/film.mp4"]) == [
        VideoSource("https://host/film.mp4", False),
        VideoSource("rtsp://host/film.mp4", True),
    ]


def test_a_folder_or_file_with_a_number_for_a_name_is_no_camera(folder: Path) -> None:
    (folder / "2019").mkdir()
    (folder / "2019" / "a.png").write_bytes(b"x")
    (folder / "7").write_bytes(b"x")
    assert expand(["2019", "7"]) == [ImageSource("2019/a.png"), ImageSource("7")]


def test_folders_are_read_recursively_if_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("in/b/1.jpg", "in/a/1.jpg", "in/0.jpg", "in/x.md", "in/a/x.json", "in/LICENSE"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    assert expand(["in"]) == [ImageSource("in/0.jpg")]
    assert capsys.readouterr().err == "in: skipped 1 of .md, 1 of no ending, 2 folders (--recursive reads them)\n"
    assert expand(["in"], recursive=True) == [ImageSource(f"in/{name}") for name in ("0.jpg", "a/1.jpg", "b/1.jpg")]
    assert capsys.readouterr().err == "in: skipped 1 of .json, 1 of .md, 1 of no ending\n"
    (folder / "in" / "0.jpg").unlink()
    with pytest.raises(DarknetError, match=r"no images in this folder; it holds 1 of \.md.*\(--recursive"):
        expand(["in"])


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("rtsp://admin:pa@ss/w?rd@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("http://host/a.jpg?user=me&password=secret&size=2", "http://host/a.jpg?user=me&password=***&size=2"),
        ("https://host/v.mp4?X-Token=abc", "https://host/v.mp4?X-Token=***"),
        ("rtsp://host/live", "rtsp://host/live"),
        ("mail@host.jpg", "mail@host.jpg"),
    ],
)
def test_passwords_are_not_shown(address: str, text: str) -> None:
    assert shown(address) == text
    source = expand([address])[0]
    name = source.name if isinstance(source, VideoSource) else file_name(source.path)
    for word in ("pa@ss", "secret", "abc", "w?rd"):
        assert word not in name
        assert word not in repr(source) or isinstance(source, ImageSource)


def test_a_list_elsewhere_names_images_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("a.png\n")
    monkeypatch.chdir(folder / "empty")
    assert expand([str(folder / "list.txt")]) == [ImageSource(str(folder / "a.png"))]


def test_standard_input_gives_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x.jpg\n\n y.jpg \n"))
    assert expand(["-"]) == [ImageSource("x.jpg"), ImageSource("y.jpg")]


@pytest.mark.parametrize(
    ("name", "message"),
    [("empty", "no images in this folder"), ("*.xyz", "no file matches"), ("gone.txt", "cannot read")],
)
def test_sources_without_images(folder: Path, name: str, message: str) -> None:
    with pytest.raises(DarknetError, match=message):
        expand([name])


def test_files_that_are_no_videos(folder: Path) -> None:
    with pytest.raises(ImageError, match="not a video"):
        videos.Video("film.mp4")
    with pytest.raises(ImageError, match="no such file"):
        videos.Video("gone.mp4")


class FakeStream:
    """A camera that gives numbered frames at once, fails after `lasts` of them, and can be reopened."""

    opened = 0

    def __init__(self, lasts: int, works: Any = lambda opened: True) -> None:
        self.lasts, self.works, self.frame = lasts, works, 0

    def __call__(self, address: Any) -> FakeStream:
        FakeStream.opened += 1
        self.frame = 0
        self.good = self.works(FakeStream.opened)
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return bool(self.good)

    def get(self, _: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.002)
        self.frame += 1
        return (True, np.full((2, 2, 3), self.frame % 250, np.uint8)) if self.frame <= self.lasts else (False, None)

    def release(self) -> None:
        pass


def test_a_slow_reader_gets_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeStream(lasts=10_000))
    video = LiveVideo("rtsp://x")
    frames = iter(video)
    first = int(next(frames)[0, 0, 0])
    time.sleep(0.2)
    second = int(next(frames)[0, 0, 0])
    video.close()
    assert second - first > 20
    assert video.dropped > 20


def test_a_lost_stream_is_reconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeStream.opened = 0
    monkeypatch.setattr(cv2, "VideoCapture", FakeStream(lasts=3, works=lambda opened: opened != 2))
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: time.sleep(0.001) or False)
    video = LiveVideo("rtsp://x", attempts=3)
    frames = [frame for frame, _ in zip(video, range(4), strict=False)]
    video.close()
    assert len(frames) == 4
    assert FakeStream.opened >= 3


def test_a_stream_that_is_not_up_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeStream.opened = 0
    monkeypatch.setattr(cv2, "VideoCapture", FakeStream(lasts=10_000, works=lambda opened: opened == 3))
    monkeypatch.setattr(videos, "START_PAUSE", 0.01)
    video = LiveVideo("rtsp://me:secret@host/x")
    assert next(iter(video)) is not None
    video.close()
    assert FakeStream.opened == 3
    assert capsys.readouterr().err == "rtsp://***@host/x: not up yet; waiting up to 30 s\n"


def test_frames_end_at_the_deadline_though_none_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = FakeStream(lasts=1)
    go_on = threading.Event()
    read = stalled.read
    monkeypatch.setattr(stalled, "read", lambda: read() if stalled.frame == 0 else (go_on.wait(20), None))
    monkeypatch.setattr(cv2, "VideoCapture", stalled)
    video = LiveVideo("rtsp://x", attempts=0)
    start = time.monotonic()
    video.deadline = start + 0.3
    assert len(list(video)) == 1
    assert time.monotonic() - start < 5
    go_on.set()
    video.close()


def test_a_stream_that_never_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeStream(lasts=1, works=lambda opened: False))
    monkeypatch.setattr(videos, "START_PAUSE", 0.01)
    with pytest.raises(ImageError, match=r"rtsp://\*\*\*@host/x: cannot be opened within 0 s"):
        LiveVideo("rtsp://me:secret@host/x", start_limit=0.05)


def test_a_camera_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeStream(lasts=1, works=lambda opened: False))
    with pytest.raises(ImageError, match="camera 0: cannot be opened"):
        LiveVideo("0")


def test_a_file_name_that_is_not_utf8_is_escaped_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "all.json", [{"filename": name}])
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8")) == [{"filename": name}]
