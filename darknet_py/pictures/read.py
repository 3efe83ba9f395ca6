"""Images as they come in: files, addresses, arrays, tensors and PIL images become arrays, which `resize` fits to the
network.

An image is an array (height, width, channels), RGB: uint8, uint16, or float in 0..1.
"""

from __future__ import annotations

import os
import warnings
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.bundled import or_bundled
from darknet_py.errors import CfgWarning, ImageError
from darknet_py.files import read_file
from darknet_py.pictures.addresses import fetch, is_address, shown
from darknet_py.pictures.header import check_pixels

Image: TypeAlias = NDArray[Any]

MAX_IMAGE_BYTES = 1 << 30  # of a file
ROUNDING = 1e-3  # how far floats may lie beyond 0 and 1, as resizing leaves them
TWELVE_BITS = 4095  # the largest value
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, as OpenCV has them (ITU-R BT.601)
FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR, 4: cv2.IMREAD_UNCHANGED}  # by the channels that are wanted
CONVERSIONS = {  # by (channels that OpenCV gives, channels that are wanted)
    (1, 4): cv2.COLOR_GRAY2RGBA,
    (3, 3): cv2.COLOR_BGR2RGB,
    (3, 4): cv2.COLOR_BGR2RGBA,
    (4, 4): cv2.COLOR_BGRA2RGBA,
}


def read_image(path: str | os.PathLike[str], channels: int = 3) -> Image:
    """Reads an image file: uint8, uint16 or float in 0..1; (height, width, channels), RGB; turned upright as its EXIF
    data say.

    Args:
        path: the file, or its http(s) address.
        channels: 1 (grey), 3, or 4 (with transparency), as the network's [net] says.

    Raises:
        ImageError: the file cannot be read, is not an image, or has values of another kind.
    """
    path, name = os.fspath(path), shown(os.fspath(path))
    try:
        content = fetch(path) if is_address(path) else read_file(or_bundled(path), MAX_IMAGE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: an address that is none
        cause = getattr(error, "reason", error)  # urllib wraps what happened
        reason = getattr(cause, "strerror", None) or cause
        raise ImageError(f"{name}: cannot read this image: {reason}") from None
    if channels not in FLAGS:
        raise ImageError(f"{name}: the network reads {channels} channels; an image file has 1, 3 or 4")
    check_pixels(content, name)
    data = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(data, FLAGS[channels] | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        reason = "not an image, or a damaged one" if data.size else "the file is empty"
        raise ImageError(f"{name}: cannot read this image: {reason}")
    if text := twelve_bits(image):
        warnings.warn(f"{name}: {text}", CfgWarning, stacklevel=2)
    return _rgb(_valid(image, name), channels)


def twelve_bits(image: Image) -> str:
    """A sentence where the values of a 16-bit image end where those of 12 bits do; "" elsewhere. They are taken as they
    are, as in Darknet: a picture in the dark has such values, too."""
    if image.dtype != np.uint16 or image.max() > TWELVE_BITS:
        return ""
    return f"its 16-bit values end at {image.max()} of 65535, so it is nearly black; if it has 12 bits, multiply by 16"


def _rgb(image: Image, channels: int) -> Image:
    """OpenCV's BGR, BGRA or grey → RGB, RGBA or (h, w, 1)."""
    if channels == 1:
        return image.reshape(*image.shape[:2], 1)
    return cv2.cvtColor(image, CONVERSIONS[1 if image.ndim == 2 else image.shape[2], channels])


def split_batch(source: Any) -> list[Any]:
    """A list or tuple of images, or a batch as an array (n, h, w, c) or a tensor (n, c, h, w), as a list; any other
    source is a single one."""
    if isinstance(source, (list, tuple)) or getattr(source, "ndim", None) == 4:
        return list(source)
    return [source]


def as_image(source: Any, channels: int, order: str = "rgb") -> Image:
    """An array (h, w) or (h, w, c), a tensor (h, w) or (c, h, w), or a PIL image as an image of so many channels.

    Values: uint8, uint16, or float from 0 to 1. Grey becomes RGB or RGB grey; a fourth channel (transparency) is
    dropped, or added as opaque, as the network needs.

    Args:
        order: of the colours of arrays and tensors, "rgb" or "bgr" (OpenCV's); a PIL image knows its own.

    Raises:
        ImageError: the shape, the type or the values are not those of an image; the message says what is expected.
    """
    if order not in ("rgb", "bgr"):
        raise ImageError(f'order={order!r}: write "rgb", or "bgr" for what OpenCV reads')
    is_tensor = hasattr(source, "detach")
    if hasattr(source, "getbands"):
        array, order = _from_pil(source), "rgb"
    elif is_tensor:
        tensor = source.detach().cpu()
        array = np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    else:
        array = np.asarray(source) if hasattr(source, "__array__") else np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise ImageError(f"{type(source).__name__} is not an image; give a path, an array, a tensor or a PIL image")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in (1, 3, 4, channels):
        shape = tuple(getattr(source, "shape", array.shape))
        kind, axes = ("a tensor", "channels, height, width") if is_tensor else ("an array", "height, width, channels")
        raise ImageError(f"shape {shape} is not an image's: {kind} is ({axes}) with {channels} channels, or 1 for grey")
    if order == "bgr" and array.shape[2] in (3, 4):
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return _with_channels(_valid(array, "the image"), channels)


def _from_pil(image: Any) -> Image:
    """A PIL image of any mode: its colours as RGB(A) or grey, 8 or 16 bits, or floats."""
    mode = image.mode
    transparent = mode in ("PA", "LA", "La", "RGBa") or (mode == "P" and "transparency" in image.info)
    try:
        if mode == "La":  # PIL knows no way from La to RGBA but this one
            image = image.convert("LA")
        if mode not in ("F", "L", "RGB", "RGBA") and not mode.startswith("I"):
            image = image.convert("L" if mode == "1" else "RGBA" if transparent else "RGB")
        array = np.asarray(image)
    except (ValueError, OSError) as error:  # a mode without a way to RGB; a damaged file, which PIL reads only now
        raise ImageError(f"a PIL image of mode {mode} cannot be read: {error}") from None
    if mode.startswith("I"):  # 16 bits: of I;16 and its byte orders, or in an int32
        low, high = array.min(), array.max()
        if low < 0 or high > 65535:
            raise ImageError(f"a PIL image of mode {mode} with values {low} to {high}; 0..65535 are read")
        array = array.astype(np.uint16)
    return array


def _valid(image: Image, name: str) -> Image:
    """The image itself if its values are uint8, uint16, or float from 0 to 1.

    Raises:
        ImageError: they are not.
    """
    if image.dtype in (np.uint8, np.uint16):
        return image
    if image.dtype.kind != "f":
        raise ImageError(f"{name}: values of type {image.dtype}; use uint8, uint16, or float from 0 to 1")
    low, high = float(image.min()), float(image.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN too
        found = f"values from {low:g} to {high:g}" if np.isfinite((low, high)).all() else "values that are not finite"
        raise ImageError(f"{name}: {found}; floats go from 0 (black) to 1 (white): divide by the white value")
    return image


def _with_channels(image: Image, channels: int) -> Image:
    """Between grey, RGB and RGBA."""
    have = image.shape[2]
    if have == channels:
        return image
    if channels == 1:
        grey = image[..., :3] @ GREY_WEIGHTS
        return (np.rint(grey).astype(image.dtype) if image.dtype.kind == "u" else grey)[..., None]
    rgb = image[..., :3] if have >= 3 else np.repeat(image, 3, 2)
    if channels == 3:
        return rgb
    if channels == 4:
        opaque = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        return np.concatenate((rgb, np.full_like(rgb[..., :1], opaque)), 2)
    raise ImageError(f"an image of {have} channels, but the network reads {channels}")
