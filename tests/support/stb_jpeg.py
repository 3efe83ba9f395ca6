"""JPEG files as the C program sees them: the pixels of stb_image, its decoder where it is built without OpenCV.

OpenCV's decoder (libjpeg) gives pixels up to three grey levels away. Baseline files only, grey or YCbCr, in one scan.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

# Where the file's 64 coefficients lie in a transposed block: along the diagonals, in alternating directions.
PLACES = np.array(sorted(range(64), key=lambda at: (at // 8 + at % 8, at % 8 if (at // 8 + at % 8) % 2 else at // 8)))

# While symbols are read, one integer is the state: the next coefficient in the lowest seven bits, the next bit above.
SHIFT, MASK, FULL = 7, -128, 64
INVALID = 1 << 50  # beyond every file's end


class Component(NamedTuple):
    """Y, Cb or Cr: blocks across and down in each unit of the scan, and its tables."""

    across: int
    down: int
    quantisers: np.ndarray
    codes: tuple[Codes, Codes]  # of the first coefficient, of the others


class Codes:
    """A Huffman table, by the next sixteen bits: the code's length, its symbol, and what the state becomes."""

    def __init__(self, table: bytes, first: bool) -> None:
        lengths = np.repeat(np.arange(1, 17), list(table[:16]))
        spans = 1 << (16 - lengths)
        self.lengths, self.symbols = np.zeros((2, 1 << 16), np.int64)
        self.lengths[: spans.sum()] = np.repeat(lengths, spans)
        self.symbols[: spans.sum()] = np.repeat(np.frombuffer(table, np.uint8, len(lengths), 16), spans)
        self.sizes, self.runs = self.symbols & 15, self.symbols >> 4
        ahead = self.runs + 1
        if not first:
            ahead[self.symbols == 0] = FULL  # the block's other coefficients are zero
        step = (self.lengths + self.sizes << SHIFT) + ahead
        step[spans.sum() :] = INVALID
        self.step: list[int] = step.tolist()


def parts(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of each part of the file up to the first scan."""
    at = 2
    while True:
        at = data.index(b"\xff", at)
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end], end
        if marker == 0xDA:
            return
        at = end


def read_jpeg(path: Path | str) -> np.ndarray:
    """RGB (height, width, 3), uint8."""
    data = Path(path).read_bytes()
    quantisers: dict[int, np.ndarray] = {}
    codes: dict[int, Codes] = {}
    interval = 0
    for marker, content, end in parts(data):
        if marker == 0xDB:
            while content:
                wide = content[0] >> 4
                quantisers[content[0] & 15] = np.frombuffer(content, ">u2" if wide else np.uint8, 64, 1)
                content = content[129 if wide else 65 :]
        elif marker == 0xC4:
            while content:
                codes[content[0]] = Codes(content[1:], content[0] < 16)
                content = content[17 + sum(content[1:17]) :]
        elif marker == 0xDD:
            interval = int.from_bytes(content, "big")
        elif marker in (0xC0, 0xC1):
            height, width, frame = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big"), content[6:]
        elif 0xC2 <= marker <= 0xCF or marker == 0xEE:
            raise ValueError(f"{path}: a JPEG of another kind: part {marker:02x}")
        elif marker == 0xDA:
            scan, start = content, end
    if scan[0] != len(frame) // 3:
        raise ValueError(f"{path}: a JPEG of several scans")
    components = []
    for k in range(len(frame) // 3):
        number, sampling, quantiser = frame[3 * k : 3 * k + 3]
        if scan[1 + 2 * k] != number:
            raise ValueError(f"{path}: a JPEG whose components are in another order")
        dc, ac = scan[2 + 2 * k] >> 4, scan[2 + 2 * k] & 15
        across, down = (sampling >> 4, sampling & 15) if len(frame) > 3 else (1, 1)
        components.append(Component(across, down, quantisers[quantiser], (codes[dc], codes[16 + ac])))
    across, down = max(c.across for c in components), max(c.down for c in components)
    columns, rows = -(-width // (8 * across)), -(-height // (8 * down))
    blocks = read_blocks(scan_segments(data[start:]), components, columns * rows, interval or columns * rows)
    planes, first = [], 0
    for component in components:
        count = component.across * component.down
        pixels = inverse(blocks[:, first : first + count].reshape(-1, 8, 8))
        grid = pixels.reshape(rows, columns, component.down, component.across, 8, 8).transpose(0, 2, 4, 1, 3, 5)
        plane = grid.reshape(rows * component.down * 8, columns * component.across * 8)
        plane = plane[: -(-height * component.down // down), : -(-width * component.across // across)]
        planes.append(enlarge(plane, down // component.down, across // component.across)[:height, :width])
        first += count
    return to_rgb(*planes) if len(planes) == 3 else np.repeat(planes[0][..., None], 3, 2).astype(np.uint8)


def scan_segments(data: bytes) -> list[bytes]:
    """What stands between the restart markers of a scan, without the zeros that follow its bytes 255."""
    end = re.search(rb"\xff[^\x00\xd0-\xd7]", data)
    scan = data[: end.start()] if end else data
    return [segment.replace(b"\xff\x00", b"\xff") for segment in re.split(rb"\xff[\xd0-\xd7]", scan)]


def read_blocks(segments: list[bytes], components: list[Component], units: int, interval: int) -> np.ndarray:
    """The scan's coefficients, times their quantisers, each block turned: (units, blocks of a unit, 64), float64.

    A loop goes from symbol to symbol and only notes the states; all numbers are then read at once.
    """
    padded = b"".join(segment + bytes(8) for segment in segments)
    near = np.frombuffer(padded + bytes(8), np.uint8).astype(np.int64)
    near = (
        near[:-4] << 32 | near[1:-3] << 24 | near[2:-2] << 16 | near[3:-1] << 8 | near[4:]
    )  # 40 bits from each byte on
    peek = array("H", (near[: len(padded), None] >> np.arange(24, 16, -1)).astype(np.uint16).tobytes())
    owners = [k for k, component in enumerate(components) for _ in range(component.across * component.down)]
    tables = [[codes.step for codes in components[k].codes] for k in owners]
    states: list[int] = []
    note = states.append
    start = 0
    for number, segment in enumerate(segments):
        state = start << 3 + SHIFT
        start += len(segment) + 8
        for dc, ac in tables * min(interval, units - number * interval):
            state &= MASK
            note(state)
            state += dc[peek[state >> SHIFT]]
            while not state & FULL:
                note(state)
                state += ac[peek[state >> SHIFT]]

    visited = np.array(states)
    at, place = visited >> SHIFT, visited & ~MASK
    block = np.cumsum(place == 0) - 1
    kind = 2 * np.array(owners)[block % len(owners)] + (place > 0)
    looked_up = (kind, np.frombuffer(peek, np.uint16)[at])
    all_codes = [codes for component in components for codes in component.codes]
    length, size, run = (
        np.stack([getattr(codes, name) for codes in all_codes])[looked_up] for name in ("lengths", "sizes", "runs")
    )
    bits = near[at >> 3] >> (40 - (at & 7) - length - size) & (1 << size) - 1
    value = np.where(bits << 1 >> size, bits, bits - (1 << size) + 1)  # a number that begins with 0 is negative
    value[size == 0] = 0
    stored = (size > 0) | (place == 0)
    whole = -(-units // interval) * interval
    found = np.zeros((whole, len(owners), 64))
    found.reshape(-1, 64)[block[stored], PLACES[(place + run)[stored]]] = value[stored]
    for k, component in enumerate(components):
        own = [index for index, owner in enumerate(owners) if owner == k]
        steps = found[:, own, 0]  # each block's first number is the difference from the one before
        found[:, own, 0] = steps.reshape(-1, interval * len(own)).cumsum(1).reshape(steps.shape)
        found[:, own] *= component.quantisers[np.argsort(PLACES)]
    return found[:units]


# The constants that stb rounds, by the inputs that they are for.
COSINES = {
    "even": 0.5411961,
    "even 2": 0.765366865,
    "even 6": -1.847759065,
    "odd": 1.175875602,
    "odd 17": -0.899976223,
    "odd 35": -2.562915447,
    "odd 37": -1.961570560,
    "odd 15": -0.390180644,
    "1": 1.501321110,
    "3": 3.072711026,
    "5": 2.053119869,
    "7": 0.298631336,
}


def transform() -> np.ndarray:
    """The matrix of stb's inverse cosine transform in one dimension, in units of 1/4096, so that sums are exact."""
    c = {name: int(value * 4096 + 0.5) for name, value in COSINES.items()}
    s = np.eye(8, dtype=np.int64)
    even = [4096 * (s[0] + s[4]), 4096 * (s[0] - s[4])]
    turn = (s[2] + s[6]) * c["even"]
    high, low = turn + s[2] * c["even 2"], turn + s[6] * c["even 6"]
    whole = (s[1] + s[3] + s[5] + s[7]) * c["odd"]
    a, b = whole + (s[1] + s[7]) * c["odd 17"], whole + (s[3] + s[5]) * c["odd 35"]
    d, e = (s[3] + s[7]) * c["odd 37"], (s[1] + s[5]) * c["odd 15"]
    odd = [s[1] * c["1"] + a + e, s[3] * c["3"] + b + d, s[5] * c["5"] + b + e, s[7] * c["7"] + a + d]
    upper = [even[0] + high, even[1] + low, even[1] - low, even[0] - high]
    return np.array(
        [x + y for x, y in zip(upper, odd, strict=True)] + [x - y for x, y in zip(upper[::-1], odd[::-1], strict=True)]
    )


TRANSFORM = transform().T.astype(np.float64)


def inverse(blocks: np.ndarray) -> np.ndarray:
    """Pixels (blocks, 8, 8), int32, of turned coefficients: columns first, rounded with two bits more, then rows."""
    columns = np.floor((blocks.reshape(-1, 8) @ TRANSFORM + 512) / 1024).reshape(-1, 8, 8)
    rows = columns.transpose(0, 2, 1).reshape(-1, 8) @ TRANSFORM
    pixels: np.ndarray = np.floor((rows + 65536) / 131072 + 128).clip(0, 255).astype(np.int32)
    return pixels.reshape(-1, 8, 8)


def enlarge(plane: np.ndarray, down: int, across: int) -> np.ndarray:
    """The plane in full size: each pixel is 3/4 of the nearer one and 1/4 of the farther, per axis; rounded once."""
    if max(down, across) > 2:
        raise ValueError("colours in less than half the size")
    for axis, factor in enumerate((down, across)):
        if factor == 2:
            count = plane.shape[axis]
            far = [plane.take(np.arange(count) + way, axis, mode="clip") for way in (-1, 1)]
            shape = [size * (1 + (k == axis)) for k, size in enumerate(plane.shape)]
            plane = np.stack([3 * plane + neighbour for neighbour in far], axis + 1).reshape(shape)
    unit = 4 ** ((down == 2) + (across == 2))
    result: np.ndarray = (plane + unit // 2) // unit
    return result


def to_rgb(y: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
    """Colours by stb's integers; of green's part of Cb the lowest 16 bits are dropped."""
    red, green_r, green_b, blue = (int(value * 4096 + 0.5) << 8 for value in (1.402, 0.71414, 0.34414, 1.772))
    y, cb, cr = (y << 20) + (1 << 19), cb - 128, cr - 128
    rgb = np.stack((y + cr * red, y - cr * green_r + (cb * -green_b & ~0xFFFF), y + cb * blue), -1)
    result: np.ndarray = (rgb >> 20).clip(0, 255).astype(np.uint8)
    return result


def convert(source: Path, target: Path) -> None:
    """A JPEG file's pixels as a PNG file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(target), read_jpeg(source)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"cannot write {target}")
