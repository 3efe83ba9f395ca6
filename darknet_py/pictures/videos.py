"""The frames of videos, cameras and streams, as OpenCV reads them."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator

import cv2

from darknet_py.errors import ImageError
from darknet_py.pictures.addresses import is_address, shown
from darknet_py.pictures.read import Image
from darknet_py.pictures.sources import VideoSource, missing
from darknet_py.text import whole_number

# OpenCV's FFmpeg prints what it meets; what matters is said by this package's own messages
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

MAX_WAIT = 30.0  # seconds between two attempts to reconnect to a stream
START_PAUSE = 1.0  # seconds between two attempts to open a stream that is not up yet
START_LIMIT = 30.0  # seconds that a stream which is not up yet is waited for
DEFAULT_FPS = 25.0
MAX_FPS = 1000.0  # some streams claim their clock's rate, e.g. 90000


class Video:
    """The frames of a video in order, from a file or an http(s) address: uint8 RGB.

    Attributes:
        fps: frames per second (25 where the file does not say). count: number of frames, 0 where unknown.
    """

    def __init__(self, address: str) -> None:
        if sentence := missing(VideoSource(address, live=False)):
            raise ImageError(sentence)
        self._capture = _capture(address)
        if not self._capture.isOpened():
            reason = "not a video, or one that OpenCV cannot decode"
            if is_address(address):
                reason = "no such address, or not a video that OpenCV can decode"
            raise ImageError(f"{shown(address)}: cannot read this video: {reason}")
        self.fps = _fps(self._capture)
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Image]:
        while True:
            good, frame = self._capture.read()
            if not good:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._capture.release()


def _capture(address: str | int) -> cv2.VideoCapture:
    """OpenCV's reader; what it logs of each way that it tries is not shown."""
    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(address)
    finally:
        logging.setLogLevel(level)


def _fps(capture: cv2.VideoCapture) -> float:
    claimed = float(capture.get(cv2.CAP_PROP_FPS))
    return claimed if 0 < claimed <= MAX_FPS else DEFAULT_FPS


class LiveVideo:
    """The newest frame of a camera or stream, as a thread keeps reading; reconnects to a lost stream.

    Attributes:
        fps: frames per second that the source claims. dropped: how many frames were read and never taken.
        deadline: of time.monotonic(); the frames end then, also while none comes.
    """

    count = 0
    deadline = math.inf

    def __init__(self, address: str, attempts: int | None = None, start_limit: float = START_LIMIT) -> None:
        """`attempts`: how often reconnecting to a lost stream is tried before the frames end; None: for ever.
        `start_limit`: seconds that a stream is waited for which cannot be opened yet."""
        number = whole_number(address)
        self.address = address if number is None else number
        self.shown = VideoSource(address, live=True).shown
        self.attempts = attempts
        self.dropped = 0
        self._closing = threading.Event()
        self._capture = _capture(self.address)
        if not self._capture.isOpened() and not (is_address(address) and self._wait_for_start(start_limit)):
            waited = f" within {start_limit:.0f} s" if is_address(address) else ""
            raise ImageError(f"{self.shown}: cannot be opened{waited}")
        self.fps = _fps(self._capture)
        self._newest: Image | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _wait_for_start(self, limit: float) -> bool:
        print(f"{self.shown}: not up yet; waiting up to {limit:.0f} s", file=sys.stderr)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            time.sleep(START_PAUSE)
            if self._open():
                return True
        return False

    def _open(self) -> bool:
        self._capture.release()
        self._capture = _capture(self.address)
        return bool(self._capture.isOpened())

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
            print(f"{self.shown}: connection lost; reconnecting in {wait:.0f} s", file=sys.stderr)
            if self._closing.wait(wait):
                return False
            if self._open():
                return True
            wait = min(2 * wait, MAX_WAIT)
        return False

    def __iter__(self) -> Iterator[Image]:
        while True:
            with self._changed:
                while self._newest is None and not self._ended and time.monotonic() < self.deadline:
                    self._changed.wait(0.2)
                frame, self._newest = self._newest, None
            if frame is None:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=2.0)
        self._capture.release()


def open_video(source: VideoSource, time_limit: float | None = None) -> Video | LiveVideo:
    """time_limit: seconds after which a stream ends, or is no longer waited for."""
    if not source.live:
        return Video(source.address)
    return LiveVideo(source.address, start_limit=min(START_LIMIT, time_limit or START_LIMIT))


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
