"""Objects that are cut out along their polygons and pasted: within a sample, mirrored (YOLOv5 and v8, after Ghiasi et
al., "Simple copy-paste", 2021), or from other images, at random places and sizes (YOLOv7)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.data.augment.canvas import first_truths, size_of
from darknet_py.data.augment.steps import LoadedImage, Recipe, Sample, Size
from darknet_py.data.truths import ImageTruths, outlined
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

COVERED = 0.3  # no object may be covered by this fraction or more
CUTOUTS = 30  # cut out before some of them are pasted
CUT = 0.5  # fraction of a mosaic's objects that are cut out
SCALES = (0.75,) * 2 + (0.5,) * 4 + (0.25,) * 4 + (0.125,) * 4 + (0.0625,) * 6  # of places, fractions of the image
TAKEN = 0.8  # fraction of these places that are tried
SMALLEST_PLACE, SMALLEST_CUTOUT, SMALLEST_AREA = 20, 10, 20  # pixels, which a place, what is pasted, its mask exceed

Place = tuple[int, int, int, int]  # left, top, right, bottom, pixels
Choose = Callable[[Sample, float, np.random.Generator], Iterable[int]]
"""Of a sample, a fraction, and random numbers: the numbers of the truths that are copied."""


@dataclass(frozen=True)
class CopyPaste:
    """A recipe: a fraction of the objects of another one's samples are pasted at their mirrored places."""

    of: Recipe
    choose: Choose
    fraction: float
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        made = self.of(images, net_size, rng)
        return first_truths(copied(made, self.choose(made, self.fraction, rng)), self.max_truths)


class Cutout(NamedTuple):
    """An object and the rectangle around it.

    image: (height, width, channels), 0 outside the object. mask: (height, width) uint8, 255 within. row: of its truth.
    """

    image: Image
    mask: NDArray[np.uint8]
    row: Rows


@dataclass(frozen=True)
class PasteIn:
    """A recipe: with a probability, objects of a third recipe's mosaics are pasted into the samples of another one."""

    of: Recipe
    mosaics: Recipe
    probability: float
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        made = self.of(images, net_size, rng)
        if rng.random() >= self.probability:
            return made
        cutouts: list[Cutout] = []
        while len(cutouts) < CUTOUTS:
            first = next(images)
            if isinstance(first.truths, ImageTruths) and len(first.truths.classes) and not first.truths.polygons:
                break  # a data set of boxes: three more images need not be read
            mosaic = self.mosaics(itertools.chain((first,), images), net_size, rng)
            found = cut_out(mosaic, some(outlined(mosaic.polygons), CUT, rng))
            if not found and not cutouts:
                break
            cutouts += found
        places = drawn_places(net_size, rng)
        return first_truths(pasted(made, cutouts, places, lambda count: int(rng.integers(count))), self.max_truths)


def some(numbers: NDArray[np.intp], fraction: float, rng: np.random.Generator) -> list[int]:
    """A fraction of the numbers, at random."""
    chosen: list[int] = rng.permutation(numbers)[: round(fraction * len(numbers))].tolist()
    return chosen


def those_of_some_that_fit(made: Sample, fraction: float, rng: np.random.Generator) -> list[int]:
    """Of a fraction of the objects, those that can be copied (YOLOv5)."""
    return apart(made, some(outlined(made.polygons), fraction, rng))


def some_of_those_that_fit(made: Sample, fraction: float, rng: np.random.Generator) -> list[int]:
    """A fraction of the objects that can be copied (YOLOv8)."""
    return some(fitting(made), fraction, rng)


def outline(made: Sample, number: int) -> NDArray[np.uint8]:
    """(height, width), 255 within a truth's polygon."""
    size = size_of(made)
    mask = np.zeros(size[::-1], np.uint8)
    corners = (made.polygons[number] * size).astype(np.int32)
    cv2.drawContours(mask, [corners], -1, 255, cv2.FILLED)
    return mask


def corners_of(rows: Rows, size: Size) -> NDArray[np.float64]:
    """(m, ≥ 4) truths → (m, 4) left, top, right, bottom, pixels."""
    centre, half = rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64) / 2
    return np.concatenate((centre - half, centre + half), 1) * (size * 2)


def covers(corners: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n, 4) boxes, (m, 4) others → (n,) whether a box covers `COVERED` of one of the others or more."""
    common = np.minimum(corners[:, None, 2:], others[:, 2:]) - np.maximum(corners[:, None, :2], others[:, :2])
    area = (others[:, 2:] - others[:, :2]).prod(1)
    found: NDArray[np.bool_] = (common.clip(0).prod(2) >= COVERED * (area + 1e-16)).any(1)
    return found


def mirrored(rows: Rows) -> Rows:
    return np.concatenate((1 - rows[:, :1], rows[:, 1:]), 1)


def fitting(made: Sample) -> NDArray[np.intp]:
    """The numbers of the truths with a polygon whose mirrored place covers no object."""
    numbers, size = outlined(made.polygons), size_of(made)
    copies = corners_of(mirrored(made.truths[numbers]), size)
    return numbers[~covers(copies, corners_of(made.truths, size))]


def apart(made: Sample, chosen: Iterable[int]) -> list[int]:
    """The chosen truths whose mirrored place covers no object, nor one copied before."""
    size, rows, found = size_of(made), made.truths, []
    for number in chosen:
        row = mirrored(made.truths[number : number + 1])
        if not covers(corners_of(row, size), corners_of(rows, size))[0]:
            rows = np.concatenate((rows, row))
            found.append(number)
    return found


def copied(made: Sample, chosen: Iterable[int]) -> Sample:
    """A sample with its chosen objects pasted at their mirrored places."""
    numbers = list(chosen)
    if not numbers:
        return made
    mask = np.bitwise_or.reduce([outline(made, number) for number in numbers])[:, ::-1, None] > 0
    image = np.where(mask, made.image[:, ::-1], made.image)
    truths = np.concatenate((made.truths, mirrored(made.truths[numbers])))
    polygons = [*made.polygons, *((made.polygons[number] * (-1, 1) + (1, 0)).astype(np.float32) for number in numbers)]
    return made._replace(image=image, truths=truths, polygons=polygons)


def cut_out(made: Sample, chosen: Iterable[int]) -> list[Cutout]:
    """The chosen objects of a sample, without those of under a pixel."""
    (width, height), found = size_of(made), []
    for number in chosen:
        corners = corners_of(made.truths[number : number + 1], (width, height))[0]
        left, top, right, bottom = corners.astype(int).clip(0, (width - 1, height - 1) * 2).tolist()
        if left < right and top < bottom:
            seen = slice(top, bottom), slice(left, right)
            mask = outline(made, number)[seen]
            found.append(Cutout(made.image[seen] * (mask > 0)[..., None], mask, made.truths[number]))
    return found


def drawn_places(size: Size, rng: np.random.Generator) -> Iterator[Place]:
    """Rectangles of an image that may be pasted over, from large to small."""
    for scale in SCALES:
        if rng.random() < TAKEN:
            sides = [int(rng.integers(1, max(int(side * scale), 1), endpoint=True)) for side in size]
            centre = [int(rng.integers(side, endpoint=True)) for side in size]
            yield place_around(centre, sides, size)


def place_around(centre: Sequence[int], sides: Sequence[int], size: Size) -> Place:
    left, top = (max(middle - side // 2, 0) for middle, side in zip(centre, sides, strict=True))
    return left, top, min(left + sides[0], size[0]), min(top + sides[1], size[1])


def pasted(made: Sample, cutouts: Sequence[Cutout], places: Iterable[Place], pick: Callable[[int], int]) -> Sample:
    """A sample with an object at each place that is large enough and covers none, as large as fits into it.

    pick: how many there are → which of them; asked for each such place.
    """
    size, image, rows = size_of(made), made.image.copy(), made.truths
    for left, top, right, bottom in places:
        if not cutouts or min(right - left, bottom - top) <= SMALLEST_PLACE:
            continue
        if covers(np.array([[left, top, right, bottom]], np.float64), corners_of(rows, size))[0]:
            continue
        cutout = cutouts[pick(len(cutouts))]
        height, width = cutout.mask.shape
        scale = min((bottom - top) / height, (right - left) / width)
        width, height = int(width * scale), int(height * scale)
        if min(width, height) <= SMALLEST_CUTOUT:
            continue
        mask = cv2.resize(cutout.mask, (width, height)) > 0
        if mask.sum() > SMALLEST_AREA:
            pixels = cv2.resize(cutout.image, (width, height)).reshape(height, width, image.shape[2])
            image[top : top + height, left : left + width][mask] = pixels[mask]
            row = cutout.row.copy()
            row[:4] = np.array((left + width / 2, top + height / 2, width, height)) / (size * 2)
            rows = np.concatenate((rows, row[None]))
    return made._replace(image=image, truths=rows)
