"""Augmentation does to pixels what Darknet does, and truths move with them."""

import math
import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from augmenting import NET, Head, rng
from kit import KIT, needs_kit

from darknet_py.data.augment import darknet as au
from darknet_py.data.augment.darknet import (
    Augmentation,
    ClassifierAugmentation,
    draw_augmentation,
    draw_classifier_augmentation,
)
from darknet_py.data.dataset import training_truths
from darknet_py.data.labels import DataWarning, make_truths

NO_ROWS = np.empty((0, 6), np.float32)


def boxed_picture(size: tuple[int, int], box: tuple[int, int, int, int], value: int = 255) -> np.ndarray:
    """Black, with a filled rectangle: left, top, right, bottom in pixels, the last two not included."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[box[1] : box[3], box[0] : box[2]] = value
    return picture


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
    """A rectangle is where its truth says, within 1.5 pixels of the network plus half a pixel of the enlarged picture."""
    size, box, net_size = (300, 200), (60, 50, 150, 120), (224, 160)
    picture, truths = boxed_picture(size, box), truth_of(size, box)
    generator = rng(11)
    seen = 0
    for net in (NET, replace(NET, letter_box=1)):
        for _ in range(150):
            one = draw_augmentation(net, Head(jitter=0.3, resize=1.5), size, generator, net_size=net_size)
            moved = au.transform_truths(truths, one)
            rows = training_truths(moved, net_size, 1, 10, generator)
            result = au.crop(picture, one, net_size)
            result = result[:, ::-1] if one.flip else result
            margin = 1.5 + max(net_size[0] / one.swidth, net_size[1] / one.sheight)
            if len(rows) and (rows[0, 2:4] * net_size > 4).all():
                found = extent(result[..., 0] > 140)  # the mean colour around is about 27
                np.testing.assert_allclose(corners(rows[0, :4], net_size), found, atol=margin)
                seen += 1
    assert seen > 250


def test_truths_of_a_hand_made_crop_and_flip() -> None:
    one = Augmentation((100, 100), pleft=20, pright=-20, ptop=0, pbot=50, flip=True)
    moved = au.transform_truths(make_truths([2, 2], [(0.5, 0.25, 0.2, 0.5), (0.5, 0.5, 1.0, 1.0)]), one)
    # 40..60 of 20..120 is .2 to .4, mirrored .6 to .8; 0..50 of 0..50 is all
    np.testing.assert_allclose(moved.xywh[0], [0.7, 0.5, 0.2, 1.0], atol=1e-6)
    # 0..100 of 20..120 is cut to 0 to .8, mirrored .2 to 1
    np.testing.assert_allclose(moved.xywh[1], [0.6, 0.5, 0.8, 1.0], atol=1e-6)
    assert moved.classes.tolist() == [2, 2]


@pytest.mark.parametrize("xywh", [(0, 0, 0.5, 0.5), (-0.6, 0.5, 1, 0.5), (0.5, 1.3, 0.5, 0.5)])
def test_boxes_that_lie_nowhere_in_the_picture_are_named_and_left_out(xywh: tuple[float, ...]) -> None:
    moved = au.transform_truths(make_truths([0], [xywh]), Augmentation((100, 100)))
    with pytest.warns(DataWarning, match=r"1\.txt: a box lies outside the picture"):
        assert len(training_truths(moved, (100, 100), 1, 10, rng(), path="1.txt")) == 0


def test_around_the_picture_is_its_mean_colour() -> None:
    picture = rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    result = au.crop(picture, Augmentation((60, 40), pleft=-60, pright=0, ptop=0, pbot=-40), (120, 80))
    mean = np.rint(picture.mean((0, 1)))
    assert (result[:, :59] == mean).all()
    assert (result[41:] == mean).all()
    np.testing.assert_array_equal(result[:39, 61:], picture[:39, 1:])
    nothing = au.crop(picture, Augmentation((60, 40), pleft=-100, pright=80), (12, 8))
    assert (nothing == mean).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_a_picture_of_any_kind_comes_out_in_the_networks_size(channels: int, kind: str) -> None:
    picture = rng(1).random((37, 53, channels), np.float32)
    picture = picture if kind == "float32" else (picture * np.iinfo(kind).max).astype(kind)
    rows = np.array([[0.5, 0.5, 0.5, 0.5, 0, 0]], np.float32)
    one = Augmentation((53, 37), -5, 4, 3, -6, True, 0.1, 1.5, 1.2, 1, 10)
    result = au.augment(picture, one, (64, 32), rows, rng())
    assert result.shape == (32, 64, channels)
    assert result.dtype == (np.uint8 if kind == "uint8" else np.float32)
    assert result.min() >= 0
    assert result.max() <= (255 if kind == "uint8" else 1)


def test_16_bit_pictures_come_out_as_those_of_8_bits() -> None:
    picture = rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (9, 9), 0)
    one = Augmentation((64, 64), -5, 4, 3, -6, True, 0.0, 1.0, 1.2)
    small = au.augment(picture, one, (80, 80), NO_ROWS, rng()) / 255
    large = au.augment(picture.astype(np.uint16) * 257, one, (80, 80), NO_ROWS, rng())
    np.testing.assert_allclose(small, large, atol=3 / 255)  # rounded thrice on the way: resize, HSV, RGB


@needs_kit
@pytest.mark.parametrize(
    "key", ["0.1_sat1.5_exp1.3", "-0.1_sat0.6_exp0.7", "0.05_sat1_exp1", "0_sat2_exp1", "0_sat1_exp1.9"]
)
def test_colours_change_as_in_the_c_program(key: str) -> None:
    """image.c:distort_image; float32 in another order of operations: 2e-6 (measured: 1.8e-6)."""
    arrays = np.load(KIT / "misc" / "image_ops.npz")
    numbers = [float(one) for one in re.split("_sat|_exp", key)]
    result = au.distort(au.as_floats(arrays["src_u8"].transpose(1, 2, 0)), *numbers)
    np.testing.assert_allclose(result.transpose(2, 0, 1), arrays[f"distort_hue{key}"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("colours", [(0.1, 1.5, 1.5), (-0.1, 0.7, 0.8), (0.0, 1.3, 1.0), (0.05, 1.0, 1.0)])
def test_a_detectors_colours_change_as_opencv_computes(colours: tuple[float, float, float]) -> None:
    """image_opencv.cpp: hsv[1] *= dsat; hsv[2] *= dexp; hsv[0] += 179*dhue, each rounded and kept within a byte."""
    picture = rng(1).integers(0, 256, (50, 50, 3), np.uint8)
    hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
    hue = cv2.add(hue, (179 * colours[0], 0, 0, 0))
    saturation, value = (
        cv2.convertScaleAbs(part, alpha=factor) for part, factor in zip((saturation, value), colours[1:], strict=True)
    )
    wanted = cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(au.distort_bytes(picture, *colours), wanted)


def test_grey_pictures_have_an_exposure_alone_and_transparency_stays() -> None:
    grey = np.array([[[10], [200]]], np.uint8)
    assert au.distort_bytes(grey, 0.1, 2.0, 1.5).tolist() == [[[15], [255]]]
    np.testing.assert_allclose(au.distort(au.as_floats(grey), 0.1, 2.0, 1.5), [[[15 / 255], [1]]], rtol=1e-6)
    four = rng(1).integers(0, 256, (5, 5, 4), np.uint8)
    for result in (au.distort_bytes(four, 0.1, 0.5, 0.5), np.rint(au.distort(au.as_floats(four), 0.1, 0.5, 0.5) * 255)):
        np.testing.assert_array_equal(result[..., 3], four[..., 3])
        assert (result[..., :3] != four[..., :3]).any()


def test_a_blur_of_the_background_spares_the_objects() -> None:
    picture = rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    rows = np.array([[0.5, 0.5, 0.25, 0.5, 0, 0]], np.float32)
    result = au.blurred(picture, 1, rows)
    inside = np.s_[25:75, 75:125]
    np.testing.assert_array_equal(result[inside], picture[inside])
    wanted = cv2.GaussianBlur(picture, (17, 17), 0)
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
    picture = rng(1).integers(0, 256, (100, 100, 3), np.uint8)
    rows = np.array([[0.5, 0.5, side, 0.95, 0, 0]], np.float32)
    wanted = cv2.GaussianBlur(picture, (kernel, kernel), 0) if kernel else picture
    np.testing.assert_array_equal(au.blurred(picture, blur, rows)[:2], wanted[:2])
    np.testing.assert_array_equal(au.blurred(picture, blur, NO_ROWS), picture)  # without an object, none


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_noise_only_brightens(kind: str) -> None:
    picture = np.full((200, 200, 3), 60, np.uint8)
    picture = picture if kind == "uint8" else au.as_floats(picture)
    added = (au.noisy(picture, 20, rng(3)).astype(np.float64) - picture) * (1 if kind == "uint8" else 255)
    assert added.min() >= -1e-4
    assert (added < 0.5).mean() == pytest.approx(0.51, abs=0.01)  # P(20*z < .5)
    assert added.mean() == pytest.approx(20 / math.sqrt(2 * math.pi), rel=0.02)
    assert au.noisy(np.full_like(picture, 1 if kind == "float32" else 250), 127, rng(3)).max() <= 255


# Mosaic, mixup, cutmix ---------------------------------------------------------------------------------------------------------

NO_SHIFT = (0, 0, 0, 0)


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
    """The cut in the middle of a network of 100x100. Boxes have whole pixels there, so 1 pixel of tolerance where they are cut."""
    rows = np.array([[*given, 4, 77]], np.float32)
    result = au.mosaic_truths(rows, tile, (50, 50), NO_SHIFT, (100, 100), bound)
    if wanted is None:
        assert len(result) == 0
        return
    np.testing.assert_allclose(result[0, :4], wanted, atol=0.0101)
    assert result[0, 4:].tolist() == [4, 0]  # data.c copies no track_id


def test_a_mosaic_shows_the_corner_of_each_picture_that_lies_at_the_cut() -> None:
    pictures = [np.indices((80, 100)).transpose(1, 2, 0).astype(np.float32) + 1000 * k for k in range(4)]
    shifts = [(0, 0, 5, 7), (3, 0, 0, 0), NO_SHIFT, (2, 4, 0, 0)]
    result = au.mosaic(pictures, (30, 20), shifts)
    np.testing.assert_array_equal(result[:20, :30], pictures[0][53:73, 65:95])
    np.testing.assert_array_equal(result[:20, 30:], pictures[1][60:80, 3:73])
    np.testing.assert_array_equal(result[20:, :30], pictures[2][0:60, 70:100])
    np.testing.assert_array_equal(result[20:, 30:], pictures[3][4:64, 2:72])


def test_truths_of_a_mosaic_are_where_its_pixels_are() -> None:
    """Four pictures with a rectangle of a colour each; what is seen of it lies in its box, and reaches the box's border or its tile's."""
    generator, net_size, size = rng(21), (160, 128), (200, 150)
    seen = 0
    for bound in (True, False) * 60:
        cut = au.draw_cut(net_size, generator)
        pictures, shifts, boxes = [], [], []
        for tile in range(4):
            left, top = generator.integers(0, 140), generator.integers(0, 100)
            box = (left, top, left + generator.integers(30, 60), top + generator.integers(30, 50))
            one = draw_augmentation(NET, Head(jitter=0.2), size, generator, net_size=net_size, tile=tile)
            rows = training_truths(au.transform_truths(truth_of(size, box), one), net_size, 1, 5, generator)
            picture = boxed_picture(size, box, 250)
            picture[..., 1] = 60 * tile  # the tile's mark
            pictures.append(au.augment(picture, one, net_size, rows, generator))
            shifts.append(au.mosaic_shifts(one, net_size, cut))
            boxes.append(au.mosaic_truths(rows, tile, cut, shifts[-1], net_size, bound))
        result = au.mosaic(pictures, cut, shifts)
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


def test_mosaic_shifts_are_the_margins_around_a_picture_mirrored_with_it() -> None:
    one = Augmentation((200, 100), pleft=-20, pright=30, ptop=-10, pbot=-90)
    assert au.mosaic_shifts(one, (100, 100), (50, 50)) == (10, 10, 0, 50)  # at most the tile's own side
    assert au.mosaic_shifts(replace(one, flip=True), (100, 100), (50, 50)) == (0, 10, 10, 50)


def test_mixup_is_half_of_each_and_the_truths_of_both() -> None:
    first, second = np.full((2, 2, 3), 0.2, np.float32), np.full((2, 2, 3), 0.6, np.float32)
    np.testing.assert_allclose(au.blend(first, second), 0.4)
    rows = np.arange(1, 25, dtype=np.float32).reshape(4, 6)
    both = au.blend_truths(rows[:2], rows[2:], 3)
    np.testing.assert_array_equal(both[:2], rows[:2])
    assert both[2].tolist() == [13, 14, 15, 16, 17, 0]  # the second's track_id is not copied; max=3


def test_cutmix_and_a_classifiers_mosaic_weigh_classes_by_area() -> None:
    pictures = [np.full((10, 20, 1), value, np.float32) for value in range(4)]
    classes = list(np.eye(4, dtype=np.float32))
    picture, weights = au.cutmix(pictures, classes, (5, 2, 8, 5))
    np.testing.assert_allclose(weights, [0.8, 0.2, 0, 0], rtol=1e-6)
    assert picture.sum() == 40
    assert picture[2:7, 5:13].all()
    picture, weights = au.classifier_mosaic(pictures, classes, (15, 4))
    np.testing.assert_allclose(weights, [0.3, 0.1, 0.45, 0.15], rtol=1e-6)
    np.testing.assert_allclose(np.bincount(picture.astype(int).ravel()) / 200, weights, rtol=1e-6)


@pytest.mark.parametrize(
    ("mosaic", "cutmix", "mixup", "code"), [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 1, 2), (1, 0, 1, 3), (1, 1, 0, 4)]
)
def test_darknets_mixup_code(mosaic: int, cutmix: int, mixup: int, code: int) -> None:
    assert au.mixup_code(replace(NET, mosaic=mosaic, cutmix=cutmix, mixup=mixup)) == code


# Classifiers -------------------------------------------------------------------------------------------------------------------


def rotate_crop(picture: np.ndarray, one: ClassifierAugmentation) -> np.ndarray:
    """image.c:rotate_crop_image as its formula says: for each pixel of the crop, the point in the picture, and its four neighbours."""
    height, width = picture.shape[:2]
    y, x = np.indices((one.side, one.side), np.float64)
    across = (x - one.side / 2 + one.dx) / one.scale * one.aspect
    down = (y - one.side / 2 + one.dy) / one.scale
    rx = math.cos(one.rad) * across - math.sin(one.rad) * down + width / 2
    ry = math.sin(one.rad) * across + math.cos(one.rad) * down + height / 2
    padded = np.pad(picture.astype(np.float64), ((1, 1), (1, 1), (0, 0)))  # black outside
    ix, iy = np.floor(rx).astype(int), np.floor(ry).astype(int)
    fx, fy = (rx - ix)[..., None], (ry - iy)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return padded[np.clip(row + 1, 0, height + 1), np.clip(column + 1, 0, width + 1)]

    return (1 - fy) * ((1 - fx) * at(iy, ix) + fx * at(iy, ix + 1)) + fy * (
        (1 - fx) * at(iy + 1, ix) + fx * at(iy + 1, ix + 1)
    )


def test_a_classifiers_crop_is_darknets_formula() -> None:
    picture = cv2.GaussianBlur(rng(1).integers(0, 256, (90, 120, 3), np.uint8), (5, 5), 0)
    generator = rng(2)
    net = replace(NET, width=64, height=64, angle=30, aspect=0.75, flip=0)
    for _ in range(30):
        one = draw_classifier_augmentation(net, (120, 90), generator)
        result = au.augment_classifier(picture, one, (64, 64))
        np.testing.assert_allclose(
            result * 255, rotate_crop(picture, one), atol=2
        )  # OpenCV's fixed point: within 2 of 255
