"""Mosaic: four images in one (Darknet: data.c:load_data_detection, blend_truth_mosaic, load_data_augment)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from darknet_py.data.augment.colour import as_floats
from darknet_py.data.augment.dice import rand_int
from darknet_py.data.augment.place import DrawnCrop
from darknet_py.data.augment.steps import LoadedImage, OneImage, Sample, Size
from darknet_py.data.truths import TRUTH_SIZE
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Floats

MIN_CUT = 0.2  # of the width and the height, for the point at which the tiles meet
Point: TypeAlias = tuple[int, int]  # (x, y), pixels
Margins: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class Mosaic:
    """A recipe: half of the samples are one image, the other half four, tiles above (0, 1) and below (2, 3) a point.

    A tile shows the corner of its image that lies at this point. bound: boxes are cut at their tile (mosaic_bound=1),
    not only at the mosaic's borders. The images' steps begin with a crop (`JitterCrop`).
    """

    of: OneImage
    max_truths: int
    bound: bool = False

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        if not rng.integers(2):
            return self.of(images, net_size, rng)
        cut = draw_cut(net_size, rng)
        tiles = [self.of(images, net_size, rng, adapt=partial(towards_cut, tile=tile)) for tile in range(4)]
        margins = [mosaic_margins(crop_of(tile.draws), cut) for tile in tiles]
        rows = np.empty((0, TRUTH_SIZE), np.float32)
        for number, (tile, margin) in enumerate(zip(tiles, margins, strict=True)):
            counted = tile.truths[: self.max_truths - len(rows)]
            rows = np.concatenate((rows, mosaic_truths(counted, number, cut, margin, net_size, self.bound)))
        pixels = [tile.image for tile in tiles]
        if any(image.dtype != np.uint8 for image in pixels):
            pixels = [as_floats(image) for image in pixels]
        return Sample(mosaic(pixels, cut, margins), rows, tiles[0].path)


def draw_cut(net_size: Size, rng: np.random.Generator) -> Point:
    """Where the four tiles meet: uniform in 20..80 % of the network's width and height."""
    low, high = np.float32(MIN_CUT), np.float32(1) - np.float32(MIN_CUT)
    x, y = (rand_int(float(np.float32(side) * low), float(np.float32(side) * high), rng) for side in net_size)
    return x, y


def crop_of(draws: Sequence[Any]) -> DrawnCrop:
    """The crop among what an image's steps drew."""
    return next(drawn for drawn in draws if isinstance(drawn, DrawnCrop)).possible()


def towards_cut(draws: tuple[Any, ...], rng: np.random.Generator, tile: int) -> tuple[Any, ...]:
    """With probability 1/2, all that a tile's crop cuts off or adds is on the sides towards the cut. The mosaic leaves
    additions out there, so most of the image is seen."""
    if not rng.integers(2):
        return draws
    return tuple(shifted(drawn, tile) if isinstance(drawn, DrawnCrop) else drawn for drawn in draws)


def shifted(drawn: DrawnCrop, tile: int) -> DrawnCrop:
    """A crop of the same size, at the corner of its image that lies away from the cut."""
    across, down = drawn.pleft + drawn.pright, drawn.ptop + drawn.pbot
    keeps_left = (tile % 2 == 0) != drawn.flip
    pleft, pright = (0, across) if keeps_left else (across, 0)
    ptop, pbot = (0, down) if tile < 2 else (down, 0)
    return replace(drawn, pleft=pleft, pright=pright, ptop=ptop, pbot=pbot)


def mosaic_margins(drawn: DrawnCrop, cut: Point) -> Margins:
    """How wide the mean colour around a tile's image is, pixels of the network's input; a tile leaves it out towards
    the cut."""
    (width, height), (net_w, net_h), (x, y) = drawn.size, drawn.net_size, cut
    pleft, pright = (drawn.pright, drawn.pleft) if drawn.flip else (drawn.pleft, drawn.pright)
    return (
        min(x, max(0, -pleft * net_w // width)),
        min(y, max(0, -drawn.ptop * net_h // height)),
        min(net_w - x, max(0, -pright * net_w // width)),
        min(net_h - y, max(0, -drawn.pbot * net_h // height)),
    )


def mosaic(images: Sequence[Image], cut: Point, margins: Sequence[Margins]) -> Image:
    """Four images of the network's size in one.

    Args:
        images: (height, width, channels) each; of tile 0 the right bottom is seen, of tile 3 the left top.
        cut: where the tiles meet. margins: of each image, left out towards the cut.
    """
    result = np.empty_like(images[0])
    (height, width), (x, y) = result.shape[:2], cut
    for tile, (image, (left, top, right, bottom)) in enumerate(zip(images, margins, strict=True)):
        rows, columns = (slice(y, height), slice(y))[tile < 2], (slice(x, width), slice(x))[tile % 2 == 0]
        from_y = height - y - bottom if tile < 2 else top
        from_x = width - x - right if tile % 2 == 0 else left
        lines = image[from_y : from_y + (y if tile < 2 else height - y)]
        result[rows, columns] = lines[:, from_x : from_x + (x if tile % 2 == 0 else width - x)]
    return result


def mosaic_truths(rows: Rows, tile: int, cut: Point, margins: Margins, net_size: Size, bound: bool) -> Rows:
    """A tile's truths, moved as its pixels are, cut, and left out where nothing stays (data.c:blend_truth_mosaic).

    Args:
        rows: (m, 6). bound: boxes are cut at their tile, not only at the mosaic's borders.

    Returns:
        (m', 6) rows; track_id is 0.
    """
    (x, y), (left, top, right, bottom) = cut, margins
    size = np.array(net_size, np.float32)
    width, height = net_size
    move = (x - left if tile % 2 else x - width + right, y - top if tile > 1 else y - height + bottom)
    centre, sides = rows[:, :2] + np.array(move, np.float32) / size, rows[:, 2:4]
    first, last = _whole_pixels(centre, sides, size)
    if bound:
        low = np.array((x if tile % 2 else 0, y if tile > 1 else 0), np.float32)
        high = np.array((width if tile % 2 else x, height if tile > 1 else y), np.float32)
        first, last = np.maximum(first, low), np.minimum(last, high)
        centre, sides = (last + first) / 2 / size, (last - first) / size
    else:
        before, after = np.minimum(first, 0) / size, np.maximum(last - size, 0) / size
        centre, sides = centre - before / 2 - after / 2, sides + before - after
        first, last = _whole_pixels(centre, sides, size)
    kept = (first >= 0) & (last <= size) & (sides > 1 / size) & (sides < 1) & (centre > 0) & (centre < 1)
    result = np.concatenate((centre, sides, rows[:, 4:]), 1, dtype=np.float32)[kept.all(1)]
    result[:, 5] = 0
    return result


def _whole_pixels(centre: Floats, sides: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Left top and right bottom, whole pixels towards 0."""
    return np.trunc((centre - sides / 2) * size), np.trunc((centre + sides / 2) * size)


def mosaic_classes(samples: Sequence[Sample], net_size: Size, rng: np.random.Generator) -> Sample:
    """A classifier's mosaic: the parts of four samples around a point, each where it is in its own image."""
    images, classes = [sample.image for sample in samples], [sample.truths for sample in samples]
    return Sample(*classifier_mosaic(images, classes, draw_cut(net_size, rng)), samples[0].path)


def classifier_mosaic(images: Sequence[Image], classes: Sequence[Floats], cut: Point) -> tuple[Image, Floats]:
    """Parts of four images around a point; the class vectors weigh as the areas do."""
    (x, y), result = cut, images[0].copy()
    result[:y, x:], result[y:, :x], result[y:, x:] = images[1][:y, x:], images[2][y:, :x], images[3][y:, x:]
    height, width = result.shape[:2]
    areas = np.array([x * y, (width - x) * y, x * (height - y), (width - x) * (height - y)], np.float32)
    fractions = areas / np.float32(width * height)
    return result, (np.stack(classes) * fractions[:, None]).sum(0)
