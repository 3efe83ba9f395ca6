"""Detections drawn onto an image: boxes and labels that can be read, whatever the image's size."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from darknet_py.detections import Detection
from darknet_py.pictures.colours import class_colour
from darknet_py.pictures.read import Image

FONT = cv2.FONT_HERSHEY_SIMPLEX
MIN_SIDE = 320  # pixels of the longer side; a smaller image is enlarged for drawing, as no label would fit on it
DARK_INK_LUMA = 140  # of a label's background, 0..255; above it the text is black, below it white


def draw(image: Image, detections: Iterable[Detection]) -> Image:
    """A copy of the image, uint8 RGB, with a box and `name 0.88` for each detection, the most confident on top."""
    canvas = as_bytes(image)
    factor = -(-MIN_SIDE // max(canvas.shape[:2])) if max(canvas.shape[:2]) < MIN_SIDE else 1
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    ordered = sorted(detections, key=lambda detection: detection.confidence)
    for detection in ordered:
        _box(canvas, detection, factor)
    for detection in ordered:
        _label(canvas, detection, factor)
    return canvas


def as_bytes(image: Image) -> Image:
    """Any image as a fresh uint8 RGB one."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    return np.array(image, order="C")


def _line_width(canvas: Image) -> float:
    """Grows with the image; the unit of all that is drawn."""
    return max(1.0, (canvas.shape[0] * canvas.shape[1]) ** 0.5 / 400)


def _corners(canvas: Image, detection: Detection, factor: int) -> tuple[int, int, int, int]:
    height, width = canvas.shape[:2]
    limits = (width - 1, height - 1, width - 1, height - 1)
    left, top, right, bottom = (
        int(min(max(value * factor, 0), limit)) for value, limit in zip(detection.box, limits, strict=True)
    )
    return left, top, right, bottom


def _box(canvas: Image, detection: Detection, factor: int) -> None:
    left, top, right, bottom = _corners(canvas, detection, factor)
    thickness = max(2, round(1.6 * _line_width(canvas)))
    cv2.rectangle(canvas, (left, top), (right, bottom), class_colour(detection.class_id), thickness, cv2.LINE_AA)


def _label(canvas: Image, detection: Detection, factor: int) -> None:
    """Above the box, or inside it at the upper edge of the image; moved in where it would leave the image."""
    left, top, _, _ = _corners(canvas, detection, factor)
    height, width = canvas.shape[:2]
    text = f"{detection.name} {detection.confidence:.2f}"
    unit = _line_width(canvas)
    scale, thickness = max(0.42, 0.34 * unit), max(1, round(0.7 * unit))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    if text_width > width:  # a long name on a narrow image
        scale *= width / text_width
        (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(2, round(unit))
    label_height = text_height + below + 2 * margin
    x = max(0, min(left, width - text_width - 2 * margin))
    y = top - label_height if top >= label_height else min(top, height - label_height)
    fill = class_colour(detection.class_id)
    cv2.rectangle(canvas, (x, y), (x + text_width + 2 * margin, y + label_height), fill, cv2.FILLED)
    bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > DARK_INK_LUMA
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(canvas, text, (x + margin, y + margin + text_height), FONT, scale, ink, thickness, cv2.LINE_AA)
