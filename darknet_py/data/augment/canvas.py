"""The mosaics of the later YOLOs: four or nine images on a canvas twice as large as the network's input, of which a
warp then shows a part; and one image alone, fitted into the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.steps import DrawContext, ImageStep, LoadedImage, Recipe, Sample, Size
from darknet_py.data.truths import NO_POLYGON, TRUTH_SIZE, Polygons
from darknet_py.layers.needs import Rows
from darknet_py.pictures.fit import FITS, Fit
from darknet_py.pictures.levels import WHITE
from darknet_py.pictures.read import Image

Point = tuple[int, int]  # (x, y), pixels


class DrawnInside(NamedTuple):
    """size: (width, height) of the result. stretch: what boxes are scaled by, as fractions of the image."""

    size: Size
    stretch: tuple[float, float]


@dataclass(frozen=True)
class Inside(ImageStep):
    """The image comes to the largest size inside the network's input, its aspect ratio kept.

    whole: from a size in pixels to a whole number. exact: boxes are scaled as if the sizes had not been made whole
    (YOLOX).
    """

    whole: Callable[[float], int] = int
    exact: bool = False

    def draw(self, context: DrawContext, dice: Dice) -> DrawnInside:
        (width, height), (net_width, net_height) = context.size, context.net_size
        ratio = min(net_width / width, net_height / height)
        inner_width = min(max(self.whole(width * ratio), 1), net_width)
        inner_height = min(max(self.whole(height * ratio), 1), net_height)
        stretch = (width * ratio / inner_width, height * ratio / inner_height) if self.exact else (1.0, 1.0)
        return DrawnInside((inner_width, inner_height), stretch)

    def move(self, boxes: Rows, drawn: DrawnInside) -> Rows:
        return boxes * np.array(drawn.stretch * 2, np.float32)

    def resized(self, size: Size, drawn: DrawnInside) -> Size:
        return drawn.size

    def apply(self, image: Image, drawn: DrawnInside, truths: Rows, rng: np.random.Generator) -> Image:
        if image.shape[1::-1] == drawn.size:
            return image
        small = cv2.resize(image, drawn.size, interpolation=cv2.INTER_LINEAR)
        return small.reshape(drawn.size[1], drawn.size[0], image.shape[2])


@dataclass(frozen=True)
class Fitted(ImageStep):
    """The image comes into the network's input as it does in detection."""

    fit: Fit = field(default_factory=lambda: FITS["yolov5"])

    def draw(self, context: DrawContext, dice: Dice) -> tuple[Size, Size]:
        return context.size, context.net_size

    def move(self, boxes: Rows, drawn: tuple[Size, Size]) -> Rows:
        inner, bars = self.fit.fractions(drawn[:1], drawn[1])
        return np.concatenate((boxes[:, :2] * inner + bars, boxes[:, 2:] * inner), 1)

    def resized(self, size: Size, drawn: tuple[Size, Size]) -> Size:
        return drawn[1]

    def apply(self, image: Image, drawn: tuple[Size, Size], truths: Rows, rng: np.random.Generator) -> Image:
        return self.fit(image, *drawn[1])


@dataclass(frozen=True)
class CanvasMosaic:
    """A recipe: four samples of another one in one, twice as wide and high as the network's input.

    shuffled: the first sample lies anywhere (YOLOv5, v6), not always above on the left.
    """

    of: Recipe
    max_truths: int
    shuffled: bool = False

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        point = int(rng.uniform(0.5, 1.5) * net_size[0]), int(rng.uniform(0.5, 1.5) * net_size[1])
        tiles = [self.of(images, net_size, rng) for _ in range(4)]
        order = rng.permutation(4) if self.shuffled else range(4)
        made = around([tiles[number] for number in order], point, net_size)
        return first_truths(made, self.max_truths)._replace(path=tiles[0].path)


@dataclass(frozen=True)
class SpiralMosaic:
    """A recipe: nine samples of another one around the first, of which a part twice as wide and high as the network's
    input is seen."""

    of: Recipe
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        tiles = [self.of(images, net_size, rng) for _ in range(9)]
        corner = int(rng.random() * net_size[0]), int(rng.random() * net_size[1])
        return first_truths(in_spiral(tiles, corner, net_size), self.max_truths)


def first_truths(made: Sample, count: int) -> Sample:
    return made._replace(truths=made.truths[:count], polygons=made.polygons[:count])


def around(tiles: Sequence[Sample], point: Point, net_size: Size) -> Sample:
    """Four samples around a point of the canvas, each with a corner at it: 0 and 1 above, 2 and 3 below."""
    sizes = [size_of(tile) for tile in tiles]
    origins = [
        (point[0] - width * (number % 2 == 0), point[1] - height * (number < 2))
        for number, (width, height) in enumerate(sizes)
    ]
    return laid(tiles, origins, net_size)


def in_spiral(tiles: Sequence[Sample], corner: Point, net_size: Size) -> Sample:
    """Nine samples: the first one's left top lies at the network's size, the others go around it, clockwise from above
    its left side. corner: where the canvas begins."""
    (width, height), sizes = net_size, [size_of(tile) for tile in tiles]
    right, below = width + sizes[0][0], height + sizes[0][1]
    before = [(0, 0), *sizes]
    origins = [
        (
            (width, height), (width, height - h), (width + wp, height - h),
            (right, height), (right, height + hp), (right - w, below),
            (right - wp - w, below), (width - w, below - h), (width - w, below - hp - h),
        )[number]
        for number, ((w, h), (wp, hp)) in enumerate(zip(sizes, before, strict=False))
    ]  # fmt: skip
    return laid(tiles, [(x - corner[0], y - corner[1]) for x, y in origins], net_size)


def size_of(tile: Sample) -> Size:
    height, width = tile.image.shape[:2]
    return width, height


def laid(tiles: Sequence[Sample], origins: Sequence[Point], net_size: Size) -> Sample:
    """Samples with their left tops at places of a canvas twice the network's size, later ones over earlier ones.

    What reaches beyond the canvas is cut off, pixels, boxes and polygons. The rest is grey 114. Of boxes that are cut
    off whole, something without a width or a height is left, which a warp leaves out.
    """
    canvas = (2 * net_size[0], 2 * net_size[1])
    dtype = np.result_type(*(tile.image for tile in tiles))
    level = 114 * (WHITE.get(dtype, 1.0) / 255)
    picture = np.full((canvas[1], canvas[0], tiles[0].image.shape[2]), level, dtype)
    rows = [np.empty((0, TRUTH_SIZE), np.float32)]
    for tile, (x, y) in zip(tiles, origins, strict=True):
        width, height = size_of(tile)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, canvas[0]), min(y + height, canvas[1])
        if left < right and top < bottom:
            picture[top:bottom, left:right] = tile.image[top - y : bottom - y, left - x : right - x]
        rows.append(on_canvas(tile.truths, (width, height), (x, y), canvas))
    return Sample(picture, np.concatenate(rows), tiles[0].path, polygons=polygons_on_canvas(tiles, origins, canvas))


def on_canvas(rows: Rows, size: Size, origin: Point, canvas: Size) -> Rows:
    """(m, 6) truths of an image of a size, put on the canvas at a place, and cut at its borders."""
    centre, half = rows[:, :2] * size + origin, rows[:, 2:4] * size / 2
    low, high = (centre - half).clip(0, canvas), (centre + half).clip(0, canvas)
    moved = np.concatenate(((low + high) / 2 / canvas, (high - low) / canvas, rows[:, 4:]), 1)
    return moved.astype(np.float32)


def polygons_on_canvas(tiles: Sequence[Sample], origins: Sequence[Point], canvas: Size) -> Polygons:
    """The polygons of all tiles, cut in the same way; (): none of them has any."""
    if not any(tile.polygons for tile in tiles):
        return ()
    return [
        ((polygon * size_of(tile) + origin).clip(0, canvas) / canvas).astype(np.float32)
        for tile, origin in zip(tiles, origins, strict=True)
        for polygon in tile.polygons or [NO_POLYGON] * len(tile.truths)
    ]
