"""Images brought to the network's input size as Darknet does it, and the way back for boxes (Darknet: image.c)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.pictures.read import Image

Floats: TypeAlias = NDArray[np.float32]
Size: TypeAlias = tuple[int, int]  # (width, height), pixels

LETTERBOX_GREY = 0.5  # the bars beside or above a letterboxed image


@lru_cache(maxsize=64)
def taps(source: int, target: int, is_row: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each output line: its two input lines, and the second one's weight, in float32 as in image.c:resize_image.

    The last column is exactly the last one of the input. The last row has no second tap: where rounding puts it a
    little before the last row of the input, it comes out almost black, in Darknet and here.
    """
    scale = np.float32(source - 1) / np.float32(max(target - 1, 1))
    position = np.arange(target, dtype=np.float32) * scale
    first = position.astype(np.int64)
    weight = position - first.astype(np.float32)
    if not is_row or source == 1:
        first[-1], weight[-1] = source - 1, 0.0
    return first, np.minimum(first + 1, source - 1), weight


def resize(image: Image, width: int, height: int) -> Floats:
    """Darknet's bilinear resize, corner to corner: (height, width, channels) float32 in 0..1."""
    scale = np.float32(1.0 / {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1))
    if image.shape[:2] == (height, width):
        return np.multiply(image, scale, dtype=np.float32)
    channels = image.shape[2]
    top, below, down = taps(image.shape[0], height, True)
    left, right, across = taps(image.shape[1], width, False)
    if 2 * height < image.shape[0]:  # most rows are never read
        rows, position = np.unique(np.stack((top, below)), return_inverse=True)
        image = image[rows]
        top, below = position.reshape(2, -1)
    # Lines are blended as rows, contiguous in memory: first the columns of the transposed image, then the rows.
    columns = _transpose(image)
    narrow = columns[left].reshape(width, -1) * (1 - across)[:, None]
    narrow += columns[right].reshape(width, -1) * across[:, None]
    narrow = _transpose(narrow.reshape(width, image.shape[0], channels)).reshape(image.shape[0], -1)
    result = narrow[top] * (1 - down)[:, None]
    second = narrow[below]
    second *= down[:, None]
    result[:-1] += second[:-1]
    result *= scale
    return result.reshape(height, width, channels)


def _transpose(image: Image) -> Image:
    """(h, w, c) → (w, h, c), contiguous."""
    if image.shape[2] > 4:
        return np.ascontiguousarray(image.swapaxes(0, 1))
    return cv2.transpose(np.ascontiguousarray(image)).reshape(image.shape[1], image.shape[0], image.shape[2])


def letterbox_size(image: Size, network: Size) -> Size:
    """Size of an image inside the network's input, its aspect ratio kept; Darknet divides integers."""
    (width, height), (network_width, network_height) = image, network
    if np.float32(network_width) / np.float32(width) < np.float32(network_height) / np.float32(height):
        return network_width, max(height * network_width // width, 1)
    return max(width * network_height // height, 1), network_height


def letterbox(image: Image, width: int, height: int) -> Floats:
    """The image with its aspect ratio kept, in the middle of grey: (height, width, channels) float32 in 0..1."""
    result = np.full((height, width, image.shape[2]), LETTERBOX_GREY, np.float32)
    rows, columns = letterbox_slices((image.shape[1], image.shape[0]), (width, height))
    result[rows, columns] = resize(image, columns.stop - columns.start, rows.stop - rows.start)
    return result


def letterbox_slices(image: Size, network: Size) -> tuple[slice, slice]:
    """The rows and columns of the network's input in which a letterboxed image lies."""
    (width, height), (inner_width, inner_height) = network, letterbox_size(image, network)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return slice(top, top + inner_height), slice(left, left + inner_width)


def letterbox_fractions(images: Sequence[Size], network: Size) -> tuple[Floats, Floats]:
    """Where letterboxed images lie in the network's input, as fractions of it (yolo_layer.c:correct_yolo_boxes).

    Returns:
        Two arrays (n, 2): each image's width and height; and the bars to its left and above it.
    """
    inner = np.array([letterbox_size(image, network) for image in images]).reshape(-1, 2)
    size = np.array(network)
    return (inner / size).astype(np.float32), ((size - inner) / 2 / size).astype(np.float32)


def short_side_crop(image: Image, width: int, height: int) -> Floats:
    """What Darknet's classifiers see: the short side is resized to `width`, then the middle is cut out.

    image.c:resize_min, crop_image. Returns (height, width, channels) float32 in 0..1.
    """
    rows, columns = image.shape[:2]
    size = (width, rows * width // columns) if columns < rows else (columns * width // rows, width)
    small = resize(image, *size)
    y = np.clip(np.arange(height) + int((size[1] - height) / 2), 0, size[1] - 1)
    x = np.clip(np.arange(width) + int((size[0] - width) / 2), 0, size[0] - 1)
    return small[y][:, x]
