"""A classifier's images are turned, cropped to a square, mirrored, and resized to the network's input.

Darknet: image.c:random_augment_image, rotate_crop_image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from darknet_py.data.augment.dice import Dice, rand_int, rand_scale
from darknet_py.data.augment.steps import DrawContext, ImageStep, Size
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import resize


@dataclass(frozen=True)
class DrawnTurn:
    """Which square of an image is seen, and how it is turned. rad: rotation.

    scale: pixels of the crop per pixel of the image, vertically; horizontally it is divided by `aspect`. dx, dy: the
    crop's centre from the image's, pixels of the crop. side: of the crop, pixels. flip: mirrored, after the crop.
    """

    rad: float
    scale: float
    aspect: float
    dx: float
    dy: float
    side: int
    flip: bool = False


@dataclass(frozen=True)
class TurnCrop(ImageStep):
    """The short side of the image, its proportions changed by up to `aspect`, becomes min_crop..max_crop pixels; of
    that, turned by up to `angle` degrees, a square of the network's longer side is taken, from anywhere. With `center`
    it is the largest in the middle."""

    net: NetOptions

    def draw(self, context: DrawContext, dice: Dice) -> DrawnTurn:
        net, rng, (width, height) = self.net, dice.rest, context.size
        side = max(context.net_size)
        low = net.width if net.min_crop is None else net.min_crop
        high = 2 * net.width if net.max_crop is None else net.max_crop
        if net.min_ratio is not None:
            low = int(net.min_ratio * side)
        if net.max_ratio is not None:
            high = int(net.max_ratio * side)
        aspect = rand_scale(net.aspect, rng)
        scale = rand_int(low, high, rng) / max(1, int(min(height, width * aspect)))
        rad = math.radians(rng.uniform(-abs(net.angle), abs(net.angle)))
        room_x, room_y = max(0.0, (width * scale / aspect - side) / 2), max(0.0, (height * scale - side) / 2)
        dx, dy = rng.uniform(-room_x, room_x), rng.uniform(-room_y, room_y)
        flip = bool(net.flip) and bool(rng.integers(2))
        if net.center:
            return DrawnTurn(0.0, side / min(width, height), 1.0, 0.0, 0.0, side, flip)
        return DrawnTurn(rad, scale, aspect, dx, dy, side, flip)

    def resized(self, size: Size, drawn: DrawnTurn) -> Size:
        return drawn.side, drawn.side

    def apply(self, image: Image, drawn: DrawnTurn, truths: Rows, rng: np.random.Generator) -> Image:
        """The crop is OpenCV's warpAffine, black outside, in the image's own dtype: of 8 bits, within 2/255 of
        image.c:rotate_crop_image, which computes in floating point."""
        height, width, channels = image.shape
        across, down = drawn.aspect / drawn.scale, 1 / drawn.scale
        turn = np.array([[math.cos(drawn.rad), -math.sin(drawn.rad)], [math.sin(drawn.rad), math.cos(drawn.rad)]])
        matrix = turn * np.array([across, down])
        corner = np.array([drawn.dx - drawn.side / 2, drawn.dy - drawn.side / 2])
        origin = matrix @ corner + (width / 2, height / 2)
        crop_to_image = np.concatenate((matrix, origin[:, None]), 1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(image, crop_to_image, (drawn.side, drawn.side), flags=flags)
        crop = crop.reshape(drawn.side, drawn.side, channels)
        return crop[:, ::-1] if drawn.flip else crop


@dataclass(frozen=True)
class ResizeToNetwork(ImageStep):
    """Darknet's resize to the network's input, corner to corner; float32 in 0..1. Drawn: its (width, height)."""

    def draw(self, context: DrawContext, dice: Dice) -> Size:
        return context.net_size

    def resized(self, size: Size, drawn: Size) -> Size:
        return drawn

    def apply(self, image: Image, drawn: Size, truths: Rows, rng: np.random.Generator) -> Image:
        return resize(image, *drawn)
