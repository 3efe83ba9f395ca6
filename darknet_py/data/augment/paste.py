"""Objects that are cut out along their polygons and pasted: within a mosaic, mirrored (YOLOv5, after Ghiasi et al.,
"Simple copy-paste", 2021), or from other images, at random places and sizes (YOLOv7)."""

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
from darknet_py.data.truths import ImageTruths
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

COVERED = 0.3  # no object may be covered by this fraction or more
CUTOUTS = 30  # cut out before some of them are pasted
CUT = 0.5  # fraction of a mosaic's objects that are cut out
SCALES = (0.75,) * 2 + (0.5,) * 4 + (0.25,) * 4 + (0.125,) * 4 + (0.0625,) * 6  # of places, fractions of the image
TAKEN = 0.8  # fraction of these places that are tried
SMALLEST_PLACE, SMALLEST_CUTOUT, SMALLEST_AREA = 20, 10, 20  # pixels, which a place, what is pasted, its mask exceed

Place = tuple[int, int, int, int]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class CopyPaste:
    """A recipe: a fraction of the objects of another one's samples are pasted at their mirrored places."""

    of: Recipe
    fraction: float
    max_truths: int

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        made = self.of(images, net_size, rng)
        return first_truths(copied(made, some(made, self.fraction, rng)), self.max_truths)


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
            found = cut_out(mosaic, some(mosaic, CUT, rng))
            if not found and not cutouts:
                break
            cutouts += found
        places = drawn_places(net_size, rng)
        return first_truths(pasted(made, cutouts, places, lambda count: int(rng.integers(count))), self.max_truths)


def some(made: Sample, fraction: float, rng: np.random.Generator) -> list[int]:
    """A fraction of the truths that have a polygon, at random."""
    outlined = np.flatnonzero([len(polygon) for polygon in made.polygons])
    chosen: list[int] = rng.permutation(outlined)[: round(fraction * len(outlined))].tolist()
    return chosen


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


def covers(corners: Sequence[float] | NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether a box covers `COVERED` of one of the others (m, 4) or more."""
    common = np.minimum(corners[2:], others[:, 2:]) - np.maximum(corners[:2], others[:, :2])
    area = (others[:, 2:] - others[:, :2]).prod(1)
    return bool((common.clip(0).prod(1) >= COVERED * (area + 1e-16)).any())


def copied(made: Sample, chosen: Iterable[int]) -> Sample:
    """A sample with its chosen objects pasted at their mirrored places, one by one, where none is covered by them."""
    size, rows, polygons = size_of(made), made.truths, list(made.polygons)
    mask = np.zeros(size[::-1], np.uint8)
    for number in chosen:
        row = made.truths[number].copy()
        row[0] = 1 - row[0]
        if covers(corners_of(row[None], size)[0], corners_of(rows, size)):
            continue
        rows = np.concatenate((rows, row[None]))
        polygons.append(polygons[number] * (-1, 1) + (1, 0))
        mask |= outline(made, number)
    mirrored = mask[:, ::-1, None] > 0
    return made._replace(image=np.where(mirrored, made.image[:, ::-1], made.image), truths=rows, polygons=polygons)


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
        if covers((left, top, right, bottom), corners_of(rows, size)):
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
