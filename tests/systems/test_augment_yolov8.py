"""YOLOv8's augmentation, fed with what its program drew: the same pictures to a level, and the boxes of the mosaic.

Its numbers have polygons, which its warp follows and labels of boxes do not have: boxes without them are compared in
YOLOv5's numbers, whose rule is the same.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from yolos import YOLOS, arrays, augment_file, needs_yolos

from darknet_py.data.augment.canvas import Fitted, Inside, around
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import DrawContext, ImageStep, Sample
from darknet_py.data.augment.warp import DrawnWarp, Warp
from darknet_py.data.truths import OUTSIDE
from darknet_py.pictures.fit import FITS
from darknet_py.pictures.read import Image

pytestmark = needs_yolos
RNG = np.random.default_rng(0)


def content() -> dict[str, Any]:
    path = YOLOS / "yolov8/augment.json"
    return json.loads(path.read_text()) if path.is_file() else {"cases": [], "imgsz": 0}


def cases() -> list[Any]:
    """Those that paste nothing, which needs polygons."""
    found = [case for case in content()["cases"] if "hyper" in case and not case["hyper"]["copy_paste"]]
    return [pytest.param(case, id=str(case["case"])) for case in found]


def numbers() -> dict[str, Any]:
    path = augment_file("yolov8")
    return arrays(path) if path.is_file() else {}


def rgb(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def sample(number: int) -> Sample:
    boxes, classes = numbers()[f"boxes{number}_xywh_norm"], numbers()[f"class{number}"]
    rows = np.concatenate((boxes, np.stack((classes, classes), 1)), 1).astype(np.float32)
    return Sample(rgb(numbers()[f"loaded{number}"]), rows, "")


def after(step: ImageStep, made: Sample, drawn: Any) -> Sample:
    moved = step.move(made.truths[:, :4], drawn)
    rows = np.concatenate((moved, made.truths[:, 4:]), 1)[(moved != OUTSIDE).any(1)]
    return made._replace(image=step.apply(made.image, drawn, rows, RNG), truths=rows)


def mosaic(draws: list[Any], index: int, size: tuple[int, int]) -> Sample:
    tiles, y, x = (draws.pop(0)[2] for _ in range(3))
    return around([sample(number) for number in (index, *tiles)], (int(x), int(y)), size)


def warped(made: Sample, draws: list[Any], size: tuple[int, int]) -> Sample:
    across, down, angle, zoom, *rest = (draws.pop(0)[2] for _ in range(8))
    drawn = DrawnWarp(made.image.shape[1::-1], size, angle, zoom, tuple(rest[:2]), tuple(rest[2:]), (across, down))
    return after(Warp(), made, drawn)


def corners(made: Sample) -> NDArray[np.float64]:
    rows, size = made.truths, made.image.shape[1::-1]
    low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
    return np.concatenate((low * size, high * size), 1)[(rows[:, 2:4] > 0).all(1)]


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
    size, hyper = (content()["imgsz"],) * 2, case["hyper"]
    if draws.pop(0)[2] < hyper["mosaic"]:
        made = mosaic(draws, case["index"], size)
        key = assert_picture(case, "Mosaic", made)
        assert np.abs(corners(made) - numbers()[f"{key}.boxes_xyxy"]).max(initial=0) < 1e-3
    else:
        made = sample(case["index"])
        made = after(Fitted(FITS["yolov8"]), made, (made.image.shape[1::-1], size))
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
    case = next(case for case in content()["cases"] if case["case"] == name)
    gains = np.array(case["draws"][0][2]) * [0.015, 0.7, 0.4] + 1
    made = HueTables().apply(rgb(numbers()["hsv.in"]), gains, np.empty((0, 6), np.float32), RNG)
    assert np.array_equal(made, rgb(numbers()[number]))


def test_pictures_are_read_at_sizes_that_are_rounded_up() -> None:
    step, size = Inside(math.ceil), content()["imgsz"]
    for key, picture in numbers().items():
        if key.startswith("native"):
            context = DrawContext(picture.shape[1::-1], (size, size), np.empty((0, 4), np.float32))
            drawn = step.draw(context, Dice.of(RNG))
            made = step.apply(picture, drawn, context.boxes, RNG)
            assert np.array_equal(made, numbers()[key.replace("native", "loaded")])
