"""Detections drawn onto an image: boxes and labels that can be read, whatever the image's size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.pictures.colours import class_colour
from darknet_py.pictures.read import Image

FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST = 7  # pixels of a letter's height that can still be read
DARK_INK_LUMA = 140  # of a label's background, 0..255; above it the text is black, below it white
MOST_LABELS = 200  # of the most confident objects; more could not be read
MOST_COVERED = 0.1  # of a label that would cover more confident ones by more than this, nothing is drawn


class Drawable(Protocol):
    """What is drawn of a detection; box: left, top, right, bottom in pixels."""

    @property
    def class_id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...


class Style(NamedTuple):
    """How detections are drawn.

    line_width: of the boxes; font_size: height of the letters; pixels, None: they fit the image's size.
    labels: the name and confidence of each object. boxes: without them, nothing is drawn.
    """

    line_width: int | None = None
    font_size: int | None = None
    labels: bool = True
    boxes: bool = True


class Label(NamedTuple):
    """A text and its size in pixels: with its margin, and without."""

    text: str
    width: int
    height: int
    margin: int
    above: int
    scale: float
    thickness: int


def draw(image: Image, detections: Iterable[Drawable], style: Style = Style()) -> Image:  # noqa: B008
    """A copy of the image, uint8 RGB, with a box and `name 0.88` for each detection, the most confident on top.

    A label lies above its box, or where it covers none of a more confident object; one that fits nowhere is left out.
    """
    canvas = as_bytes(image)
    ordered = sorted(detections, key=lambda detection: -detection.confidence) if style.boxes else []
    if not ordered:
        return canvas
    height, width = canvas.shape[:2]
    unit = max(1.0, (height * width) ** 0.5 / 400)  # grows with the image
    line = style.line_width or (1 if max(height, width) < 200 else max(2, round(1.6 * unit)))
    limits = np.array([width - 1, height - 1] * 2)
    boxes = np.nan_to_num(np.array([detection.box for detection in ordered], float)).clip(0, limits).astype(int)
    for detection, box in zip(ordered[::-1], boxes[::-1].tolist(), strict=True):
        cv2.rectangle(canvas, box[:2], box[2:], class_colour(detection.class_id), line, cv2.LINE_AA)
    if style.labels:
        letters = style.font_size or max(SMALLEST, min(round(9 * unit), max(height, width) // 24))
        taken = np.empty((0, 4), int)
        placed = []
        for detection, box in zip(ordered[:MOST_LABELS], boxes, strict=False):
            label = _fitted(detection, letters, unit, width, height)
            place = label and _place(label, box, taken, width, height)
            if label and place:
                taken = np.vstack((taken, (*place, place[0] + label.width, place[1] + label.height)))
                placed.append((label, place, class_colour(detection.class_id)))
        for label, place, colour in reversed(placed):
            _write(canvas, label, place, colour)
    return canvas


def as_bytes(image: Image) -> Image:
    """Any image as a fresh uint8 RGB one."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    return np.array(image, order="C")


def _fitted(detection: Drawable, letters: int, unit: float, width: int, height: int) -> Label | None:
    """Name and confidence, or the name alone, in letters that fit the image and leave most of it free; None: not even
    the smallest do."""
    for text in (f"{detection.name} {detection.confidence:.2f}", detection.name):
        for size in (letters, *range(letters - 1, SMALLEST - 1, -1)):
            thickness = max(1, round(size / 13))
            scale = cv2.getFontScaleFromHeight(FONT, size, thickness)
            (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
            margin = max(1, round(unit)) if size < 9 else max(2, round(unit))
            label = Label(
                text, text_width + 2 * margin, text_height + below + 2 * margin, margin, text_height, scale, thickness
            )
            if label.width <= width and 2 * label.height <= height and 6 * label.height <= max(width, height):
                return label
    return None


def _place(
    label: Label, box: NDArray[np.int_], taken: NDArray[np.int_], width: int, height: int
) -> tuple[int, int] | None:
    """The upper left corner where a label covers least of the others: above its box, else inside, below, beside it."""
    left, top, right, bottom = box
    rows = [top - label.height, top] if top >= label.height else [top]
    rows += [bottom - label.height, *range(top + label.height, bottom - label.height, label.height), bottom]
    columns = [left, right - label.width, right, left - label.width]
    places = np.array([(x, y) for x in columns for y in rows]).clip(0, (width - label.width, height - label.height))
    if not len(taken):
        return int(places[0, 0]), int(places[0, 1])
    corners = np.hstack((places, places + np.array((label.width, label.height))))[:, None]
    common = np.minimum(corners[..., 2:], taken[:, 2:]) - np.maximum(corners[..., :2], taken[:, :2])
    covered = common.clip(0).prod(2).sum(1)
    best = int(covered.argmin())
    if covered[best] > MOST_COVERED * label.width * label.height:
        return None
    return int(places[best, 0]), int(places[best, 1])


def _write(canvas: Image, label: Label, place: tuple[int, int], fill: tuple[int, int, int]) -> None:
    x, y = place
    cv2.rectangle(canvas, place, (x + label.width - 1, y + label.height - 1), fill, cv2.FILLED)
    bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > DARK_INK_LUMA
    ink = (0, 0, 0) if bright else (255, 255, 255)
    start = (x + label.margin, y + label.margin + label.above)
    cv2.putText(canvas, label.text, start, FONT, label.scale, ink, label.thickness, cv2.LINE_AA)
