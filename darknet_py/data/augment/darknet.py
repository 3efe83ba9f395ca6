"""Darknet's augmentation: what is drawn at random, and what it does to a picture and its truths, kept apart (Darknet: data.c, image.c).

    drawn = draw_augmentation(network.net, head.options, (width, height), rng)
    truths = transform_truths(truths, drawn)
    picture = augment(picture, drawn, network.size, rows, rng)

Darknet augments a detector's pictures differently where it was built with OpenCV, and that is what people train with, so it is what
stands here: pixels of 8 bits, OpenCV's resize and HSV, and the picture's mean colour around it. A classifier's pictures it augments
in floating point (image.c) in both builds. Pictures of 16 bits go through image.c's formulas everywhere. Darknet draws with rand();
the distributions are the same here, the numbers are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.data.labels import Truths
from darknet_py.layers import NetOptions
from darknet_py.pictures.read import Image as Picture
from darknet_py.pictures.resize import Floats, resize

Size = tuple[int, int]  # (width, height), pixels
MIXUP, CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC = 1, 2, 3, 4  # Darknet's net.mixup
LEAST_CUT = 0.2  # of the width and the height, for a mosaic's cut point
NEUTRAL = (0.0, 1.0, 1.0)  # dhue, dsat, dexp that change nothing
WRONG = 999999.0  # where Darknet puts a box that lies nowhere in its picture


class HeadOptions(Protocol):
    """What augmentation reads of a detection head's options."""

    @property
    def jitter(self) -> float: ...
    @property
    def resize(self) -> float: ...


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for one picture of a detector.

    size: (width, height) of the picture. pleft, pright, ptop, pbot: pixels cut off at each side; negative: added. swidth, sheight:
    what that leaves. flip: mirrored, after the crop. dhue: -hue..hue, parts of the circle; dsat, dexp: factors. blur: 0 none,
    1 of the background, else the kernel's size. gaussian_noise: its deviation, of 255.
    """

    size: Size
    pleft: int = 0
    pright: int = 0
    ptop: int = 0
    pbot: int = 0
    flip: bool = False
    dhue: float = 0.0
    dsat: float = 1.0
    dexp: float = 1.0
    blur: int = 0
    gaussian_noise: int = 0

    @property
    def swidth(self) -> int:
        return self.size[0] - self.pleft - self.pright

    @property
    def sheight(self) -> int:
        return self.size[1] - self.ptop - self.pbot


def mixup_code(net: NetOptions) -> int:
    """Darknet's net.mixup: 0, MIXUP, CUTMIX, MOSAIC or CUTMIX_OR_MOSAIC (parser.c:parse_net_options)."""
    if net.mosaic:
        return CUTMIX_OR_MOSAIC if net.cutmix else MOSAIC
    return CUTMIX if net.cutmix else net.mixup


def rand_scale(most: float, rng: np.random.Generator) -> float:
    """Uniform in 1..most; in one of two cases its inverse. 0 counts as 1 (data.c:load_thread)."""
    low, high = sorted((1.0, most or 1.0))
    scale = rng.uniform(low, high)
    return scale if rng.integers(2) else 1 / scale


def rand_int(least: float, most: float, rng: np.random.Generator) -> int:
    """An integer of least..most, both included; Darknet drops their fractions."""
    low, high = sorted((int(least), int(most)))
    return int(rng.integers(low, high, endpoint=True))


class Dice(NamedTuple):
    """Where the random numbers about a picture come from: one generator, or several, where pictures have some of them in common.

    picture: which one. zoom: of `resize`. place: jitter and flip. colour: hue, saturation, exposure. rest: blur, noise, mosaic.
    """

    picture: np.random.Generator
    zoom: np.random.Generator
    place: np.random.Generator
    colour: np.random.Generator
    rest: np.random.Generator

    @classmethod
    def of(cls, rng: np.random.Generator) -> Dice:
        return cls(rng, rng, rng, rng, rng)


def draw_augmentation(
    net: NetOptions,
    head: HeadOptions,
    size: Size,
    rng: np.random.Generator | Dice,
    *,
    net_size: Size | None = None,
    tile: int | None = None,
) -> Augmentation:
    """Draws the augmentation of a detector's picture (data.c:load_data_detection).

    Each side moves by up to `jitter` of the picture's size, outwards or inwards; `resize` moves left and top, and right and bottom,
    by a common part of what a zoom by up to that factor takes or adds at each side (resize under 1 only adds). With letter_box,
    the sides move outwards until the crop has the network's proportions.

    Args:
        size: (width, height) of the picture. net_size: those of the network's input, if not the cfg's.
        tile: number of the mosaic's tile (0 and 1 above, 2 and 3 below); with probability 1/2, all that is cut off or added is then
            on the sides towards the cut, where the mosaic leaves additions out, so that most of the picture is seen.
    """
    width, height = size
    dice = rng if isinstance(rng, Dice) else Dice.of(rng)
    z1, z2 = dice.zoom.random(2, np.float32).tolist()
    r1, r2, r3, r4 = dice.place.random(4, np.float32).tolist()
    flip = bool(net.flip) and bool(dice.place.integers(2))
    hue, saturation = dice.colour.uniform(-abs(net.hue), abs(net.hue)), rand_scale(net.saturation, dice.colour)
    colours = (hue, saturation, rand_scale(net.exposure, dice.colour))
    blur = (0, 1, net.blur)[rand_int(0, 2, dice.rest)] if net.blur else 0
    noise = net.gaussian_noise if net.gaussian_noise and dice.rest.integers(2) else 0
    pleft, pright = _sides(width, head, (r1, r2), (z1, z2))
    ptop, pbot = _sides(height, head, (r3, r4), (z1, z2))
    if net.letter_box:
        net_w, net_h = net_size or (net.width, net.height)
        proportions = width * net_h / (height * net_w)
        if proportions > 1:
            margin = (width * net_h / net_w - height) / 2
            ptop, pbot = int(ptop - margin), int(pbot - margin)
        else:
            margin = (height * net_w / net_h - width) / 2
            pleft, pright = int(pleft - margin), int(pright - margin)
    if tile is not None and dice.rest.integers(2):
        keeps_left = (tile % 2 == 0) != flip
        pleft, pright = (0, pleft + pright) if keeps_left else (pleft + pright, 0)
        ptop, pbot = (0, ptop + pbot) if tile < 2 else (ptop + pbot, 0)
    drawn = Augmentation(size, pleft, pright, ptop, pbot, flip, *colours, blur, noise)
    if min(drawn.swidth, drawn.sheight, width - pleft, height - ptop) <= 0:
        return replace(drawn, pleft=0, pright=0, ptop=0, pbot=0)
    return drawn


def _sides(length: int, head: HeadOptions, jitter: tuple[float, float], zoom: tuple[float, float]) -> tuple[int, int]:
    """What is cut off at both ends of a picture's side, pixels, from parts 0..1 of the ranges; in float32, and towards 0, as in C."""
    one = np.float32(1)
    most = int(np.float32(length) * np.float32(head.jitter))
    down, up = sorted((np.float32(head.resize), one / np.float32(head.resize)))
    low = int(np.float32(length) * (one - one / down) / 2)  # <= 0
    high = 0 if head.resize < 1 else int(np.float32(length) * (one - one / up) / 2)
    first, last = (
        int(int(part * 2 * most - most) + (other * (high - low) + low))
        for part, other in zip(jitter, zoom, strict=True)
    )
    return first, last


def transform_truths(truths: Truths, drawn: Augmentation) -> Truths:
    """The truths moved as `crop` and a flip move the pixels, and cut at the borders (data.c:correct_boxes).

    Boxes that lie nowhere in the picture (or at 0, 0) go to WRONG; `training_truths` leaves them out, with a warning.
    """
    centre, half = truths.xywh[:, :2], truths.xywh[:, 2:] / np.float32(2)
    corners = np.stack((centre - half, centre + half))  # (2, n, 2): left top, right bottom
    wrong = (centre == 0).all(1) | (corners[1] < 0).any(1) | (corners[0] > 1).any(1)
    scale = np.array([drawn.swidth, drawn.sheight], np.float32) / np.array(drawn.size, np.float32)
    shift = np.array([drawn.pleft, drawn.ptop], np.float32) / np.array(drawn.size, np.float32) / scale
    corners = corners * (np.float32(1) / scale) - shift
    if drawn.flip:
        corners[:, :, 0] = 1 - corners[::-1, :, 0]
    left_top, right_bottom = corners.clip(0, 1)
    xywh = np.concatenate(((left_top + right_bottom) / 2, right_bottom - left_top), 1, dtype=np.float32)
    xywh[wrong] = WRONG
    return Truths(truths.classes, xywh, truths.difficult)


def augment(
    picture: Picture, drawn: Augmentation, net_size: Size, rows: NDArray[np.float32], rng: np.random.Generator
) -> Picture:
    """A detector's picture as the network shall see it (image_opencv.cpp:image_data_augmentation): crop, resize, flip, colour, blur, noise.

    Args:
        picture: (height, width, channels). net_size: (width, height) of the network's input.
        rows: its truths after the augmentation, (m, 6); a blur spares the objects. rng: for the noise.

    Returns:
        (height, width, channels) of the network's input: uint8 if the picture is, else float32 in 0..1.
    """
    picture = crop(picture, drawn, net_size)
    if drawn.flip:
        picture = cv2.flip(picture, 1).reshape(picture.shape)
    if picture.dtype == np.uint8:
        picture = distort_bytes(picture, drawn.dhue, drawn.dsat, drawn.dexp)
    else:
        picture = distort(as_floats(picture), drawn.dhue, drawn.dsat, drawn.dexp)
    picture = blurred(picture, drawn.blur, rows)
    return noisy(picture, drawn.gaussian_noise, rng)


def crop(picture: Picture, drawn: Augmentation, net_size: Size) -> Picture:
    """Cut, or set into its own mean colour, as drawn, and resized by OpenCV to the network's (width, height); of the same dtype.

    Darknet without OpenCV repeats the border pixels instead, and resizes corner to corner.
    """
    (width, height), channels = drawn.size, picture.shape[2]
    left, top = max(drawn.pleft, 0), max(drawn.ptop, 0)
    right, bottom = min(width - drawn.pright, width), min(height - drawn.pbot, height)
    if right <= left or bottom <= top:  # nothing of the picture is left
        inner = np.full((drawn.sheight, drawn.swidth, channels), cv2.mean(picture)[:channels])
        inner = (np.rint(inner) if picture.dtype.kind == "u" else inner).astype(picture.dtype)
    else:
        inner = picture[top:bottom, left:right]
        above, below, before, after = (max(-side, 0) for side in (drawn.ptop, drawn.pbot, drawn.pleft, drawn.pright))
        if above or below or before or after:
            inner = cv2.copyMakeBorder(inner, above, below, before, after, cv2.BORDER_CONSTANT, value=cv2.mean(picture))
    return cv2.resize(inner, net_size, interpolation=cv2.INTER_LINEAR).reshape(net_size[1], net_size[0], channels)


def as_floats(picture: Picture) -> Floats:
    """uint8, uint16 or float → float32 in 0..1."""
    most = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(picture.dtype, 1)
    return np.multiply(picture, np.float32(1 / most), dtype=np.float32)


def distort_bytes(picture: Picture, dhue: float, dsat: float, dexp: float) -> Picture:
    """Hue, saturation and exposure of a uint8 picture with OpenCV's 8-bit HSV, as a detector's are changed.

    Hues are 0..179 there, and do not turn past 0: they stop at it. Grey pictures have an exposure alone; of four channels, the
    fourth stays.
    """
    if (dhue, dsat, dexp) == NEUTRAL:
        return picture
    steps = np.arange(256, dtype=np.float32)
    if picture.shape[2] < 3:
        return cv2.LUT(picture, _bytes(steps * np.float32(dexp))).reshape(picture.shape)
    table = np.stack((steps + np.float32(179 * dhue), steps * np.float32(dsat), steps * np.float32(dexp)), 1)
    hsv = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2HSV)
    colours = cv2.cvtColor(cv2.LUT(hsv, _bytes(table)[None]), cv2.COLOR_HSV2RGB)
    return colours if picture.shape[2] == 3 else np.concatenate((colours, picture[..., 3:]), 2)


def _bytes(values: Floats) -> Picture:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def distort(picture: Floats, dhue: float, dsat: float, dexp: float) -> Floats:
    """Hue, saturation and exposure of a float picture in 0..1 (image.c:distort_image); the result is in 0..1.

    Hues turn past both ends (one that lands on exactly 1 is red here; image.c makes it magenta). Grey pictures have an exposure alone;
    of four channels, the fourth stays.
    """
    if (dhue, dsat, dexp) == NEUTRAL:
        return picture
    if picture.shape[2] < 3:
        return np.clip(picture * np.float32(dexp), 0, 1)
    hsv = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv *= np.array([1, dsat, dexp], np.float32)
    hsv[..., 0] += np.float32(360 * (dhue % 1))
    colours: Floats = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)
    return colours if picture.shape[2] == 3 else np.concatenate((colours, picture[..., 3:]), 2)


def blurred(picture: Picture, blur: int, rows: NDArray[np.float32]) -> Picture:
    """A Gaussian blur: of everything but the objects (1), or of all, with a kernel of `blur` pixels.

    That kernel is at most 1/8 of the smallest side of an object; where this gives 1, the background alone is blurred.
    """
    height, width = picture.shape[:2]
    sides = rows[:, 2:4] * np.array([width, height], np.float32)
    if blur > 1:
        blur = min(blur, int(sides.min(initial=np.inf)) // 8 if len(rows) else 0)
    if not blur:
        return picture
    kernel = 17 if blur == 1 else blur // 2 * 2 + 1
    result = cv2.GaussianBlur(np.ascontiguousarray(picture), (kernel, kernel), 0).reshape(picture.shape)
    if blur == 1:
        corners = (rows[:, :2] * np.array([width, height], np.float32) - sides / 2).astype(
            np.int64
        )  # towards 0, as in C
        ends = np.minimum(corners + sides.astype(np.int64), (width, height))
        for (left, top), (right, bottom) in zip(corners.clip(0).tolist(), ends.tolist(), strict=True):
            result[top:bottom, left:right] = picture[top:bottom, left:right]
    return result


def noisy(picture: Picture, deviation: int, rng: np.random.Generator) -> Picture:
    """Gaussian noise of a deviation 0..127 of 255. Darknet draws it into bytes, so what is below 0 is lost: it only brightens."""
    if not deviation:
        return picture
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(min(max(deviation, 0), 127))
    if picture.dtype == np.uint8:
        return cv2.add(picture, _bytes(noise)).reshape(picture.shape)
    return np.clip(picture + noise.clip(0, 255) / np.float32(255), 0, 1)


# Several pictures in one ------------------------------------------------------------------------------------------------------


def blend(first: Floats, second: Floats, part: float = 0.5) -> Floats:
    """Mixup: `part` of the first, in Darknet half of each (image_opencv.cpp:blend_images_cv). The truths of both follow each other
    (`blend_truths`)."""
    return first * np.float32(part) + second * np.float32(1 - part)


def blend_truths(first: NDArray[np.float32], second: NDArray[np.float32], max_boxes: int) -> NDArray[np.float32]:
    """(m, 6 or more) rows of both pictures, the first's first, at most `max_boxes`; the second's lose their track_id (data.c:blend_truth)."""
    second = second.copy()
    second[:, 5] = 0
    return np.concatenate((first, second))[:max_boxes]


def draw_cut(net_size: Size, rng: np.random.Generator) -> tuple[int, int]:
    """Where a mosaic's four tiles meet, (x, y): uniform in 20..80 % of the network's width and height."""
    least, most = np.float32(LEAST_CUT), np.float32(1) - np.float32(LEAST_CUT)
    x, y = (rand_int(float(np.float32(side) * least), float(np.float32(side) * most), rng) for side in net_size)
    return x, y


def mosaic_shifts(drawn: Augmentation, net_size: Size, cut: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom: how wide the mean colour around a tile's picture is, pixels of the network; a tile leaves it out."""
    (width, height), (net_w, net_h), (x, y) = drawn.size, net_size, cut
    pleft, pright = (drawn.pright, drawn.pleft) if drawn.flip else (drawn.pleft, drawn.pright)
    return (
        min(x, max(0, -pleft * net_w // width)),
        min(y, max(0, -drawn.ptop * net_h // height)),
        min(net_w - x, max(0, -pright * net_w // width)),
        min(net_h - y, max(0, -drawn.pbot * net_h // height)),
    )


def mosaic(pictures: Sequence[Picture], cut: tuple[int, int], shifts: Sequence[tuple[int, int, int, int]]) -> Picture:
    """Four augmented pictures of the network's size in one: the tiles above (0, 1) and below (2, 3) meet at `cut`.

    A corner of each picture lies at the cut: tile 0 shows the right bottom of its picture, tile 3 the left top of its own; `shifts` leave
    out what is around the picture there.
    """
    result = np.empty_like(pictures[0])
    (height, width), (x, y) = result.shape[:2], cut
    for tile, (picture, (left, top, right, bottom)) in enumerate(zip(pictures, shifts, strict=True)):
        rows, columns = (slice(y, height), slice(y))[tile < 2], (slice(x, width), slice(x))[tile % 2 == 0]
        from_y = height - y - bottom if tile < 2 else top
        from_x = width - x - right if tile % 2 == 0 else left
        given = picture[from_y : from_y + (y if tile < 2 else height - y)]
        result[rows, columns] = given[:, from_x : from_x + (x if tile % 2 == 0 else width - x)]
    return result


def mosaic_truths(
    rows: NDArray[np.float32],
    tile: int,
    cut: tuple[int, int],
    shifts: tuple[int, int, int, int],
    net_size: Size,
    bound: bool,
) -> NDArray[np.float32]:
    """A tile's truths, moved as its pixels are, cut, and left out where nothing stays (data.c:blend_truth_mosaic).

    Args:
        rows: (m, 6). bound: boxes are cut at their tile (mosaic_bound=1), not only at the mosaic's borders.

    Returns:
        (m', 6) rows; track_id is 0.
    """
    (x, y), (left, top, right, bottom) = cut, shifts
    size = np.array(net_size, np.float32)
    width, height = net_size
    move = (x - left if tile % 2 else x - width + right, y - top if tile > 1 else y - height + bottom)
    centre, sides = rows[:, :2] + np.array(move, np.float32) / size, rows[:, 2:4]
    first, last = _pixels(centre, sides, size)
    if bound:
        low = np.array((x if tile % 2 else 0, y if tile > 1 else 0), np.float32)
        high = np.array((width if tile % 2 else x, height if tile > 1 else y), np.float32)
        first, last = np.maximum(first, low), np.minimum(last, high)
        centre, sides = (last + first) / 2 / size, (last - first) / size
    else:
        before, after = np.minimum(first, 0) / size, np.maximum(last - size, 0) / size
        centre, sides = centre - before / 2 - after / 2, sides + before - after
        first, last = _pixels(centre, sides, size)
    kept = (first >= 0) & (last <= size) & (sides > 1 / size) & (sides < 1) & (centre > 0) & (centre < 1)
    result = np.concatenate((centre, sides, rows[:, 4:]), 1, dtype=np.float32)[kept.all(1)]
    result[:, 5] = 0
    return result


def _pixels(centre: Floats, sides: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Left top and right bottom, whole pixels towards 0."""
    return np.trunc((centre - sides / 2) * size), np.trunc((centre + sides / 2) * size)


# Classifiers ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierAugmentation:
    """What was drawn for one picture of a classifier. rad: rotation. scale: pixels of the crop per pixel of the picture, vertically;
    horizontally it is divided by `aspect`. dx, dy: the crop's centre from the picture's, pixels of the crop. side: of the crop, a square.
    """

    rad: float
    scale: float
    aspect: float
    dx: float
    dy: float
    side: int
    flip: bool = False
    dhue: float = 0.0
    dsat: float = 1.0
    dexp: float = 1.0


def draw_classifier_augmentation(
    net: NetOptions, size: Size, rng: np.random.Generator, *, net_size: Size | None = None
) -> ClassifierAugmentation:
    """Draws the augmentation of a classifier's picture (image.c:random_augment_image).

    The short side of the picture, its proportions changed by up to `aspect`, becomes min_crop..max_crop pixels; of that, turned by up
    to `angle` degrees, a square of the network's longer side is taken, from anywhere. With `center` it is the largest in the middle.
    """
    width, height = size
    side = max(net_size or (net.width, net.height))
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
    colours = (rng.uniform(-abs(net.hue), abs(net.hue)), rand_scale(net.saturation, rng), rand_scale(net.exposure, rng))
    if net.center:
        return ClassifierAugmentation(0.0, side / min(size), 1.0, 0.0, 0.0, side, flip, *colours)
    return ClassifierAugmentation(rad, scale, aspect, dx, dy, side, flip, *colours)


def augment_classifier(picture: Picture, drawn: ClassifierAugmentation, net_size: Size) -> Floats:
    """A classifier's picture as the network shall see it: turned and cropped (black outside), flipped, its colours changed, resized.

    (height, width, channels) float32 in 0..1. The crop is OpenCV's warpAffine in the picture's own dtype: of 8 bits, within 2/255 of
    image.c:rotate_crop_image, which computes in floating point.
    """
    height, width, channels = picture.shape
    across, down = drawn.aspect / drawn.scale, 1 / drawn.scale
    turn = np.array([[math.cos(drawn.rad), -math.sin(drawn.rad)], [math.sin(drawn.rad), math.cos(drawn.rad)]])
    matrix = turn * np.array([across, down])
    corner = np.array([drawn.dx - drawn.side / 2, drawn.dy - drawn.side / 2])
    where = np.concatenate(
        (matrix, (matrix @ corner + (width / 2, height / 2))[:, None]), 1
    )  # pixel of the crop → of the picture
    crop = cv2.warpAffine(picture, where, (drawn.side, drawn.side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    crop = crop.reshape(drawn.side, drawn.side, channels)
    floats = distort(as_floats(crop[:, ::-1] if drawn.flip else crop), drawn.dhue, drawn.dsat, drawn.dexp)
    return resize(floats, *net_size)


def draw_patch(net_size: Size, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width, height of a cutmix's patch: 30..80 % of each side, anywhere."""
    w, h = (
        rand_int(float(np.float32(side) * np.float32(0.3)), float(np.float32(side) * np.float32(0.8)), rng)
        for side in net_size
    )
    return rand_int(0, net_size[0] - w - 1, rng), rand_int(0, net_size[1] - h - 1, rng), w, h


def cutmix(
    pictures: Sequence[Picture], classes: Sequence[Floats], patch: tuple[int, int, int, int]
) -> tuple[Picture, Floats]:
    """The second picture's patch on the first; the class vectors weigh as the areas do (data.c:load_data_augment)."""
    left, top, width, height = patch
    result = pictures[0].copy()
    result[top : top + height, left : left + width] = pictures[1][top : top + height, left : left + width]
    part = np.float32(width * height / (result.shape[0] * result.shape[1]))
    return result, classes[0] * (1 - part) + classes[1] * part


def classifier_mosaic(
    pictures: Sequence[Picture], classes: Sequence[Floats], cut: tuple[int, int]
) -> tuple[Picture, Floats]:
    """Four pictures' parts around a point, each where it is in its picture; the class vectors weigh as the areas do."""
    (x, y), result = cut, pictures[0].copy()
    result[:y, x:], result[y:, :x], result[y:, x:] = pictures[1][:y, x:], pictures[2][y:, :x], pictures[3][y:, x:]
    height, width = result.shape[:2]
    areas = np.array([x * y, (width - x) * y, x * (height - y), (width - x) * (height - y)], np.float32) / np.float32(
        width * height
    )
    return result, (np.stack(classes) * areas[:, None]).sum(0)


def mix_classifier(
    code: int, pictures: Sequence[Any], classes: Sequence[Floats], net_size: Size, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Mixup, cutmix or mosaic of a classifier's pictures, as `mixup_code` says; of MIXUP and CUTMIX the first two are used."""
    if code == CUTMIX_OR_MOSAIC:
        code = rand_int(CUTMIX, MOSAIC, rng)
    if code == CUTMIX:
        return cutmix(pictures, classes, draw_patch(net_size, rng))
    if code == MOSAIC:
        return classifier_mosaic(pictures, classes, draw_cut(net_size, rng))
    return blend(pictures[0], pictures[1]), (classes[0] + classes[1]) * np.float32(0.5)
