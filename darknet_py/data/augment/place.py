"""Where the network's input lies in the image: jitter, zoom, letter_box and flip (Darknet: data.c:load_data_detection,
image_opencv.cpp:image_data_augmentation). Detectors with Darknet's augmentation begin with this step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.steps import DrawContext, ImageStep, Size
from darknet_py.data.truths import OUTSIDE
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image


@dataclass(frozen=True)
class DrawnCrop:
    """Where the network's input lies in an image.

    size: (width, height) of the image. net_size: of the network's input. pleft, pright, ptop, pbot: pixels of the image
    cut off at each side; negative: added. flip: mirrored, after the crop. What was drawn may leave nothing of the
    image; see `possible`.
    """

    size: Size
    net_size: Size
    pleft: int = 0
    pright: int = 0
    ptop: int = 0
    pbot: int = 0
    flip: bool = False

    @property
    def swidth(self) -> int:
        """Width of the crop, pixels of the image."""
        return self.size[0] - self.pleft - self.pright

    @property
    def sheight(self) -> int:
        """Height of the crop, pixels of the image."""
        return self.size[1] - self.ptop - self.pbot

    def possible(self) -> DrawnCrop:
        """The crop that is made: this one, or the whole image where nothing would be left of it."""
        width, height = self.size
        if min(self.swidth, self.sheight, width - self.pleft, height - self.ptop) > 0:
            return self
        return replace(self, pleft=0, pright=0, ptop=0, pbot=0)


@dataclass(frozen=True)
class JitterCrop(ImageStep):
    """Each side of the image moves by up to `jitter` of its size, outwards or inwards.

    resize: left and top, and right and bottom, move by a common part of what a zoom by up to this factor takes or adds
    at each side (under 1 it only adds). letter_box: sides move outwards until the crop has the network's proportions.
    flip: half of the images are mirrored.
    """

    jitter: float = 0.0
    resize: float = 1.0
    letter_box: bool = False
    flip: bool = True

    def draw(self, context: DrawContext, dice: Dice) -> DrawnCrop:
        width, height = context.size
        zoom_1, zoom_2 = dice.zoom.random(2, np.float32).tolist()
        left, right, top, bottom = dice.place.random(4, np.float32).tolist()
        flip = self.flip and bool(dice.place.integers(2))
        pleft, pright = self._cut_off(width, (left, right), (zoom_1, zoom_2))
        ptop, pbot = self._cut_off(height, (top, bottom), (zoom_1, zoom_2))
        if self.letter_box:
            net_w, net_h = context.net_size
            if width * net_h > height * net_w:  # wider than the network
                margin = (width * net_h / net_w - height) / 2
                ptop, pbot = int(ptop - margin), int(pbot - margin)
            else:
                margin = (height * net_w / net_h - width) / 2
                pleft, pright = int(pleft - margin), int(pright - margin)
        return DrawnCrop(context.size, context.net_size, pleft, pright, ptop, pbot, flip)

    def _cut_off(self, length: int, jitter: tuple[float, float], zoom: tuple[float, float]) -> tuple[int, int]:
        """What is cut off at both ends of a side, pixels, of fractions 0..1 of the ranges; in float32, and towards 0,
        as in C."""
        one = np.float32(1)
        maximum = int(np.float32(length) * np.float32(self.jitter))
        down, up = sorted((np.float32(self.resize), one / np.float32(self.resize)))
        low = int(np.float32(length) * (one - one / down) / 2)  # <= 0
        high = 0 if self.resize < 1 else int(np.float32(length) * (one - one / up) / 2)
        first, last = (
            int(int(shift * 2 * maximum - maximum) + (scale * (high - low) + low))
            for shift, scale in zip(jitter, zoom, strict=True)
        )
        return first, last

    def move(self, boxes: Rows, drawn: DrawnCrop) -> Rows:
        """Boxes are cut at the borders (data.c:correct_boxes); those that lay nowhere in the image, or at 0, 0, go
        OUTSIDE."""
        drawn = drawn.possible()
        centre, half = boxes[:, :2], boxes[:, 2:] / np.float32(2)
        corners = np.stack((centre - half, centre + half))  # (2, n, 2): left top, right bottom
        wrong = (centre == 0).all(1) | (corners[1] < 0).any(1) | (corners[0] > 1).any(1)
        scale = np.array([drawn.swidth, drawn.sheight], np.float32) / np.array(drawn.size, np.float32)
        shift = np.array([drawn.pleft, drawn.ptop], np.float32) / np.array(drawn.size, np.float32) / scale
        corners = corners * (np.float32(1) / scale) - shift
        if drawn.flip:
            corners[:, :, 0] = 1 - corners[::-1, :, 0]
        left_top, right_bottom = corners.clip(0, 1)
        moved = np.concatenate(((left_top + right_bottom) / 2, right_bottom - left_top), 1, dtype=np.float32)
        moved[wrong] = OUTSIDE
        return moved

    def resized(self, size: Size, drawn: DrawnCrop) -> Size:
        return drawn.net_size

    def apply(self, image: Image, drawn: DrawnCrop, truths: Rows, rng: np.random.Generator) -> Image:
        """Crop, resize by OpenCV, mirror; of the same dtype."""
        image = crop(image, drawn.possible())
        return cv2.flip(image, 1).reshape(image.shape) if drawn.flip else image


@dataclass(frozen=True)
class Flip(ImageStep):
    """The image is mirrored with a probability. down: top to bottom, otherwise left to right."""

    probability: float
    down: bool = False

    def draw(self, context: DrawContext, dice: Dice) -> bool:
        return bool(dice.place.random() < self.probability)

    def move(self, boxes: Rows, drawn: bool) -> Rows:
        if not drawn:
            return boxes
        moved = boxes.copy()
        axis = int(self.down)
        moved[:, axis] = np.where(boxes[:, axis] == OUTSIDE, OUTSIDE, 1 - boxes[:, axis])
        return moved

    def apply(self, image: Image, drawn: bool, truths: Rows, rng: np.random.Generator) -> Image:
        return cv2.flip(image, int(not self.down)).reshape(image.shape) if drawn else image


def crop(image: Image, drawn: DrawnCrop) -> Image:
    """Cut, or set into its own mean colour, as drawn, and resized by OpenCV to the network's input; of the same dtype.

    Darknet without OpenCV repeats the border pixels instead, and resizes corner to corner.
    """
    (width, height), channels = drawn.size, image.shape[2]
    left, top = max(drawn.pleft, 0), max(drawn.ptop, 0)
    right, bottom = min(width - drawn.pright, width), min(height - drawn.pbot, height)
    if right <= left or bottom <= top:  # nothing of the image is left
        inner = np.full((drawn.sheight, drawn.swidth, channels), cv2.mean(image)[:channels])
        inner = (np.rint(inner) if image.dtype.kind == "u" else inner).astype(image.dtype)
    else:
        inner = image[top:bottom, left:right]
        above, below, before, after = (max(-side, 0) for side in (drawn.ptop, drawn.pbot, drawn.pleft, drawn.pright))
        if above or below or before or after:
            inner = cv2.copyMakeBorder(inner, above, below, before, after, cv2.BORDER_CONSTANT, value=cv2.mean(image))
    net_w, net_h = drawn.net_size
    return cv2.resize(inner, (net_w, net_h), interpolation=cv2.INTER_LINEAR).reshape(net_h, net_w, channels)
