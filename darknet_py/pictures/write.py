"""Images and videos that are written: complete, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from darknet_py.errors import DarknetError
from darknet_py.files import beside, write_file
from darknet_py.pictures.read import Image


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
    write_file(path, data.tobytes())


class VideoFile:
    """A video that is written frame by frame and renamed into place when closed; the first frame sets its size."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self.temporary = beside(path)
        self.writer: cv2.VideoWriter | None = None

    def add(self, frame: Image) -> None:
        """One more frame, uint8 RGB."""
        if self.writer is None:
            size = (frame.shape[1], frame.shape[0])
            self.writer = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self.writer.isOpened():
                raise DarknetError(f"{self.path}: OpenCV cannot write this video")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.release()
            os.replace(self.temporary, self.path)
