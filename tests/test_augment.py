"""Augmentation is Darknet's: what is drawn has its distributions, pixels and truths move together, and batches can be repeated.

Statistics are of fixed seeds; a tolerance for a share of n draws is about 4 standard deviations, 4*sqrt(p*(1-p)/n).
"""

import math
import multiprocessing
import os
import pickle
import re
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from kit import KIT, REALDATA, needs_kit, needs_realdata

from darknet_py.data import augment as au
from darknet_py.data.augment import Augmentation, ClassifierAugmentation, draw_augmentation, draw_classifier_augmentation
from darknet_py.data.dataset import Dataset, open_dataset, training_truths
from darknet_py.data.labels import DataWarning, make_truths
from darknet_py.data.loader import (
    SECRET_NUM,
    Batch,
    Wanted,
    _Detection,
    cell_truths,
    class_vector,
    classifier_batches,
    detection_batches,
    fill_hierarchy,
    preview,
)
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.layers.detection import Detection
from darknet_py.layers.softmax import Tree
from darknet_py.layers.yolo import Yolo

DRAWS = 20_000
NET = NetOptions(width=416, height=416, channels=3)


@dataclass(frozen=True)
class Head:
    """What is read of a detection head's options."""

    jitter: float = 0.3
    resize: float = 1.0
    classes: int = 3
    max: int = 20


NO_ROWS = np.empty((0, 6), np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draws(net: NetOptions, head: Head, size: tuple[int, int] = (1000, 500), n: int = DRAWS, **more: Any) -> dict[str, np.ndarray]:
    generator = rng(7)
    every = [draw_augmentation(net, head, size, generator, **more) for _ in range(n)]
    return {name: np.array([getattr(one, name) for one in every]) for name in (*vars(every[0]), "swidth", "sheight")}


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov: the largest distance of the distributions, 1.95/sqrt(n) at a risk of 1 in 1000."""
    placed = (np.sort(values) - low) / (high - low)
    assert placed[0] >= -1e-6
    assert placed[-1] <= 1 + 1e-6
    assert np.abs(placed - (np.arange(len(placed)) + 0.5) / len(placed)).max() < 1.95 / math.sqrt(len(placed))


# What is drawn ----------------------------------------------------------------------------------------------------------------


def test_jitter_moves_each_side_uniformly_by_up_to_its_part_of_the_picture() -> None:
    drawn = draws(NET, Head(jitter=0.3))
    spread = rng(1).uniform(-0.5, 0.5, DRAWS)  # integers made continuous again
    for name, most in (("pleft", 300), ("pright", 300), ("ptop", 150), ("pbot", 150)):
        assert abs(drawn[name]).max() <= most
        assert_uniform(drawn[name] + spread * 0.999, -most - 0.5, most + 0.5)
    sides = np.stack([drawn[name] for name in ("pleft", "pright", "ptop", "pbot")])
    np.testing.assert_allclose(np.corrcoef(sides), np.eye(4), atol=0.03)  # independent: 4/sqrt(20000)
    np.testing.assert_array_equal(drawn["swidth"], 1000 - drawn["pleft"] - drawn["pright"])


@pytest.mark.parametrize(("resize", "low", "high"), [(1.5, -250, 166), (0.5, -500, 0), (2.0, -500, 250)])
def test_resize_moves_left_and_top_by_one_part_of_a_zoom_and_right_and_bottom_by_another(
    resize: float, low: int, high: int
) -> None:
    """low = ow*(1-r)/2 and high = ow*(1-1/r)/2 for r >= 1; under 1 there is room to shrink only."""
    drawn = draws(NET, Head(jitter=0, resize=resize))
    spread = rng(1).uniform(0, 1, DRAWS) * np.sign(drawn["pleft"])  # pixels are cut off towards 0
    # parts of 1/1000 pixel, and the doubled 0: a little wider than exact
    placed = np.sort((drawn["pleft"] + spread - low) / (high - low))
    assert np.abs(placed - np.linspace(0, 1, DRAWS)).max() < 0.02
    assert drawn["pleft"].min() >= low
    assert drawn["pleft"].max() <= high
    np.testing.assert_allclose(drawn["pleft"] / 1000, drawn["ptop"] / 500, atol=2.1 / 500)
    np.testing.assert_allclose(drawn["pright"] / 1000, drawn["pbot"] / 500, atol=2.1 / 500)
    assert abs(np.corrcoef(drawn["pleft"], drawn["pright"])[0, 1]) < 0.03


def test_an_impossible_crop_is_the_whole_picture() -> None:
    drawn = draws(NET, Head(jitter=0.9), n=2000)
    assert drawn["swidth"].min() > 0
    assert drawn["sheight"].min() > 0
    assert ((drawn["pleft"] == 0) & (drawn["pbot"] == 0)).sum() > 200


def test_half_of_the_pictures_are_mirrored_unless_flip_is_0() -> None:
    assert draws(NET, Head())["flip"].mean() == pytest.approx(0.5, abs=0.015)
    assert not draws(replace(NET, flip=0), Head(), n=200)["flip"].any()


def test_hue_is_uniform_and_saturation_and_exposure_are_inverted_in_half_of_the_cases() -> None:
    drawn = draws(replace(NET, hue=0.1, saturation=1.5, exposure=3.0), Head())
    assert_uniform(drawn["dhue"], -0.1, 0.1)
    for name, most in (("dsat", 1.5), ("dexp", 3.0)):
        more = drawn[name] >= 1
        assert more.mean() == pytest.approx(0.5, abs=0.015)
        assert_uniform(drawn[name][more], 1, most)
        assert_uniform(1 / drawn[name][~more], 1, most)
    neutral = draws(NET, Head(), n=50)
    assert {tuple(one) for one in np.stack([neutral[name] for name in ("dhue", "dsat", "dexp")], 1)} == {(0, 1, 1)}


def test_a_saturation_of_0_counts_as_1() -> None:
    assert (draws(replace(NET, saturation=0, exposure=0), Head(), n=20)["dsat"] == 1).all()


def test_blur_is_none_the_background_or_all_and_noise_is_there_in_half_of_the_cases() -> None:
    drawn = draws(replace(NET, blur=9, gaussian_noise=30), Head())
    for value in (0, 1, 9):
        assert (drawn["blur"] == value).mean() == pytest.approx(1 / 3, abs=0.014)
    assert (drawn["gaussian_noise"] == 30).mean() == pytest.approx(0.5, abs=0.015)
    assert set(drawn["gaussian_noise"]) == {0, 30}
    assert (draws(replace(NET, blur=1), Head())["blur"] == 1).mean() == pytest.approx(2 / 3, abs=0.014)


@pytest.mark.parametrize("size", [(1000, 500), (500, 1000), (640, 480)])
@pytest.mark.parametrize("net_size", [(416, 416), (608, 352)])
def test_letter_box_adds_margins_until_the_proportions_are_the_networks(size: tuple[int, int], net_size: tuple[int, int]) -> None:
    one = draw_augmentation(replace(NET, letter_box=1), Head(jitter=0), size, rng(), net_size=net_size)
    assert one.swidth / one.sheight == pytest.approx(net_size[0] / net_size[1], rel=0.01)
    assert max(one.pleft, one.pright, one.ptop, one.pbot) <= 0
    assert min(one.pleft, one.ptop) == min(one.pright, one.pbot)  # the same on both sides
    assert max(one.swidth - size[0], 0) * max(one.sheight - size[1], 0) == 0  # in one direction


@pytest.mark.parametrize("tile", range(4))
def test_half_of_a_mosaics_pictures_are_moved_towards_the_cut(tile: int) -> None:
    plain, moved = draws(NET, Head(), n=5000), draws(NET, Head(), n=5000, tile=tile)
    towards_left = (tile % 2 == 0) != moved["flip"]
    in_corner = (np.where(towards_left, moved["pleft"], moved["pright"]) == 0) & (
        (moved["ptop"] if tile < 2 else moved["pbot"]) == 0
    )
    assert in_corner.mean() == pytest.approx(0.5, abs=0.03)
    assert moved["swidth"].mean() == pytest.approx(plain["swidth"].mean(), abs=20)  # the crop keeps its size


def test_a_mosaics_tiles_meet_at_20_to_80_percent() -> None:
    generator = rng(3)
    cuts = np.array([au.draw_cut((416, 352), generator) for _ in range(DRAWS)])
    assert cuts.min(0).tolist() == [83, 70]  # int(416*.2), int(352*.2)
    assert cuts.max(0).tolist() == [332, 281]
    assert_uniform(cuts[:, 0] + rng(1).uniform(-0.5, 0.5, DRAWS), 82.5, 332.5)


def test_a_cutmix_patch_has_30_to_80_percent_of_each_side_and_lies_anywhere() -> None:
    generator = rng(3)
    left, top, width, height = np.array([au.draw_patch((224, 100), generator) for _ in range(DRAWS)]).T
    assert (width.min(), width.max(), height.min(), height.max()) == (67, 179, 30, 80)
    assert (left + width).max() == 223  # rand_int(0, w - cut_w - 1)
    assert left.min() == top.min() == 0
    assert (top + height).max() == 99
    assert_uniform(width + rng(1).uniform(-0.5, 0.5, DRAWS), 66.5, 179.5)


def test_a_classifiers_crop() -> None:
    net = replace(NET, width=224, height=224, angle=7.0, aspect=0.75, min_crop=128, max_crop=448, hue=0.1, saturation=0.75)
    generator = rng(5)
    drawn = [draw_classifier_augmentation(net, (500, 300), generator) for _ in range(DRAWS)]
    assert_uniform(np.degrees([one.rad for one in drawn]), -7, 7)
    aspect = np.array([one.aspect for one in drawn])
    assert_uniform(aspect[aspect < 1], 0.75, 1)
    assert_uniform(1 / aspect[aspect > 1], 0.75, 1)
    assert (aspect < 1).mean() == pytest.approx(0.5, abs=0.015)
    short = np.array([one.scale * int(min(300, 500 * one.aspect)) for one in drawn])  # the short side becomes min_crop..max_crop
    assert_uniform(short + rng(1).uniform(-0.5, 0.5, DRAWS), 127.5, 448.5)
    room = np.array([[max(0, (500 * one.scale / one.aspect - 224) / 2), max(0, (300 * one.scale - 224) / 2)] for one in drawn])
    moved = np.array([[one.dx, one.dy] for one in drawn])
    assert (np.abs(moved) <= room + 1e-6).all()
    there = room[:, 0] > 0
    assert_uniform(moved[there, 0] / room[there, 0], -1, 1)
    assert {one.side for one in drawn} == {224}
    assert draw_classifier_augmentation(net, (500, 300), generator, net_size=(320, 256)).side == 320
    default = replace(net, min_crop=None, max_crop=None, aspect=1.0)
    short = np.array([draw_classifier_augmentation(default, (500, 300), generator).scale * 300 for _ in range(500)])
    assert 224 <= short.min() < short.max() <= 448.001


# What it does to pixels and truths --------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("key", ["0.1_sat1.5_exp1.3", "-0.1_sat0.6_exp0.7", "0.05_sat1_exp1", "0_sat2_exp1", "0_sat1_exp1.9"])
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


# Mosaic, mixup, cutmix --------------------------------------------------------------------------------------------------------

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
            place[np.s_[cut[1] :] if tile > 1 else np.s_[: cut[1]], np.s_[cut[0] :] if tile % 2 else np.s_[: cut[0]]] = True
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


# Classifiers ------------------------------------------------------------------------------------------------------------------


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

    return (1 - fy) * ((1 - fx) * at(iy, ix) + fx * at(iy, ix + 1)) + fy * ((1 - fx) * at(iy + 1, ix) + fx * at(iy + 1, ix + 1))


def test_a_classifiers_crop_is_darknets_formula() -> None:
    picture = cv2.GaussianBlur(rng(1).integers(0, 256, (90, 120, 3), np.uint8), (5, 5), 0)
    generator = rng(2)
    net = replace(NET, width=64, height=64, angle=30, aspect=0.75, flip=0)
    for _ in range(30):
        one = draw_classifier_augmentation(net, (120, 90), generator)
        result = au.augment_classifier(picture, one, (64, 64))
        np.testing.assert_allclose(result * 255, rotate_crop(picture, one), atol=2)  # OpenCV's fixed point: within 2 of 255


def test_a_classifiers_label_is_any_that_is_part_of_the_path() -> None:
    labels = ["cat", "dog", "n0123"]
    assert class_vector("train/n0123/5.jpg", labels).tolist() == [0, 0, 1]
    np.testing.assert_allclose(class_vector("dog.jpg", labels, 0.1), [0.05, 0.9, 0.05], rtol=1e-6)
    with pytest.warns(DataWarning, match="several labels are part of this path: cat, dog"):
        assert class_vector("cat_and_dog.jpg", labels).tolist() == [1, 1, 0]
    with pytest.warns(DataWarning, match="no label is part of this path"):
        assert class_vector("bird.jpg", labels).tolist() == [0, 0, 0]


def test_a_class_tree_fills_in_the_ancestors_and_masks_groups_without_a_truth() -> None:
    # 0 animal, 1 thing; 2 dog and 3 cat below 0; 4 car and 5 cup below 1; 6 poodle below 2
    parents, groups = np.array([-1, -1, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2, 3])
    vector = np.zeros(7, np.float32)
    vector[2] = 1
    assert fill_hierarchy(vector, parents, groups).tolist() == [1, 0, 1, 0, SECRET_NUM, SECRET_NUM, SECRET_NUM]


def test_truths_by_cell_for_yolov1() -> None:
    rows = np.array([[0.75, 0.3, 0.2, 0.4, 1, 0], [0.8, 0.1, 0.1, 0.1, 0, 0], [1.0, 1.0, 0.5, 0.5, 0, 0]], np.float32)
    cells = cell_truths(rows, 2, 3).reshape(2, 2, 8)
    np.testing.assert_allclose(cells[0, 1], [1, 0, 1, 0, 0.5, 0.6, 0.2, 0.4], rtol=1e-6)  # of two in the cell, the first
    assert cells[1, 1, :4].tolist() == [1, 1, 0, 0]
    assert not cells[:, 0].any()


# Batches ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six pictures of different sizes with one to four objects each."""
    folder = tmp_path_factory.mktemp("set")
    generator = rng(9)
    images = []
    for k in range(6):
        height, width = generator.integers(40, 90, 2)
        path = folder / f"cat{k}.png"
        cv2.imwrite(str(path), generator.integers(0, 256, (height, width, 3), np.uint8))
        lines = [
            f"{generator.integers(3)} {' '.join(f'{v:.3f}' for v in generator.uniform(0.3, 0.6, 4))}" for _ in range(1 + k % 4)
        ]
        path.with_suffix(".txt").write_text("\n".join(lines))
        images.append(str(path))
    return Dataset(images, ["cat", "dog", "cow"], "set")


SMALL = replace(NET, width=64, height=48, hue=0.1, saturation=1.5, exposure=1.5)


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    result = list(islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return result


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.paths == other.paths
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.truths, other.truths)


@pytest.mark.parametrize("options", [{"mosaic": 1}, {"mixup": 1}, {"letter_box": 1}, {"blur": 1, "gaussian_noise": 20}])
def test_a_batch_is_pictures_and_truths(dataset: Dataset, options: dict[str, int]) -> None:
    for batch in first(detection_batches(dataset, replace(SMALL, **options), Head(), mini_batch=5, seed=1, workers=0), 6):
        assert batch.images.shape == (5, 3, 48, 64)
        assert batch.images.dtype == batch.truths.dtype == torch.float32
        assert 0 <= batch.images.min() < batch.images.max() <= 1
        assert batch.truths.shape == (5, 20, 7 if options.get("mixup") else 6)
        assert set(batch.paths) <= set(dataset.images)
        there = batch.truths[..., 0] > 0
        assert (there == (batch.truths[..., 2] > 0)).all()
        assert (there.int().diff(dim=1) <= 0).all()  # zeros end the list
        rows = batch.truths[there]
        assert len(rows) > 0
        low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
        beyond = 1 / 48 if "mosaic" in options else 1e-6  # a mosaic's boxes are cut at whole pixels, towards 0
        assert low.min() > -beyond
        assert high.max() < 1 + beyond
        assert (rows[:, 2:4] >= 1 / torch.tensor([64, 48]) - 1e-6).all()
        assert set(rows[:, 4].tolist()) <= {0, 1, 2}


def test_the_same_seed_gives_the_same_batches_whatever_the_number_of_workers(dataset: Dataset) -> None:
    net = replace(SMALL, mosaic=1, gaussian_noise=20)

    def batches(workers: int, seed: int = 4, **more: Any) -> list[Batch]:
        return first(detection_batches(dataset, net, Head(), mini_batch=3, seed=seed, workers=workers, **more), 5)

    plain = batches(0)
    for workers in (1, 2):
        assert_same(batches(workers), plain)
    assert not torch.equal(batches(0, seed=5)[0].images, plain[0].images)
    assert not torch.equal(plain[0].images, plain[1].images)


def test_starting_at_a_mini_batch_is_the_same_as_skipping_those_before(dataset: Dataset) -> None:
    for workers in (0, 2):
        whole = first(detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=4, workers=0), 7)
        assert_same(first(detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=4, start=4, workers=workers), 3), whole[4:])


def test_size_and_mini_batch_may_follow_the_number(dataset: Dataset) -> None:
    def size_of(number: int) -> tuple[int, int]:
        return (32 + 32 * (number // 2), 32)

    for workers in (0, 2):
        batches = detection_batches(
            dataset, SMALL, Head(), mini_batch=lambda k: 1 + k, seed=1, start=1, workers=workers, size=size_of
        )
        shapes = [tuple(batch.images.shape) for batch in first(batches, 4)]
        assert shapes == [(2, 3, 32, 32), (3, 3, 32, 64), (4, 3, 32, 64), (5, 3, 32, 96)]


def test_pictures_are_drawn_evenly_with_replacement(dataset: Dataset) -> None:
    net = replace(SMALL, width=8, height=8)
    batch = next(detection_batches(dataset, net, Head(), mini_batch=1500, seed=1, workers=0))
    share = np.array([batch.paths.count(path) for path in dataset.images]) / 1500
    np.testing.assert_allclose(share, 1 / 6, atol=0.039)


def test_half_of_the_samples_are_mosaics(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(au, "mosaic", lambda pictures, *_: made.append(1) or pictures[0])
    next(detection_batches(dataset, replace(SMALL, width=8, height=8, mosaic=1), Head(), mini_batch=500, seed=1, workers=0))
    assert len(made) / 500 == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize(("channels", "kind"), [(1, np.uint8), (3, np.uint16), (4, np.uint8)])
def test_grey_transparent_and_16_bit_pictures(tmp_path: Path, channels: int, kind: Any) -> None:
    picture = rng(1).integers(0, np.iinfo(kind).max, (40, 50, 4 if channels == 4 else 3), kind)
    cv2.imwrite(str(tmp_path / "1.png"), picture)
    (tmp_path / "1.txt").write_text("0 .5 .5 .5 .5")
    one = Dataset([str(tmp_path / "1.png")], ["cat"], "set")
    for options in ({}, {"mosaic": 1}, {"mixup": 1}, {"blur": 5}):
        net = replace(SMALL, channels=channels, **options)
        batch = next(detection_batches(one, net, Head(), mini_batch=8, seed=1, workers=0))
        assert batch.images.shape == (8, channels, 48, 64)
        assert 0.1 < batch.images.mean() < 0.9


def damaged(dataset: Dataset, tmp_path: Path) -> Dataset:
    """One good picture among a missing one, one that is none, and one with malformed labels."""
    (tmp_path / "none.jpg").write_bytes(b"no picture")
    picture = cv2.imread(dataset.images[0])
    cv2.imwrite(str(tmp_path / "labels.png"), picture)
    (tmp_path / "labels.txt").write_text("0 .5 .5")
    return replace(
        dataset, images=[dataset.images[1], str(tmp_path / "missing.jpg"), str(tmp_path / "none.jpg"), str(tmp_path / "labels.png")]
    )


def test_a_picture_that_cannot_be_used_is_named_and_another_takes_its_place(dataset: Dataset, tmp_path: Path) -> None:
    bad = damaged(dataset, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        batch = next(detection_batches(bad, SMALL, Head(), mini_batch=30, seed=1, workers=0))
    assert set(batch.paths) == {dataset.images[1]}
    said = sorted(str(one.message) for one in caught)
    assert len(said) == 3
    assert all(one.endswith("; another picture takes its place") for one in said)
    assert "labels.txt:1: '0 .5 .5' is 3 values" in said[0]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_where_no_picture_can_be_used_training_stops_with_a_sentence(dataset: Dataset, tmp_path: Path, workers: int) -> None:
    bad = replace(damaged(dataset, tmp_path), images=[str(tmp_path / "missing.jpg")])
    with pytest.raises(DarknetError, match=r"missing\.jpg: cannot read .* 50 pictures in a row") as raised:
        next(detection_batches(bad, SMALL, Head(), mini_batch=2, seed=1, workers=workers))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("net", "head", "message"),
    [
        ({"letter_box": 1, "mosaic": 1}, {}, "letter_box=1 and mosaic=1 do not go together"),
        ({}, {"resize": 0.0}, "resize=0"),
        ({"channels": 6}, {}, "channels=6"),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(
    dataset: Dataset, net: dict[str, int], head: dict[str, float], message: str
) -> None:
    with pytest.raises(DarknetError, match=message):
        detection_batches(dataset, replace(SMALL, **net), Head(**head), mini_batch=2, seed=1, workers=0)


def test_a_data_set_without_any_label_file_cannot_train_a_detector(dataset: Dataset) -> None:
    with pytest.raises(DarknetError, match="none of its 6 pictures has a label file"):
        detection_batches(replace(dataset, kind="none"), SMALL, Head(), mini_batch=2, seed=1, workers=0)


def test_detectors_ignore_cutmix_and_say_so(dataset: Dataset) -> None:
    with pytest.warns(DataWarning, match="cutmix=1"):
        batches = detection_batches(dataset, replace(SMALL, cutmix=1), Head(), mini_batch=2, seed=1, workers=0)
    assert_same(first(batches, 2), first(detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=1, workers=0), 2))


def test_workers_end_with_their_batches(dataset: Dataset) -> None:
    before = {one.pid for one in multiprocessing.active_children()}
    batches = detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=1, workers=2)
    next(batches)
    assert len({one.pid for one in multiprocessing.active_children()} - before) == 2
    batches.close()  # type: ignore[attr-defined]
    assert {one.pid for one in multiprocessing.active_children()} <= before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals as on Unix")
def test_workers_stay_when_all_processes_are_asked_to_end(dataset: Dataset) -> None:
    """`timeout` and schedulers send SIGTERM to the whole group; the parent finishes its iteration, and needs batches for it."""
    before = {one.pid for one in multiprocessing.active_children()}
    batches = detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=1, workers=2)
    next(batches), next(batches)  # one of each worker, so both have started
    for pid in {one.pid for one in multiprocessing.active_children()} - before:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert len(first(batches, 8)) == 8
    assert {one.pid for one in multiprocessing.active_children()} <= before


def test_a_worker_that_is_killed_is_one_sentence(dataset: Dataset) -> None:
    before = {one.pid for one in multiprocessing.active_children()}
    batches = detection_batches(dataset, SMALL, Head(), mini_batch=2, seed=1, workers=1)
    next(batches)
    (worker,) = [one for one in multiprocessing.active_children() if one.pid not in before]
    worker.kill()
    worker.join()
    with pytest.raises(DarknetError, match="a process that reads pictures died"):
        first(batches, 100)


def test_the_global_random_numbers_are_left_alone(dataset: Dataset) -> None:
    torch.manual_seed(3)
    state, ours = torch.get_rng_state(), np.random.get_state()[1].copy()
    first(detection_batches(dataset, replace(SMALL, mosaic=1), Head(), mini_batch=2, seed=1, workers=1), 2)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], ours)


@pytest.mark.parametrize("options", [{}, {"mixup": 1}, {"cutmix": 1}, {"mosaic": 1}, {"mosaic": 1, "cutmix": 1}, {"blur": 1}])
def test_batches_for_a_classifier(dataset: Dataset, options: dict[str, int]) -> None:
    mixed = replace(dataset, images=dataset.images[:2], written=["cat/1.png", "dog/2.png"], kind="none")
    net = replace(SMALL, angle=7, aspect=0.75, label_smooth_eps=0.1, **options)

    def batches(workers: int, start: int = 0) -> Iterator[Batch]:
        return classifier_batches(mixed, net, mini_batch=8, seed=2, workers=workers, start=start)

    whole = first(batches(0), 3)
    for batch in whole:
        assert batch.images.shape == (8, 3, 48, 64)
        assert batch.truths.shape == (8, 3)
        np.testing.assert_allclose(batch.truths.sum(1), 1, rtol=1e-5)
        assert 0.1 < batch.images.mean() < 0.9
    assert_same(first(batches(2, 1), 2), whole[1:])
    pure = np.isclose(np.concatenate([batch.truths for batch in whole]).max(1), 0.9)
    assert pure.all() == (not set(options) & {"mixup", "cutmix", "mosaic"})


def test_a_class_tree_in_batches_for_a_classifier(dataset: Dataset) -> None:
    labelled = replace(dataset, labels=["animal", "thing", "cat", "dog"], images=dataset.images[:1])
    tree = Tree(labelled.labels, [-1, -1, 0, 0])
    batch = next(classifier_batches(labelled, SMALL, mini_batch=2, seed=1, workers=0, tree=tree))
    assert batch.truths.tolist() == [[1, 0, 1, 0]] * 2


def test_a_yolov1_head_gets_its_truths_by_cell(dataset: Dataset) -> None:
    head = Detection.Options(classes=3, side=5, coords=4, max=20)
    batch = next(detection_batches(dataset, SMALL, head, mini_batch=4, seed=1, workers=0))
    assert batch.truths.shape == (4, 5 * 5 * (1 + 3 + 4))
    cells = batch.truths.reshape(4, 25, 8)
    there = cells[..., 0] == 1
    assert there.any()
    assert (cells[there][:, 1:4].sum(1) == 1).all()
    assert not cells[~there].any()


def test_all_that_a_worker_needs_can_be_sent_to_it(dataset: Dataset) -> None:
    """Where processes are not forked (Windows, macOS), it is pickled."""
    options = Yolo.Options(classes=3, num=1, anchors=(1, 1))
    samples, wanted = _Detection(dataset, SMALL, 1, options, 0), Wanted(3, 2, (32, 32), 3)
    left, right = samples[wanted], pickle.loads(pickle.dumps(samples))[wanted]
    assert_same([left], [right])


def test_a_classifier_needs_as_many_labels_as_classes(dataset: Dataset) -> None:
    with pytest.raises(DarknetError, match="3 labels, but the network has 10 classes"):
        classifier_batches(dataset, SMALL, mini_batch=2, seed=1, workers=0, classes=10)
    assert next(classifier_batches(dataset, SMALL, mini_batch=2, seed=1, workers=0, classes=2)).truths.shape == (2, 2)


@needs_realdata
def test_a_preview_shows_all_pictures_with_their_boxes() -> None:
    bccd = open_dataset(REALDATA / "bccd/bccd.data")
    net = replace(NET, width=256, height=192, mosaic=1, saturation=1.5, exposure=1.5, hue=0.1)
    batch = next(detection_batches(bccd, net, Head(max=90), mini_batch=5, seed=3, workers=0))
    shown = preview(batch, bccd.names)
    assert shown.shape == (2 * 192, 3 * 256, 3)
    assert shown.dtype == np.uint8
    plain = (batch.images[0].permute(1, 2, 0).numpy() * 255).round()
    changed = (shown[:192, :256] != plain).any(2)
    assert 0.01 < changed.mean() < 0.6  # lines and names
    assert (shown[192:, 512:] == 127).all()  # no sixth picture
    vector = Batch(batch.images, torch.eye(5)[:, :3], batch.paths)
    assert preview(vector, bccd.names, columns=5).shape == (192, 5 * 256, 3)
