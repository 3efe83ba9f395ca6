"""How videos can be written."""

from __future__ import annotations

from typing import NamedTuple


class Codec(NamedTuple):
    """How a video is written: a name, the file's ending, OpenCV's code, whether browsers play it, and whether writing
    keeps up with a camera."""

    name: str
    suffix: str
    fourcc: str
    in_browsers: bool
    fast: bool = True


# The first that this machine's OpenCV can write is taken: what browsers play first. VP8 takes 20 times as long to write
# as MPEG-4, VP9 would take 60 times as long.
CODECS = (
    Codec("h264", ".mp4", "avc1", True),
    Codec("vp8", ".webm", "VP80", True, fast=False),
    Codec("mpeg4", ".mp4", "mp4v", False),
    Codec("mpeg4", ".avi", "XVID", False),
    Codec("mpeg4", ".mkv", "mp4v", False),
)
