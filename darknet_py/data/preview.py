"""A mini-batch as one image with its boxes, to look at what augmentation does."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from darknet_py.data.samples import ImageBatch
from darknet_py.data.truths import TRUTH_SIZE
from darknet_py.layers.needs import Rows
from darknet_py.pictures.colours import class_colour
from darknet_py.pictures.levels import Levels
from darknet_py.pictures.read import Image

BACKGROUND = 127
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
LABEL_COLOUR = (255, 255, 0)
DARKNETS = Levels()
MAX_LABELS = 4  # of a class vector, the most probable first


def preview(batch: ImageBatch, names: Sequence[str], *, levels: Levels = DARKNETS, columns: int | None = None) -> Image:
    """The images of a mini-batch side by side, with their boxes (or a classifier's classes): (height, width, 3) uint8
    RGB.

    names: of the classes. levels: how the images became values. columns: images in a row; None: as many as rows, or one
    more. Truths in any other form are not shown.
    """
    count, _, height, width = batch.images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    images = levels.bytes_of_values(batch.images)[..., :3].cpu().numpy()
    result = np.full((-(-count // columns) * height, columns * width, 3), BACKGROUND, np.uint8)
    for k, truth in enumerate(batch.truths.cpu().numpy()):
        canvas = np.ascontiguousarray(np.broadcast_to(images[k], (height, width, 3)))
        if truth.ndim == 2 and truth.shape[1] >= TRUTH_SIZE:
            _draw_boxes(canvas, truth[: int(np.flatnonzero(np.append(truth[:, 0], 0) == 0)[0])], names)
        elif truth.ndim == 1 and len(truth) == len(names):
            _draw_classes(canvas, truth, names)
        top, left = k // columns * height, k % columns * width
        result[top : top + height, left : left + width] = canvas
    return result


def _draw_classes(canvas: Image, classes: Rows, names: Sequence[str]) -> None:
    best = [index for index in np.argsort(-classes)[:MAX_LABELS] if classes[index] > 0]
    for line, index in enumerate(best, 1):
        text = f"{names[index]} {classes[index]:.2f}"
        cv2.putText(canvas, text, (4, 16 * line), FONT, FONT_SCALE, LABEL_COLOUR, 1, cv2.LINE_AA)


def _draw_boxes(canvas: Image, rows: Rows, names: Sequence[str]) -> None:
    size = np.tile(np.array(canvas.shape[1::-1]), 2)
    corners = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2), 1) * size
    labels = rows[:, 4].astype(int).tolist()
    for (left, top, right, bottom), label in zip(corners.round().astype(int).tolist(), labels, strict=True):
        colour = class_colour(label)
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, 2)
        name = names[label] if label < len(names) else str(label)
        cv2.putText(canvas, name, (left + 2, max(top - 3, 12)), FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
