"""Augmentation does to pixels what Darknet does, and truths move with them."""

import math
import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from augmenting import NET, draw_all, draw_crop, needs, rng, training_truths
from kit import KIT, needs_kit

from darknet_py.data.augment.blur import Blur, blurred
from darknet_py.data.augment.classifier import DrawnTurn, ResizeToNetwork, TurnCrop
from darknet_py.data.augment.colour import ColourShift, DrawnColour, as_floats, distort, distort_bytes
from darknet_py.data.augment.cutmix import cutmix
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import mixup_code
from darknet_py.data.augment.mixup import blend, blend_truths
from darknet_py.data.augment.mosaic import (
    classifier_mosaic,
    draw_cut,
    mosaic,
    mosaic_margins,
    mosaic_truths,
    towards_cut,
)
from darknet_py.data.augment.noise import Noise, noisy
from darknet_py.data.augment.place import DrawnCrop, JitterCrop, crop
from darknet_py.data.augment.steps import DrawContext, apply_steps
from darknet_py.data.truths import DataWarning, make_truths

NO_ROWS = np.empty((0, 6), np.float32)
STEPS = (JitterCrop(), ColourShift(), Blur(), Noise())


def moved_truths(truths: Any, drawn: DrawnCrop) -> Any:
    return truths._replace(xywh=JitterCrop().move(truths.xywh, drawn))


def boxed_image(size: tuple[int, int], box: tuple[int, int, int, int], value: int = 255) -> np.ndarray:
    """Black, with a filled rectangle: left, top, right, bottom in pixels, the last two not included."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = value
    return image


def truth_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Any:
    left, top, right, bottom = box
    return make_truths([0], [((left + right) / 2 / size[0], (top + bottom) / 2 / size[1],
                              (right - left) / size[0], (bottom - top) / size[1])])  # fmt: skip


def extent(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def corners(xywh: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.concatenate((xywh[:2] - xywh[2:] / 2, xywh[:2] + xywh[2:] / 2)) * [*size, *size]


def test_truths_move_with_their_pixels() -> None:
    """A rectangle is where its truth says, within 1.5 pixels of the network plus half a pixel of the enlarged image."""
    size, box, net_size = (300, 200), (60, 50, 150, 120), (224, 160)
    image, truths = boxed_image(size, box), truth_of(size, box)
    generator = rng(11)
    seen = 0
    for net in (NET, replace(NET, letter_box=1)):
        for _ in range(150):
            drawn_crop = draw_crop(net, needs(jitter=0.3, resize=1.5), size, generator, net_size)
            moved = moved_truths(truths, drawn_crop)
            rows = training_truths(moved, net_size, 1, 10, generator)
            result = crop(image, drawn_crop)
            result = result[:, ::-1] if drawn_crop.flip else result
            margin = 1.5 + max(net_size[0] / drawn_crop.swidth, net_size[1] / drawn_crop.sheight)
            if len(rows) and (rows[0, 2:4] * net_size > 4).all():
                found = extent(result[..., 0] > 140)  # the mean colour around is about 27
                np.testing.assert_allclose(corners(rows[0, :4], net_size), found, atol=margin)
                seen += 1
    assert seen > 250


def test_truths_of_a_hand_made_crop_and_flip() -> None:
    drawn_crop = DrawnCrop((100, 100), (100, 100), pleft=20, pright=-20, ptop=0, pbot=50, flip=True)
    moved = moved_truths(make_truths([2, 2], [(0.5, 0.25, 0.2, 0.5), (0.5, 0.5, 1.0, 1.0)]), drawn_crop)
    # 40..60 of 20..120 is .2 to .4, mirrored .6 to .8; 0..50 of 0..50 is all
    np.testing.assert_allclose(moved.xywh[0], [0.7, 0.5, 0.2, 1.0], atol=1e-6)
    # 0..100 of 20..120 is cut to 0 to .8, mirrored .2 to 1
    np.testing.assert_allclose(moved.xywh[1], [0.6, 0.5, 0.8, 1.0], atol=1e-6)
    assert moved.classes.tolist() == [2, 2]


@pytest.mark.parametrize("xywh", [(0, 0, 0.5, 0.5), (-0.6, 0.5, 1, 0.5), (0.5, 1.3, 0.5, 0.5)])
def test_boxes_that_lie_nowhere_in_the_image_are_named_and_left_out(xywh: tuple[float, ...]) -> None:
    moved = moved_truths(make_truths([0], [xywh]), DrawnCrop((100, 100), (100, 100)))
    with pytest.warns(DataWarning, match=r"1\.txt: a box lies outside the image"):
        assert len(training_truths(moved, (100, 100), 1, 10, rng(), path="1.txt")) == 0


def test_around_the_image_is_its_mean_colour() -> None:
    image = rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    result = crop(image, DrawnCrop((60, 40), (120, 80), pleft=-60, pright=0, ptop=0, pbot=-40))
    mean = np.rint(image.mean((0, 1)))
    assert (result[:, :59] == mean).all()
    assert (result[41:] == mean).all()
    np.testing.assert_array_equal(result[:39, 61:], image[:39, 1:])
    nothing = crop(image, DrawnCrop((60, 40), (12, 8), pleft=-100, pright=80))
    assert (nothing == mean).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_a_image_of_any_kind_comes_out_in_the_networks_size(channels: int, kind: str) -> None:
    image = rng(1).random((37, 53, channels), np.float32)
    image = image if kind == "float32" else (image * np.iinfo(kind).max).astype(kind)
    rows = np.array([[0.5, 0.5, 0.5, 0.5, 0, 0]], np.float32)
    drawn = (DrawnCrop((53, 37), (64, 32), -5, 4, 3, -6, True), DrawnColour(0.1, 1.5, 1.2), 1, 10)
    result = apply_steps(STEPS, drawn, image, rows, rng())
    assert result.shape == (32, 64, channels)
    assert result.dtype == (np.uint8 if kind == "uint8" else np.float32)
    assert result.min() >= 0
    assert result.max() <= (255 if kind == "uint8" else 1)


def test_16_bit_images_come_out_as_those_of_8_bits() -> None:
    image = rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    image = cv2.GaussianBlur(image, (9, 9), 0)
    drawn = (DrawnCrop((64, 64), (80, 80), -5, 4, 3, -6, True), DrawnColour(0.0, 1.0, 1.2), 0, 0)
    small = apply_steps(STEPS, drawn, image, NO_ROWS, rng()) / 255
    large = apply_steps(STEPS, drawn, image.astype(np.uint16) * 257, NO_ROWS, rng())
    np.testing.assert_allclose(small, large, atol=3 / 255)  # rounded thrice on the way: resize, HSV, RGB


@needs_kit
@pytest.mark.parametrize(
    "key", ["0.1_sat1.5_exp1.3", "-0.1_sat0.6_exp0.7", "0.05_sat1_exp1", "0_sat2_exp1", "0_sat1_exp1.9"]
)
def test_colours_change_as_in_the_c_program(key: str) -> None:
    """image.c:distort_image; float32 in another order of operations: 2e-6 (measured: 1.8e-6)."""
    arrays = np.load(KIT / "misc" / "image_ops.npz")
    drawn = DrawnColour(*(float(number) for number in re.split("_sat|_exp", key)))
    result = distort(as_floats(arrays["src_u8"].transpose(1, 2, 0)), drawn)
    np.testing.assert_allclose(result.transpose(2, 0, 1), arrays[f"distort_hue{key}"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("colours", [(0.1, 1.5, 1.5), (-0.1, 0.7, 0.8), (0.0, 1.3, 1.0), (0.05, 1.0, 1.0)])
def test_a_detectors_colours_change_as_opencv_computes(colours: tuple[float, float, float]) -> None:
    """image_opencv.cpp: hsv[1] *= dsat; hsv[2] *= dexp; hsv[0] += 179*dhue, each rounded and kept within a byte."""
    image = rng(1).integers(0, 256, (50, 50, 3), np.uint8)
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    hue = cv2.add(hue, (179 * colours[0], 0, 0, 0))
    saturation, value = (
        cv2.convertScaleAbs(part, alpha=factor) for part, factor in zip((saturation, value), colours[1:], strict=True)
    )
    wanted = cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(distort_bytes(image, DrawnColour(*colours)), wanted)


def test_grey_images_have_an_exposure_alone_and_transparency_stays() -> None:
    grey = np.array([[[10], [200]]], np.uint8)
    assert distort_bytes(grey, DrawnColour(0.1, 2.0, 1.5)).tolist() == [[[15], [255]]]
    np.testing.assert_allclose(distort(as_floats(grey), DrawnColour(0.1, 2.0, 1.5)), [[[15 / 255], [1]]], rtol=1e-6)
    four = rng(1).integers(0, 256, (5, 5, 4), np.uint8)
    drawn = DrawnColour(0.1, 0.5, 0.5)
    for result in (distort_bytes(four, drawn), np.rint(distort(as_floats(four), drawn) * 255)):
        np.testing.assert_array_equal(result[..., 3], four[..., 3])
        assert (result[..., :3] != four[..., :3]).any()


def test_a_blur_of_the_background_spares_the_objects() -> None:
    image = rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    rows = np.array([[0.5, 0.5, 0.25, 0.5, 0, 0]], np.float32)
    result = blurred(image, 1, rows)
    inside = np.s_[25:75, 75:125]
    np.testing.assert_array_equal(result[inside], image[inside])
    wanted = cv2.GaussianBlur(image, (17, 17), 0)
    np.testing.assert_array_equal(result[:25], wanted[:25])
    np.testing.assert_array_equal(result[:, 125:], wanted[:, 125:])


@pytest.mark.parametrize(
    ("blur", "side", "kernel"),
    [
        (9, 0.9, 9),
        (8, 0.9, 9),
        (2, 0.9, 3),
        (9, 0.4, 5),
        (9, 0.07, 0),
        (9, 0.1, 17),
    ],  # of 100 pixels: side*100/8 at most; 1: background
)
def test_the_blur_of_all_is_at_most_an_eighth_of_the_smallest_object(blur: int, side: float, kernel: int) -> None:
    image = rng(1).integers(0, 256, (100, 100, 3), np.uint8)
    rows = np.array([[0.5, 0.5, side, 0.95, 0, 0]], np.float32)
    wanted = cv2.GaussianBlur(image, (kernel, kernel), 0) if kernel else image
    np.testing.assert_array_equal(blurred(image, blur, rows)[:2], wanted[:2])
    np.testing.assert_array_equal(blurred(image, blur, NO_ROWS), image)  # without an object, none


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_noise_only_brightens(kind: str) -> None:
    image = np.full((200, 200, 3), 60, np.uint8)
    image = image if kind == "uint8" else as_floats(image)
    added = (noisy(image, 20, rng(3)).astype(np.float64) - image) * (1 if kind == "uint8" else 255)
    assert added.min() >= -1e-4
    assert (added < 0.5).mean() == pytest.approx(0.51, abs=0.01)  # P(20*z < .5)
    assert added.mean() == pytest.approx(20 / math.sqrt(2 * math.pi), rel=0.02)
    assert noisy(np.full_like(image, 1 if kind == "float32" else 250), 127, rng(3)).max() <= 255


# Mosaic, mixup, cutmix ----------------------------------------------------------------------------------------------

NO_MARGINS = (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("tile", "given", "bound", "wanted"),
    [
        (0, (0.8, 0.8, 0.2, 0.2), False, (0.3, 0.3, 0.2, 0.2)),
        (1, (0.2, 0.8, 0.2, 0.2), False, (0.7, 0.3, 0.2, 0.2)),
        (2, (0.8, 0.2, 0.2, 0.2), False, (0.3, 0.7, 0.2, 0.2)),
        (3, (0.2, 0.2, 0.2, 0.2), False, (0.7, 0.7, 0.2, 0.2)),
        (0, (0.9, 0.9, 0.4, 0.4), False, (0.4, 0.4, 0.4, 0.4)),  # reaches into the other tiles
        (0, (0.9, 0.9, 0.4, 0.4), True, (0.35, 0.35, 0.3, 0.3)),  # cut at its tile
        (0, (0.5, 0.5, 0.4, 0.4), False, (0.1, 0.1, 0.2, 0.2)),  # cut at the border
        (0, (0.5, 0.5, 0.4, 0.4), True, (0.1, 0.1, 0.2, 0.2)),
        (0, (0.2, 0.2, 0.2, 0.2), False, None),  # outside
        (3, (0.8, 0.8, 0.2, 0.2), False, None),
        (3, (0.8, 0.8, 0.2, 0.2), True, None),
        (3, (0.5, 0.5, 1.0, 1.0), True, (0.75, 0.75, 0.5, 0.5)),
        (1, (0.005, 0.8, 0.011, 0.2), True, None),  # a pixel is left: it must be more than one
        (1, (0.01, 0.8, 0.025, 0.2), True, (0.51, 0.3, 0.02, 0.2)),
    ],
)
def test_truths_of_a_mosaic(tile: int, given: tuple[float, ...], bound: bool, wanted: tuple[float, ...] | None) -> None:
    """The cut in the middle of a network of 100x100. Boxes have whole pixels there, so 1 pixel of tolerance where they
    are cut."""
    rows = np.array([[*given, 4, 77]], np.float32)
    result = mosaic_truths(rows, tile, (50, 50), NO_MARGINS, (100, 100), bound)
    if wanted is None:
        assert len(result) == 0
        return
    np.testing.assert_allclose(result[0, :4], wanted, atol=0.0101)
    assert result[0, 4:].tolist() == [4, 0]  # data.c copies no track_id


def test_a_mosaic_shows_the_corner_of_each_image_that_lies_at_the_cut() -> None:
    images = [np.indices((80, 100)).transpose(1, 2, 0).astype(np.float32) + 1000 * k for k in range(4)]
    margins = [(0, 0, 5, 7), (3, 0, 0, 0), NO_MARGINS, (2, 4, 0, 0)]
    result = mosaic(images, (30, 20), margins)
    np.testing.assert_array_equal(result[:20, :30], images[0][53:73, 65:95])
    np.testing.assert_array_equal(result[:20, 30:], images[1][60:80, 3:73])
    np.testing.assert_array_equal(result[20:, :30], images[2][0:60, 70:100])
    np.testing.assert_array_equal(result[20:, 30:], images[3][4:64, 2:72])


def test_truths_of_a_mosaic_are_where_its_pixels_are() -> None:
    """Four images with a rectangle of a colour each; what is seen of it lies in its box, and reaches the box's border
    or its tile's."""
    generator, net_size, size = rng(21), (160, 128), (200, 150)
    seen = 0
    for bound in (True, False) * 60:
        cut = draw_cut(net_size, generator)
        images, margins, boxes = [], [], []
        for tile in range(4):
            left, top = generator.integers(0, 140), generator.integers(0, 100)
            box = (left, top, left + generator.integers(30, 60), top + generator.integers(30, 50))
            drawn = towards_cut(draw_all(NET, needs(jitter=0.2), size, generator, net_size), generator, tile)
            drawn_crop = drawn[0].possible()
            rows = training_truths(moved_truths(truth_of(size, box), drawn_crop), net_size, 1, 5, generator)
            image = boxed_image(size, box, 250)
            image[..., 1] = 60 * tile  # the tile's mark
            images.append(apply_steps(STEPS, drawn, image, rows, generator))
            margins.append(mosaic_margins(drawn_crop, cut))
            boxes.append(mosaic_truths(rows, tile, cut, margins[-1], net_size, bound))
        result = mosaic(images, cut, margins)
        for tile, rows in enumerate(boxes):
            place = np.zeros(result.shape[:2], bool)
            place[
                np.s_[cut[1] :] if tile > 1 else np.s_[: cut[1]], np.s_[cut[0] :] if tile % 2 else np.s_[: cut[0]]
            ] = True
            mask = place & (result[..., 0] > 190)
            if mask.sum() > 100 and len(rows):
                found = extent(mask)
                borders = np.array(extent(place))
                wanted = corners(rows[0, :4], net_size)
                if not bound:  # the truth may go on behind the other tiles
                    wanted = np.concatenate((np.maximum(wanted[:2], borders[:2]), np.minimum(wanted[2:], borders[2:])))
                np.testing.assert_allclose(found, wanted, atol=3.5)
                seen += 1
    assert seen > 150


def test_the_margins_of_a_tile_are_those_around_an_image_mirrored_with_it() -> None:
    drawn_crop = DrawnCrop((200, 100), (100, 100), pleft=-20, pright=30, ptop=-10, pbot=-90)
    assert mosaic_margins(drawn_crop, (50, 50)) == (10, 10, 0, 50)  # at most the tile's own side
    assert mosaic_margins(replace(drawn_crop, flip=True), (50, 50)) == (0, 10, 10, 50)


def test_mixup_is_half_of_each_and_the_truths_of_both() -> None:
    first, second = np.full((2, 2, 3), 0.2, np.float32), np.full((2, 2, 3), 0.6, np.float32)
    np.testing.assert_allclose(blend(first, second), 0.4)
    rows = np.arange(1, 25, dtype=np.float32).reshape(4, 6)
    both = blend_truths(rows[:2], rows[2:], 3)
    np.testing.assert_array_equal(both[:2], rows[:2])
    assert both[2].tolist() == [13, 14, 15, 16, 17, 0]  # the second's track_id is not copied; max=3


def test_cutmix_and_a_classifiers_mosaic_weigh_classes_by_area() -> None:
    images = [np.full((10, 20, 1), value, np.float32) for value in range(4)]
    classes = list(np.eye(4, dtype=np.float32))
    image, weights = cutmix(images, classes, (5, 2, 8, 5))
    np.testing.assert_allclose(weights, [0.8, 0.2, 0, 0], rtol=1e-6)
    assert image.sum() == 40
    assert image[2:7, 5:13].all()
    image, weights = classifier_mosaic(images, classes, (15, 4))
    np.testing.assert_allclose(weights, [0.3, 0.1, 0.45, 0.15], rtol=1e-6)
    np.testing.assert_allclose(np.bincount(image.astype(int).ravel()) / 200, weights, rtol=1e-6)


@pytest.mark.parametrize(
    ("mosaic", "cutmix", "mixup", "code"), [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 1, 2), (1, 0, 1, 3), (1, 1, 0, 4)]
)
def test_darknets_mixup_code(mosaic: int, cutmix: int, mixup: int, code: int) -> None:
    assert mixup_code(replace(NET, mosaic=mosaic, cutmix=cutmix, mixup=mixup)) == code


# Classifiers


def rotate_crop(image: np.ndarray, turn: DrawnTurn) -> np.ndarray:
    """image.c:rotate_crop_image written out: each pixel of the crop is a point of the image, between four pixels."""
    height, width = image.shape[:2]
    y, x = np.indices((turn.side, turn.side), np.float64)
    across = (x - turn.side / 2 + turn.dx) / turn.scale * turn.aspect
    down = (y - turn.side / 2 + turn.dy) / turn.scale
    rx = math.cos(turn.rad) * across - math.sin(turn.rad) * down + width / 2
    ry = math.sin(turn.rad) * across + math.cos(turn.rad) * down + height / 2
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))  # black outside
    ix, iy = np.floor(rx).astype(int), np.floor(ry).astype(int)
    fx, fy = (rx - ix)[..., None], (ry - iy)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return padded[np.clip(row + 1, 0, height + 1), np.clip(column + 1, 0, width + 1)]

    return (1 - fy) * ((1 - fx) * at(iy, ix) + fx * at(iy, ix + 1)) + fy * (
        (1 - fx) * at(iy + 1, ix) + fx * at(iy + 1, ix + 1)
    )


def test_a_classifiers_crop_is_darknets_formula() -> None:
    image = cv2.GaussianBlur(rng(1).integers(0, 256, (90, 120, 3), np.uint8), (5, 5), 0)
    generator = rng(2)
    net = replace(NET, width=64, height=64, angle=30, aspect=0.75, flip=0)
    for _ in range(30):
        context = DrawContext((120, 90), (64, 64), np.empty((0, 4), np.float32))
        turn = TurnCrop(net).draw(context, Dice.of(generator))
        result = apply_steps((TurnCrop(net), ResizeToNetwork()), (turn, (64, 64)), image, NO_ROWS, rng())
        np.testing.assert_allclose(
            result * 255, rotate_crop(image, turn), atol=2
        )  # OpenCV's fixed point: within 2 of 255
