"""Rotation, zoom, shear, perspective and shift in one warp, as the later YOLOs' programs make it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.steps import DrawContext, ImageStep, LoadedImage, Recipe, Sample, Size
from darknet_py.data.truths import OUTSIDE, Polygons, outlined
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

GREY = (114, 114, 114, 114)
EPS = 1e-16
POINTS = 1000  # of a polygon, on its way through a warp


class Limits(NamedTuple):
    """Which boxes stay: both sides over `side` pixels, the longer one under `aspect` times the shorter one, and more
    than the fraction `area` of what the zoom alone would make of the box, or `polygon_area` if it is a polygon's."""

    side: float = 2.0
    aspect: float = 100.0
    area: float = 0.1
    polygon_area: float = 0.01


class DrawnWarp(NamedTuple):
    """Of an image of `size` to one of `result` (width, height), pixels.

    angle, shear: degrees. zoom: a factor. shift: where the middle of the image goes, fractions of the result; of YOLOX,
    where its left top goes. perspective: the matrix's lowest row.
    """

    size: Size
    result: Size
    angle: float = 0.0
    zoom: float = 1.0
    shear: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.5, 0.5)
    perspective: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Warp(ImageStep):
    """An image, or a mosaic, comes to the network's size: turned within ±angle degrees, zoomed by a factor of `zoom`
    (lowest, highest), sheared within ±shear degrees along both axes, put into perspective within ±perspective, and
    shifted within ±shift of the network's size.

    limits: the boxes that stay; None: all that are cut at the borders.
    """

    angle: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    shift: float = 0.0
    perspective: float = 0.0
    limits: Limits | None = field(default_factory=Limits)
    middle: float = 0.5  # the shift without a shift

    def draw(self, context: DrawContext, dice: Dice) -> DrawnWarp:
        place = dice.place
        perspective = place.uniform(-self.perspective, self.perspective, 2).tolist()
        angle, zoom = place.uniform(-self.angle, self.angle), dice.zoom.uniform(*self.zoom)
        shear = place.uniform(-self.shear, self.shear, 2).tolist()
        shift = place.uniform(self.middle - self.shift, self.middle + self.shift, 2).tolist()
        return DrawnWarp(context.size, context.net_size, angle, zoom, tuple(shear), tuple(shift), tuple(perspective))

    def matrix(self, drawn: DrawnWarp) -> NDArray[np.float64]:
        """(3, 3): from the image's pixels to the result's."""
        turn = np.eye(3)
        turn[:2] = cv2.getRotationMatrix2D(angle=drawn.angle, center=(0, 0), scale=drawn.zoom)
        across, down = (math.tan(math.radians(angle)) for angle in drawn.shear)
        shear = np.array([[1, across, 0], [down, 1, 0], [0, 0, 1]])
        perspective, centre, shift = np.eye(3), np.eye(3), np.eye(3)
        perspective[2, :2] = drawn.perspective
        centre[:2, 2] = -np.array(drawn.size) / 2
        shift[:2, 2] = np.array(drawn.shift) * drawn.result
        result: NDArray[np.float64] = shift @ shear @ turn @ perspective @ centre
        return result

    def move(self, boxes: Rows, drawn: DrawnWarp) -> Rows:
        """A box becomes the one around its four corners, cut at the borders."""
        half = boxes[:, 2:].astype(np.float64) / 2
        corners = np.stack((boxes[:, :2] - half, boxes[:, :2] + half), 1)  # (n, 2, 2): left top, right bottom
        points = self.moved(np.stack((corners[:, (0, 1, 0, 1), 0], corners[:, (0, 1, 1, 0), 1]), 2), drawn)
        low, high = points.min(1).clip(0, drawn.result), points.max(1).clip(0, drawn.result)
        return self._boxes(low, high, boxes, drawn, self.limits)

    def move_outlined(self, boxes: Rows, polygons: Polygons, drawn: DrawnWarp) -> Rows:
        """The box of a polygon becomes the one around those of its points that are seen; others move as in `move`.

        polygons: of equally many points, as `Resampled` makes them.
        """
        after = self.move(boxes, drawn)
        numbers = outlined(polygons)
        if not len(numbers):
            return after
        points = self.moved(np.stack([polygons[number] for number in numbers]), drawn)
        seen = ((points >= 0) & (points <= drawn.result)).all(2, keepdims=True)
        high = points.max(1, where=seen, initial=0)
        low = np.minimum(points.min(1, where=seen, initial=np.inf), high)  # none is seen: 0, 0
        limits = self.limits and self.limits._replace(area=self.limits.polygon_area)
        after[numbers] = self._boxes(low, high, boxes[numbers], drawn, limits)
        return after

    def moved(self, points: NDArray[np.floating[Any]], drawn: DrawnWarp) -> NDArray[np.float64]:
        """(…, 2) points, fractions of the image → pixels of the result."""
        homogeneous = np.pad(points * drawn.size, [(0, 0)] * (points.ndim - 1) + [(0, 1)], constant_values=1)
        warped = homogeneous @ self.matrix(drawn).T
        result: NDArray[np.float64] = warped[..., :2] / warped[..., 2:]
        return result

    def _boxes(
        self, low: NDArray[np.float64], high: NDArray[np.float64], before: Rows, drawn: DrawnWarp, limits: Limits | None
    ) -> Rows:
        """(n, 4) boxes of corners in pixels of the result, within limits."""
        after = np.concatenate(((low + high) / 2, high - low), 1) / (drawn.result * 2)
        if limits is not None:
            zoomed = before[:, 2:].astype(np.float64) * drawn.size * drawn.zoom
            after[~stays(zoomed, high - low, limits)] = OUTSIDE
        return after.astype(np.float32)

    def resized(self, size: Size, drawn: DrawnWarp) -> Size:
        return drawn.result

    def apply(self, image: Image, drawn: DrawnWarp, truths: Rows, rng: np.random.Generator) -> Image:
        matrix, channels = self.matrix(drawn), image.shape[2]
        if drawn.size == drawn.result and np.array_equal(matrix, np.eye(3)):
            return image
        if any(drawn.perspective):
            warped = cv2.warpPerspective(image, matrix, dsize=drawn.result, borderValue=GREY)
        else:
            warped = cv2.warpAffine(image, matrix[:2], dsize=drawn.result, borderValue=GREY)
        return warped.reshape(drawn.result[1], drawn.result[0], channels)


@dataclass(frozen=True)
class Warped:
    """A recipe: the samples of another one are warped; of truths that have polygons, these are."""

    of: Recipe
    warp: Warp

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        made = self.of(images, net_size, rng)
        height, width = made.image.shape[:2]
        drawn = self.warp.draw(DrawContext((width, height), net_size, made.truths[:, :4]), Dice.of(rng))
        return warped(made, self.warp, drawn, rng)


def warped(made: Sample, warp: Warp, drawn: DrawnWarp, rng: np.random.Generator) -> Sample:
    """The sample as drawn; its truths have no polygons any more."""
    moved = warp.move_outlined(made.truths[:, :4], made.polygons, drawn)
    truths = np.concatenate((moved, made.truths[:, 4:]), 1)[(moved != OUTSIDE).any(1)]
    return Sample(warp.apply(made.image, drawn, truths, rng), truths, made.path)


@dataclass(frozen=True)
class Resampled:
    """A recipe: the polygons of another one's samples get so many points that these are warped in their place."""

    of: Recipe

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        return with_points(self.of(images, net_size, rng))


def with_points(made: Sample) -> Sample:
    """A sample whose polygons have `POINTS` points each."""
    numbers = outlined(made.polygons)
    if not len(numbers):
        return made
    polygons = list(made.polygons)
    for number, points in zip(numbers, resampled([polygons[k] for k in numbers], POINTS), strict=True):
        polygons[number] = points
    return made._replace(polygons=polygons)


def resampled(polygons: Polygons, count: int) -> NDArray[np.float32]:
    """(n, count, 2): so many points of each polygon, the first corner at both ends, evenly spread over the number of
    its sides, whatever their lengths."""
    closed = np.concatenate([np.concatenate((polygon, polygon[:1])) for polygon in polygons]).astype(np.float64)
    sides = np.array([len(polygon) for polygon in polygons])[:, None]
    first = np.cumsum(sides + 1)[:, None] - sides - 1
    at = np.linspace(0, 1, count) * sides
    corner = np.minimum(at.astype(np.intp), sides - 1)
    part = (at - corner)[..., None]
    points = closed[first + corner] * (1 - part) + closed[first + corner + 1] * part
    return points.astype(np.float32)


@dataclass(frozen=True)
class CornerWarp(Warp):
    """YOLOX's: about the left top corner, each axis sheared by the other one, the shift a fraction of the result; boxes
    are cut, and all stay."""

    limits: Limits | None = None
    middle: float = 0.0

    def matrix(self, drawn: DrawnWarp) -> NDArray[np.float64]:
        turn = cv2.getRotationMatrix2D(angle=drawn.angle, center=(0, 0), scale=drawn.zoom)
        across, down = (math.tan(math.radians(angle)) for angle in drawn.shear)
        result = np.eye(3)
        result[0], result[1] = (*(turn[0] + down * turn[1])[:2], 0), (*(turn[1] + across * turn[0])[:2], 0)
        result[:2, 2] = np.array(drawn.shift) * drawn.result
        return result


@dataclass(frozen=True)
class Over(ImageStep):
    """Boxes whose sides are not both over `side` pixels are left out; the image stays."""

    side: float

    def draw(self, context: DrawContext, dice: Dice) -> Size:
        return context.size

    def move(self, boxes: Rows, drawn: Size) -> Rows:
        return np.where((boxes[:, 2:] * drawn > self.side).all(1, keepdims=True), boxes, OUTSIDE)

    def apply(self, image: Image, drawn: Size, truths: Rows, rng: np.random.Generator) -> Image:
        return image


def stays(before: NDArray[np.float64], after: NDArray[np.float64], limits: Limits) -> NDArray[np.bool_]:
    """(n, 2) widths and heights before (zoomed) and after, pixels → (n,) bool, which boxes stay."""
    aspect = np.maximum(after[:, 0] / (after[:, 1] + EPS), after[:, 1] / (after[:, 0] + EPS))
    area = after.prod(1) / (before.prod(1) + EPS)
    return (after > limits.side).all(1) & (area > limits.area) & (aspect < limits.aspect)
