"""YOLOv8's augmentation, fed with what its program drew: the same pictures to a level, and the boxes of the mosaic.

Its numbers have polygons, which its warp follows and labels of boxes do not have: boxes without them are compared in
YOLOv5's numbers, whose rule is the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from replayed import RNG, after, augment_cases, corners_in, fitted, rgb, sample_of
from yolos import arrays, augment_file, content, needs_yolos

from darknet_py.data.augment.canvas import Inside, around
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import DrawContext, Sample
from darknet_py.data.augment.warp import DrawnWarp, Warp

pytestmark = needs_yolos
ABOUT = content("yolov8/augment.json")


def cases() -> list[Any]:
    """Those that paste nothing, which needs polygons."""
    every = augment_cases("yolov8")
    return [param for param in every if not param.values[0].get("hyper", {"copy_paste": 1})["copy_paste"]]


def numbers() -> dict[str, Any]:
    path = augment_file("yolov8")
    return arrays(path) if path.is_file() else {}


def sample(number: int) -> Sample:
    return sample_of(numbers()[f"loaded{number}"], numbers()[f"boxes{number}_xywh_norm"], numbers()[f"class{number}"])


def mosaic(draws: list[Any], index: int, size: tuple[int, int]) -> Sample:
    tiles, y, x = (draws.pop(0)[2] for _ in range(3))
    return around([sample(number) for number in (index, *tiles)], (int(x), int(y)), size)


def warped(made: Sample, draws: list[Any], size: tuple[int, int]) -> Sample:
    across, down, angle, zoom, *rest = (draws.pop(0)[2] for _ in range(8))
    drawn = DrawnWarp(made.image.shape[1::-1], size, angle, zoom, tuple(rest[:2]), tuple(rest[2:]), (across, down))
    return after(Warp(), made, drawn)


def assert_picture(case: dict[str, Any], name: str, made: Sample) -> str:
    """The picture of the last stage of a name; gives the stage's key."""
    stage = max(number for number, stage in enumerate(case["stages"]) if stage["name"] == name)
    key = f"case{case['case']}.stage{stage}.{name}"
    if case["hyper"]["mosaic"] == 0 and f"{key}.img_u8" not in numbers():
        return key  # the last picture alone is stored
    picture = numbers()[f"{key}.img_u8"]
    expected = picture if picture.shape[2] == 3 else picture.transpose(1, 2, 0)
    assert np.abs(made.image.astype(int) - rgb(expected)).max() <= 1
    return key


@pytest.mark.parametrize("case", cases())
def test_a_sample_is_made(case: dict[str, Any]) -> None:
    draws = [draw for draw in case["draws"] if draw[0] != "#stage"]
    size, hyper = (ABOUT["imgsz"],) * 2, case["hyper"]
    if draws.pop(0)[2] < hyper["mosaic"]:
        made = mosaic(draws, case["index"], size)
        key = assert_picture(case, "Mosaic", made)
        seen = corners_in(made)[(made.truths[:, 2:4] > 0).all(1)]
        assert np.abs(seen - numbers()[f"{key}.boxes_xyxy"]).max(initial=0) < 1e-3
    else:
        made = fitted(sample(case["index"]), "yolov8", size)
    made = warped(made, draws, size)
    assert_picture(case, "RandomPerspective", made)
    if draws.pop(0)[2] < hyper["mixup"]:
        index = draws.pop(0)[2]
        assert draws.pop(0)[2] < hyper["mosaic"]
        second = warped(mosaic(draws, index, size), draws, size)
        made = blended(made, second, draws.pop(0)[2], 1000)
        assert_picture(case, "MixUp", made)
    gains = np.array(draws.pop(0)[2]) * [hyper["hsv_h"], hyper["hsv_s"], hyper["hsv_v"]] + 1
    made = after(HueTables(), made, gains)
    for down, probability in ((True, hyper["flipud"]), (False, hyper["fliplr"])):
        made = after(Flip(1, down=down), made, draws.pop(0)[2] < probability)
    assert_picture(case, "RandomFlip", made)
    assert not draws


@pytest.mark.parametrize("number", [key for key in numbers() if key.startswith("hsv") and key != "hsv.in"] or [""])
def test_colours_change_by_tables(number: str) -> None:
    name = number.split(".")[0]
    case = next(case for case in ABOUT["cases"] if case["case"] == name)
    gains = np.array(case["draws"][0][2]) * [0.015, 0.7, 0.4] + 1
    made = HueTables().apply(rgb(numbers()["hsv.in"]), gains, np.empty((0, 6), np.float32), RNG)
    assert np.array_equal(made, rgb(numbers()[number]))


def test_pictures_are_read_at_sizes_that_are_rounded_up() -> None:
    step, size = Inside(math.ceil), ABOUT["imgsz"]
    pictures = {key: picture for key, picture in numbers().items() if key.startswith("native")}
    assert pictures
    for key, picture in pictures.items():
        context = DrawContext(picture.shape[1::-1], (size, size), np.empty((0, 4), np.float32))
        drawn = step.draw(context, Dice.of(RNG))
        made = step.apply(picture, drawn, context.boxes, RNG)
        assert np.array_equal(made, numbers()[key.replace("native", "loaded")])
