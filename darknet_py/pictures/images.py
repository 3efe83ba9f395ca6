"""Pictures: read from files, brought to the network's size as Darknet does it, and boxes brought back (Darknet: image.c).

A picture is an array (height, width, channels), RGB: uint8, uint16, or float in 0..1.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.bundled import or_bundled
from darknet_py.errors import ImageError

Picture: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float32]

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jp2",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
    ]
)
GREY = 0.5  # what letterboxing fills with


def read_image(path: str | os.PathLike[str], channels: int = 3) -> Picture:
    """Reads a picture file: uint8 or uint16, (height, width, channels), RGB; turned upright as its EXIF data say.

    Args:
        path: the file.
        channels: 1 (grey), 3, or 4 (with transparency), as the network's [net] says.

    Raises:
        ImageError: the file cannot be read, or is no picture.
    """
    path = or_bundled(path)
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot read this picture: {error.strerror or error}") from None
    if channels not in (1, 3, 4):
        raise ImageError(f"{path}: the network reads {channels} channels; a picture file has 1, 3 or 4")
    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR, 4: cv2.IMREAD_UNCHANGED}[channels]
    try:
        image = cv2.imdecode(data, flags | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(
            f"{path}: cannot read this picture: {'the file is empty' if not data.size else 'not a picture, or a damaged one'}"
        )
    return _rgb(image, channels)


def _rgb(image: Picture, channels: int) -> Picture:
    """OpenCV's BGR, BGRA or grey → RGB, RGBA or (h, w, 1)."""
    given = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        return image.reshape(*image.shape[:2], 1)
    conversions = {
        (1, 4): cv2.COLOR_GRAY2RGBA, (3, 3): cv2.COLOR_BGR2RGB, (3, 4): cv2.COLOR_BGR2RGBA, (4, 4): cv2.COLOR_BGRA2RGBA,
    }  # fmt: skip
    return cv2.cvtColor(image, conversions[given, channels])


def as_picture(image: Any, channels: int) -> Picture:
    """An array, tensor or PIL image as a picture of so many channels; (h, w), (h, w, c), and tensors (c, h, w) are understood.

    Raises:
        ImageError: the shape or the type of its values is none of a picture's.
    """
    if hasattr(image, "detach"):  # a tensor: channels first
        image = image.detach().cpu().numpy()
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is no picture; give (height, width, channels)")
    if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an array of {array.dtype} is no picture; give uint8, uint16, or float in 0..1")
    if array.shape[2] == 1 and channels == 3:
        array = np.repeat(array, 3, 2)
    elif array.shape[2] == 4 and channels == 3:
        array = array[..., :3]
    elif array.shape[2] == 3 and channels == 1:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        array = (
            np.rint(array @ weights).astype(array.dtype)[..., None]
            if array.dtype.kind == "u"
            else (array @ weights)[..., None]
        )
    if array.shape[2] != channels:
        raise ImageError(f"a picture of {array.shape[2]} channels; the network reads {channels}")
    return array


@lru_cache(maxsize=64)
def _taps(given: int, wanted: int, is_row: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each output line: its two input lines, and the second one's weight (image.c:resize_image, in float32 as there).

    The last column is exactly the last one of the input. The last row has no second tap: where rounding puts it a little before
    the last row of the input, it comes out almost black, in Darknet and here.
    """
    scale = np.float32(given - 1) / np.float32(max(wanted - 1, 1))
    position = np.arange(wanted, dtype=np.float32) * scale
    first = position.astype(np.int64)
    weight = position - first.astype(np.float32)
    if not is_row or given == 1:
        first[-1], weight[-1] = given - 1, 0.0
    return first, np.minimum(first + 1, given - 1), weight


def resize(image: Picture, width: int, height: int) -> Floats:
    """Darknet's bilinear resize, corner to corner: (height, width, channels) float32 in 0..1."""
    scale = np.float32(1.0 / {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1))
    if image.shape[:2] == (height, width):
        return np.multiply(image, scale, dtype=np.float32)
    channels = image.shape[2]
    top, below, down = _taps(image.shape[0], height, True)
    left, right, across = _taps(image.shape[1], width, False)
    if 2 * height < image.shape[0]:  # most rows are never read
        rows, where = np.unique(np.stack((top, below)), return_inverse=True)
        image = image[rows]
        top, below = where.reshape(2, -1)
    # Lines are blended as rows, which lie together in memory: first the columns of the transposed picture, then the rows.
    columns = _transpose(image)
    part = columns[left].reshape(width, -1) * (1 - across)[:, None]
    part += columns[right].reshape(width, -1) * across[:, None]
    part = _transpose(part.reshape(width, image.shape[0], channels)).reshape(image.shape[0], -1)
    result = part[top] * (1 - down)[:, None]
    second = part[below]
    second *= down[:, None]
    result[:-1] += second[:-1]
    result *= scale
    return result.reshape(height, width, channels)


def _transpose(image: Picture) -> Picture:
    """(h, w, c) → (w, h, c), contiguous."""
    if image.shape[2] > 4:
        return np.ascontiguousarray(image.swapaxes(0, 1))
    return cv2.transpose(np.ascontiguousarray(image)).reshape(image.shape[1], image.shape[0], image.shape[2])


def letterbox_size(picture: tuple[int, int], network: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a picture inside the network's input, its proportions kept; Darknet divides integers."""
    (width, height), (wanted_w, wanted_h) = picture, network
    if np.float32(wanted_w) / np.float32(width) < np.float32(wanted_h) / np.float32(height):
        return wanted_w, max(height * wanted_w // width, 1)
    return max(width * wanted_h // height, 1), wanted_h


def letterbox(image: Picture, width: int, height: int) -> Floats:
    """The picture with its proportions kept, in the middle of grey: (height, width, channels) float32 in 0..1."""
    inner_w, inner_h = letterbox_size((image.shape[1], image.shape[0]), (width, height))
    result = np.full((height, width, image.shape[2]), GREY, np.float32)
    left, top = (width - inner_w) // 2, (height - inner_h) // 2
    result[top : top + inner_h, left : left + inner_w] = resize(image, inner_w, inner_h)
    return result


def short_side_crop(image: Picture, width: int, height: int) -> Floats:
    """What Darknet's classifiers see: the short side becomes `width`, of that the middle (image.c:resize_min, crop_image)."""
    given_h, given_w = image.shape[:2]
    size = (width, given_h * width // given_w) if given_w < given_h else (given_w * width // given_h, width)
    small = resize(image, *size)
    rows = np.clip(np.arange(height) + int((size[1] - height) / 2), 0, size[1] - 1)
    columns = np.clip(np.arange(width) + int((size[0] - width) / 2), 0, size[0] - 1)
    return small[rows][:, columns]


def to_picture(xywh: Any, picture: tuple[int, int], network: tuple[int, int], letterboxed: bool) -> Any:
    """Boxes relative to the network's input → relative to the picture (yolo_layer.c:correct_yolo_boxes). Nothing is clipped.

    Args:
        xywh: (…, 4) array or tensor of centre and size. picture, network: (width, height), pixels.
    """
    if not letterboxed:
        return xywh
    inner = letterbox_size(picture, network)
    result = xywh.clone() if hasattr(xywh, "clone") else xywh.copy()
    for axis in (0, 1):
        ratio = inner[axis] / network[axis]
        margin = (network[axis] - inner[axis]) / 2 / network[axis]
        result[..., axis] = (result[..., axis] - margin) / ratio
        result[..., axis + 2] = result[..., axis + 2] / ratio
    return result
