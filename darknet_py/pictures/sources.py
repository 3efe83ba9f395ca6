"""What a user may name as a source: pictures, folders, globs, lists, standard input, videos, cameras and streams."""

from __future__ import annotations

import glob
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import locate
from darknet_py.names import read_lines
from darknet_py.pictures.read import SUFFIXES, Image

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".gif"]
)
LIST_SUFFIXES = frozenset((".txt", ".list"))
ADDRESSES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
MAX_WAIT = 30.0  # seconds between two attempts to reconnect to a stream


@dataclass(frozen=True)
class ImageSource:
    """A picture file, not yet opened."""

    path: str


@dataclass(frozen=True)
class VideoSource:
    """A video file, a camera (`live`, its number) or a stream (`live`, its address)."""

    address: str
    live: bool

    @property
    def name(self) -> str:
        """For file names."""
        stem = Path(self.address).stem if not self.live else self.address.split("://")[-1]
        kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)[:60]
        return f"camera{kept}" if self.live and kept.isdigit() else kept or "video"


Source = ImageSource | VideoSource


def expand(names: Sequence[str]) -> list[Source]:
    """The pictures and videos that the user's words mean, in order.

    Raises:
        DarknetError: nothing is there of that name, or a folder or list names no image.
    """
    return [source for name in names for source in _expand(name)]


def _expand(name: str) -> list[Source]:
    if name == "-":
        return [_file(line) for line in (line.strip() for line in sys.stdin) if line]
    if name.isdigit() or name.lower().startswith(ADDRESSES):
        return [VideoSource(name, live=True)]
    path = Path(name)
    if path.is_dir():
        found = [str(one) for one in sorted(path.iterdir()) if one.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES]
        if not found:
            raise DarknetError(f"{name}: no images in this folder; known are {' '.join(sorted(SUFFIXES))}")
        return [_file(one) for one in found]
    if path.suffix.lower() in LIST_SUFFIXES:
        return _list(name)
    if not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise DarknetError(f"{name}: no file matches")
        return [_file(one) for one in matches if not os.path.isdir(one)]
    return [_file(name)]


def _list(name: str) -> list[Source]:
    """A path per line, from the current folder as in Darknet, or else from the list's own folder."""
    lines = read_lines(name, "list of images")
    if not lines:
        raise DarknetError(f"{name}: this list names no image")
    folder = Path(name).parent
    return [_file(line if os.path.exists(line) else str(locate(line, [folder]) or line)) for line in lines]


def _file(path: str) -> Source:
    return VideoSource(path, live=False) if Path(path).suffix.lower() in VIDEO_SUFFIXES else ImageSource(path)


class Video:
    """The frames of a video file in order: uint8 RGB.

    Attributes:
        fps: frames per second (25 where the file does not say). count: number of frames, 0 where unknown.
    """

    def __init__(self, address: str) -> None:
        if not Path(address).is_file():
            raise ImageError(f"{address}: cannot read this video: no such file")
        self._capture = cv2.VideoCapture(address)
        if not self._capture.isOpened():
            raise ImageError(f"{address}: cannot read this video: not a video, or one that OpenCV cannot decode")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Image]:
        while True:
            good, frame = self._capture.read()
            if not good:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._capture.release()


class LiveVideo:
    """The newest frame of a camera or stream, as a thread keeps reading; reconnects to a lost stream.

    Attributes:
        fps: frames per second that the source claims. dropped: how many frames were read and never taken.
    """

    count = 0

    def __init__(self, address: str, attempts: int | None = None) -> None:
        """`attempts`: how often reconnecting to a lost stream is tried before the frames end; None: for ever."""
        self.address = int(address) if address.isdigit() else address
        self.attempts = attempts
        self.dropped = 0
        self.fps = 25.0
        self._capture = cv2.VideoCapture(self.address)
        if not self._capture.isOpened():
            what = f"camera {address}" if address.isdigit() else address
            raise ImageError(f"{what}: cannot be opened")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._newest: Image | None = None
        self._ended = False
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing.is_set():
            good, frame = self._capture.read()
            if not good:
                if not self._reconnect():
                    break
                continue
            with self._changed:
                self.dropped += self._newest is not None
                self._newest = frame
                self._changed.notify()
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _reconnect(self) -> bool:
        wait, attempt = 1.0, 0
        while self.attempts is None or attempt < self.attempts:
            attempt += 1
            print(f"{self.address}: connection lost; reconnecting in {wait:.0f} s", file=sys.stderr)
            if self._closing.wait(wait):
                return False
            self._capture.release()
            self._capture = cv2.VideoCapture(self.address)
            if self._capture.isOpened():
                return True
            wait = min(2 * wait, MAX_WAIT)
        return False

    def __iter__(self) -> Iterator[Image]:
        while True:
            with self._changed:
                while self._newest is None and not self._ended:
                    self._changed.wait(0.2)
                frame, self._newest = self._newest, None
            if frame is None:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=2.0)
        self._capture.release()


def open_video(source: VideoSource) -> Video | LiveVideo:
    return LiveVideo(source.address) if source.live else Video(source.address)


class Rate:
    """Frames per second, averaged over the last few."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.value = 0.0

    def tick(self, count: int = 1) -> float:
        now = time.perf_counter()
        current = count / max(now - self._last, 1e-6)
        self._last = now
        self.value = 0.9 * self.value + 0.1 * current if self.value else current
        return self.value
