"""Videos that are written, and streams that are served to browsers and programs."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from darknet_py.errors import DarknetError
from darknet_py.pictures import write
from darknet_py.pictures.codecs import CODECS
from darknet_py.pictures.serving import JsonPort, MjpegPort
from darknet_py.pictures.videos import Video
from darknet_py.pictures.write import VideoFile, pick_codec

FAST = pick_codec("mpeg4", ".mp4")
FRAME = np.full((48, 64, 3), 128, np.uint8)


def test_the_codec_is_one_that_works_and_browsers_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert write._works(pick_codec())
    monkeypatch.setattr(write, "_works", lambda codec: True)
    assert pick_codec().name == "h264"
    monkeypatch.setattr(write, "_works", lambda codec: codec.name != "h264")
    assert (pick_codec().name, pick_codec().suffix) == ("vp8", ".webm")
    assert pick_codec(live=True).name == "mpeg4"
    assert pick_codec(suffix=".mp4").name == "mpeg4"
    assert pick_codec("vp8", live=True).name == "vp8"
    with pytest.raises(DarknetError, match=r"cannot write videos as h264 in \.mp4 here; it can write vp8 in \.webm"):
        pick_codec("h264", ".mp4")


@pytest.mark.parametrize("codec", [codec for codec in CODECS if write._works(codec)], ids=lambda codec: codec.fourcc)
def test_a_video_can_be_read_again(codec: write.Codec, tmp_path: Path) -> None:
    path = tmp_path / f"x{codec.suffix}"
    video = VideoFile(path, 10, codec)
    for _ in range(20):
        video.add(FRAME)
    assert not path.exists()
    video.close()
    assert len(list(Video(str(path)))) == 20
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_frames_of_another_size_are_resized_into_the_video(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "x.mp4", 10, FAST)
    for frame in (FRAME, np.full((100, 300, 3), 128, np.uint8), FRAME):
        video.add(frame)
    video.close()
    frames = list(Video(str(tmp_path / "x.mp4")))
    assert [frame.shape for frame in frames] == [FRAME.shape] * 3
    assert all(abs(int(frame.mean()) - 128) < 5 for frame in frames)


@pytest.mark.parametrize("rate", [4, 10, 40])
def test_the_video_of_a_stream_lasts_as_long_as_the_stream(rate: int, tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "x.mp4", 10, FAST)
    for number in range(2 * rate + 1):
        video.add(FRAME, number / rate)
    video.close()
    assert len(list(Video(str(tmp_path / "x.mp4")))) == pytest.approx(21, abs=2)


def test_a_video_that_cannot_be_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoFile(tmp_path / "x.mp4", 10, FAST)
    video.add(FRAME)
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: real("gone.mp4"))
    with pytest.raises(DarknetError, match=r"x\.mp4: this video could not be written"):
        video.close()
    assert not list(tmp_path.iterdir())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for_clients(port: JsonPort | MjpegPort, count: int) -> None:
    end = time.monotonic() + 10
    while len(port.clients) != count and time.monotonic() < end:
        time.sleep(0.01)
    assert len(port.clients) == count


def test_the_json_port_gives_one_list_with_an_object_for_each_frame() -> None:
    port = JsonPort("127.0.0.1", free_port())
    port.send({"frame_id": 0})  # nobody listens yet
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(urllib.request.urlopen(port.address, timeout=20).read()))
    client.start()
    wait_for_clients(port, 1)
    for number in range(1, 6):
        port.send({"frame_id": number})
    port.close()
    client.join(20)
    assert [item["frame_id"] for item in json.loads(answers[0])] == [1, 2, 3, 4, 5]


def test_the_mjpeg_port_gives_a_page_and_the_newest_frame() -> None:
    port = MjpegPort("127.0.0.1", free_port())
    try:
        browser = urllib.request.Request(port.address, headers={"Accept": "text/html,*/*"})
        assert b"<img src='/stream'" in urllib.request.urlopen(browser, timeout=10).read()
        stream = urllib.request.urlopen(f"{port.address}/stream", timeout=10)
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=mjpegstream"
        wait_for_clients(port, 1)
        port.send(FRAME)
        assert stream.readline() == b"--mjpegstream\r\n"
        head = [stream.readline(), stream.readline(), stream.readline()]
        data = stream.read(int(head[1].split(b":")[1]))
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == FRAME.shape
    finally:
        port.close()


def test_a_client_that_goes_or_is_slow_stops_nobody() -> None:
    port = JsonPort("127.0.0.1", free_port())
    gone = socket.create_connection(port.server.server_address[:2])  # type: ignore[arg-type]
    slow = socket.create_connection(port.server.server_address[:2])  # type: ignore[arg-type]
    for one in (gone, slow):
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
    wait_for_clients(port, 2)
    gone.close()
    start = time.monotonic()
    for number in range(3000):
        port.send({"frame_id": number, "text": "x" * 1000})
    assert time.monotonic() - start < 5
    wait_for_clients(port, 1)
    port.close()
    slow.close()


def test_a_port_that_is_taken_is_said() -> None:
    first = JsonPort("127.0.0.1", free_port())
    number = int(first.server.server_address[1])
    with pytest.raises(DarknetError, match=f"port {number}: cannot listen on 127.0.0.1:{number}: "):
        MjpegPort("127.0.0.1", number)
    first.close()
