"""The size of an image, as its file's first bytes say: what would fill the memory is refused before it is decoded."""

from __future__ import annotations

import os
import re
import struct

from darknet_py.errors import ImageError

# OpenCV's own variable, with a smaller default (OpenCV's is 2**30): 16 images may be read ahead
_set = re.fullmatch(r"(\d{1,18}) *(?:([KM])B)?", os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "").strip().upper())
MAX_PIXELS = int(_set[1]) * {"K": 1 << 10, "M": 1 << 20}.get(_set[2], 1) if _set else 1 << 27
PNG = b"\x89PNG\r\n\x1a\n"
WEBP = {b"VP8 ": (26, "<HH"), b"VP8L": (21, "<I"), b"VP8X": (24, "<II")}  # offset and layout of the size
PNM = re.compile(rb"P[1-7](?:\s|#[^\n]*\n)+(?:WIDTH )?(\d{1,10})\s+(?:#[^\n]*\n\s*)*(?:HEIGHT )?(\d{1,10})")
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags
NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # JPEG's markers among those of the frames


def check_pixels(data: bytes, name: str) -> None:
    """Refuses an image of more than MAX_PIXELS, by its header, and a PNG with a part that is longer than the file, for
    which OpenCV would take the memory. `name` is what messages call the file.

    Raises:
        ImageError: see above.
    """
    try:
        width, height = header_size(data)
        longest = _longest_chunk(data) if data.startswith(PNG) else 0
    except (struct.error, IndexError, ValueError):
        return  # damaged: OpenCV will say so
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} pixels; {MAX_PIXELS:,} in all are the limit (a larger one can be set in the "
            "environment: OPENCV_IO_MAX_IMAGE_PIXELS)"
        )

    if longest > len(data):
        raise ImageError(f"{name}: cannot read this image: it is damaged, a part is longer than the file")


def header_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG, PNG, GIF, BMP, WebP, TIFF, PNM, JPEG 2000 or AVIF; (0, 0) of other files, for which
    OpenCV has a limit of its own.

    Raises:
        struct.error, IndexError, ValueError: the header is damaged.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(PNG):
        return _pair(">II", data, 16)
    if data.startswith(b"GIF8"):
        return _pair("<HH", data, 6)
    if data.startswith(b"BM"):
        width, height = _pair("<ii", data, 18)
        return abs(width), abs(height)
    if data[:4] == b"RIFF" and data[12:16] in WEBP:
        return _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data, "<" if data[:2] == b"II" else ">")
    if match := PNM.match(data):
        return int(match[1]), int(match[2])
    if (at := data.find(b"ihdr", 0, 4096)) >= 0 and b"jP" in data[:8]:
        height, width = _pair(">II", data, at + 4)
        return width, height
    if data[4:8] == b"ftyp":
        sizes = [_pair(">II", data, at.end() + 4) for at in re.finditer(b"ispe", data[:65536])]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return 0, 0


def _pair(layout: str, data: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, offset)
    return first, second


def _longest_chunk(data: bytes) -> int:
    """Of a PNG, bytes."""
    at, longest = len(PNG), 0
    while at + 8 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        longest, at = max(longest, length), at + length + 12
    return longest


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while data[at] == 0xFF:
            at += 1
        marker, at = data[at], at + 1
        if 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            height, width = _pair(">HH", data, at + 3)
            return width, height
        if marker not in (0, 1) and not 0xD0 <= marker <= 0xD9:
            at += struct.unpack_from(">H", data, at)[0]


def _webp(data: bytes) -> tuple[int, int]:
    offset, layout = WEBP[data[12:16]]
    if layout == "<HH":
        width, height = _pair(layout, data, offset)
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(data[offset : offset + 6], "little")
    side = 14 if layout == "<I" else 24
    return (bits & (1 << side) - 1) + 1, (bits >> side & (1 << side) - 1) + 1


def _tiff(data: bytes, order: str) -> tuple[int, int]:
    """Of the first image in the file."""
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    sides = {TIFF_WIDTH: 0, TIFF_HEIGHT: 0}
    for number in range(struct.unpack_from(f"{order}H", data, start)[0]):
        entry = start + 2 + 12 * number
        tag, kind = _pair(f"{order}HH", data, entry)
        if tag in sides:
            sides[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]
    return sides[TIFF_WIDTH], sides[TIFF_HEIGHT]
