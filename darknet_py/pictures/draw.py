"""Detections onto a picture: boxes and labels that can be read, whatever the picture's size."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from darknet_py.detections import Detection
from darknet_py.pictures.colours import class_colour
from darknet_py.pictures.images import Picture

FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST = 320  # pixels of the longer side; a smaller picture is enlarged for drawing, as no label would fit on it


def draw(picture: Picture, detections: Iterable[Detection]) -> Picture:
    """A copy of the picture, uint8 RGB, with a box and `name 0.88` for each detection, the surest on top."""
    canvas = as_bytes(picture)
    factor = -(-SMALLEST // max(canvas.shape[:2])) if max(canvas.shape[:2]) < SMALLEST else 1
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    ordered = sorted(detections, key=lambda one: one.confidence)
    for one in ordered:
        _box(canvas, one, factor)
    for one in ordered:
        _label(canvas, one, factor)
    return canvas


def as_bytes(picture: Picture) -> Picture:
    """Any picture as a fresh uint8 RGB one."""
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    elif picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    picture = np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture[..., :3]
    return np.array(picture, order="C")


def _unit(canvas: Picture) -> float:
    """About a line's width: grows with the picture."""
    return max(1.0, (canvas.shape[0] * canvas.shape[1]) ** 0.5 / 400)


def _corners(canvas: Picture, one: Detection, factor: int) -> tuple[int, int, int, int]:
    height, width = canvas.shape[:2]
    limits = (width - 1, height - 1, width - 1, height - 1)
    left, top, right, bottom = (
        int(min(max(value * factor, 0), most)) for value, most in zip(one.box, limits, strict=True)
    )
    return left, top, right, bottom


def _box(canvas: Picture, one: Detection, factor: int) -> None:
    left, top, right, bottom = _corners(canvas, one, factor)
    cv2.rectangle(
        canvas,
        (left, top),
        (right, bottom),
        class_colour(one.class_id),
        max(2, round(1.6 * _unit(canvas))),
        cv2.LINE_AA,
    )


def _label(canvas: Picture, one: Detection, factor: int) -> None:
    """Above the box, or inside it at the upper edge of the picture; moved in where it would leave the picture."""
    left, top, _, _ = _corners(canvas, one, factor)
    height, width = canvas.shape[:2]
    text = f"{one.name} {one.confidence:.2f}"
    unit = _unit(canvas)
    scale, thickness = max(0.42, 0.34 * unit), max(1, round(0.7 * unit))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    if text_width > width:  # a long name on a narrow picture
        scale *= width / text_width
        (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(2, round(unit))
    tall = text_height + below + 2 * margin
    x = max(0, min(left, width - text_width - 2 * margin))
    y = top - tall if top >= tall else min(top, height - tall)
    fill = class_colour(one.class_id)
    cv2.rectangle(canvas, (x, y), (x + text_width + 2 * margin, y + tall), fill, cv2.FILLED)
    dark = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 140
    ink = (0, 0, 0) if dark else (255, 255, 255)
    cv2.putText(canvas, text, (x + margin, y + margin + text_height), FONT, scale, ink, thickness, cv2.LINE_AA)
