"""Images as they come in: files, arrays, tensors and PIL images become arrays, which `resize` fits to the network.

An image is an array (height, width, channels), RGB: uint8, uint16, or float in 0..1.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.bundled import or_bundled
from darknet_py.errors import ImageError
from darknet_py.files import read_file
from darknet_py.pictures.header import check_pixels

Image: TypeAlias = NDArray[Any]

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
))  # fmt: skip
MAX_IMAGE_BYTES = 1 << 30  # of a file
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as OpenCV has them (ITU-R BT.601)
FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR, 4: cv2.IMREAD_UNCHANGED}  # by the channels that are wanted
CONVERSIONS = {  # by (channels that OpenCV gives, channels that are wanted)
    (1, 4): cv2.COLOR_GRAY2RGBA,
    (3, 3): cv2.COLOR_BGR2RGB,
    (3, 4): cv2.COLOR_BGR2RGBA,
    (4, 4): cv2.COLOR_BGRA2RGBA,
}


def read_image(path: str | os.PathLike[str], channels: int = 3) -> Image:
    """Reads an image file: uint8 or uint16, (height, width, channels), RGB; turned upright as its EXIF data say.

    Args:
        path: the file.
        channels: 1 (grey), 3, or 4 (with transparency), as the network's [net] says.

    Raises:
        ImageError: the file cannot be read, or is not an image.
    """
    path = or_bundled(path)
    try:
        content = read_file(path, MAX_IMAGE_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: cannot read this image: {error.strerror or error}") from None
    if channels not in FLAGS:
        raise ImageError(f"{path}: the network reads {channels} channels; an image file has 1, 3 or 4")
    check_pixels(content, path)
    data = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(data, FLAGS[channels] | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        reason = "not an image, or a damaged one" if data.size else "the file is empty"
        raise ImageError(f"{path}: cannot read this image: {reason}")
    if image.dtype.kind == "i":
        raise ImageError(f"{path}: its values are of type {image.dtype}; an image has uint8, uint16 or floats")
    return _rgb(image, channels)


def _rgb(image: Image, channels: int) -> Image:
    """OpenCV's BGR, BGRA or grey → RGB, RGBA or (h, w, 1)."""
    if channels == 1:
        return image.reshape(*image.shape[:2], 1)
    return cv2.cvtColor(image, CONVERSIONS[1 if image.ndim == 2 else image.shape[2], channels])


def as_image(source: Any, channels: int) -> Image:
    """An array (h, w) or (h, w, c), a tensor (c, h, w) or a PIL image as an image of so many channels.

    Raises:
        ImageError: the shape or the type of the values is not that of an image.
    """
    if hasattr(source, "detach"):  # a tensor: channels first
        source = source.detach().cpu().numpy()
        source = np.moveaxis(source, 0, -1) if source.ndim == 3 else source
    array = np.asarray(source)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is not an image; use (height, width, channels)")
    if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"an array of {array.dtype} is not an image; use uint8, uint16, or float in 0..1")
    if array.shape[2] == 1 and channels == 3:
        array = np.repeat(array, 3, 2)
    elif array.shape[2] == 4 and channels == 3:
        array = array[..., :3]
    elif array.shape[2] == 3 and channels == 1:
        grey = array @ GREY_WEIGHTS
        array = (np.rint(grey).astype(array.dtype) if array.dtype.kind == "u" else grey)[..., None]
    if array.shape[2] != channels:
        raise ImageError(f"an image of {array.shape[2]} channels, but the network reads {channels}")
    return array
