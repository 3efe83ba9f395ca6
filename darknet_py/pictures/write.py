"""Images and videos that are written: complete, or not there at all."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from darknet_py.errors import DarknetError
from darknet_py.files import beside, into_place, write_file
from darknet_py.pictures.codecs import CODECS, Codec
from darknet_py.pictures.read import Image

MAX_WAITING = 8  # frames of a video that wait to be written


def write_image(path: Path, image: Image) -> None:
    """uint8 RGB → a file, whose kind the name's ending says.

    Raises:
        DarknetError: OpenCV cannot write this kind of image.
    """
    try:
        good, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        good = False
    if not good:
        raise DarknetError(f"{path}: OpenCV cannot write this kind of image")
    write_file(path, data.tobytes(), sync=False)


def pick_codec(name: str | None = None, suffix: str | None = None, *, live: bool = False) -> Codec:
    """The best codec, of that name and for a file of that ending; None: any.

    live: for a stream, where a fast one comes first.

    Raises:
        DarknetError: this machine's OpenCV can write none.
    """
    fitting = [codec for codec in CODECS if name in (None, codec.name) and suffix in (None, codec.suffix)]
    if live:
        fitting.sort(key=lambda codec: not codec.fast)
    found = next((codec for codec in fitting if _works(codec)), None)
    if found is None:
        works = ", ".join(f"{codec.name} in {codec.suffix}" for codec in CODECS if _works(codec))
        wanted = " in ".join(part for part in (name, suffix) if part)
        raise DarknetError(f"OpenCV cannot write videos as {wanted} here; it can write {works}")
    return found


@lru_cache
def _works(codec: Codec) -> bool:
    """Whether a small video can be written and read again."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / f"probe{codec.suffix}")
        writer = _open_writer(path, codec, 25, (64, 48))
        for _ in range(3):
            writer.write(np.full((48, 64, 3), 128, np.uint8))
        writer.release()
        good, frame = cv2.VideoCapture(path).read()
        return bool(good) and frame.shape == (48, 64, 3)


def _open_writer(path: str, codec: Codec, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """OpenCV and its FFmpeg print remarks on codecs past Python; stderr is closed to them meanwhile."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # the user has closed it
        return cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec.fourcc), fps, size)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        return cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec.fourcc), fps, size)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class VideoFile:
    """A video that is written frame by frame, by a thread, and renamed into place when closed.

    The first frame sets the size; a frame of another size is resized into it.
    """

    def __init__(self, path: Path, fps: float, codec: Codec) -> None:
        self.path, self.fps, self.codec = path, fps, codec
        self.temporary = beside(path)
        self.writer: cv2.VideoWriter | None = None
        self.size = (0, 0)
        self.written = 0
        self.last = self.cost = 0.0  # the last frame's time; seconds that writing a frame takes
        self._thread = ThreadPoolExecutor(1)
        self._writing: deque[Future[None]] = deque()

    def add(self, frame: Image, at: float | None = None) -> None:
        """One more frame, uint8 RGB.

        Args:
            at: its time, seconds since the video's beginning: frames are repeated or left out, so that the video lasts
                as long as what it shows, as far as writing keeps up. None: they follow each other.
        """
        if self.writer is None:
            self.size = (frame.shape[1], frame.shape[0])
            self.writer = _open_writer(str(self.temporary), self.codec, self.fps, self.size)
            if not self.writer.isOpened():
                raise DarknetError(f"{self.path}: OpenCV cannot write this video")
        times = 1
        if at is not None:
            times = max(0, round(at * self.fps) + 1 - self.written)
            if self.cost:
                times = min(times, max(1, int((at - self.last) / self.cost)))
            self.last = at
        self.written += times
        self._writing.append(self._thread.submit(self._write, frame, times))
        while len(self._writing) > MAX_WAITING or (self._writing and self._writing[0].done()):
            self._writing.popleft().result()

    def _write(self, frame: Image, times: int) -> None:
        assert self.writer is not None
        if (frame.shape[1], frame.shape[0]) != self.size:
            frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        start = time.perf_counter()
        for _ in range(times):
            self.writer.write(bgr)
        self.cost = (time.perf_counter() - start) / times if times else self.cost

    def close(self) -> None:
        """Completes the video.

        Raises:
            DarknetError: what was written cannot be read again; no file of its name is left.
        """
        while True:
            try:
                self._thread.shutdown()
                break
            except KeyboardInterrupt:  # a second Ctrl-C: a few frames are still to be written
                continue
        if self.writer is None:
            return
        self.writer.release()
        whole = _frames_of(self.temporary) >= self.written  # OpenCV says nothing when it cannot write
        if not whole or any(write.exception() for write in self._writing):
            self.temporary.unlink(missing_ok=True)
            raise DarknetError(f"{self.path}: this video could not be written; is the disk full?")
        into_place(self.temporary, self.path)


def _frames_of(path: Path) -> int:
    """How many frames a video has, by its end, which is written last; 0: it has none."""
    capture = cv2.VideoCapture(str(path))
    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
