"""YOLOv8's augmentation, fed with what its program drew: the same labels at every stage, and pictures to a level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from replayed import RNG, after, augment_cases, corners_in, fitted, rgb, sample_of
from yolos import arrays, augment_file, content, needs_yolos

from darknet_py.data.augment.canvas import Inside, around
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.paste import copied, fitting
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import DrawContext, Sample
from darknet_py.data.augment.warp import DrawnWarp, Warp, warped, with_points

pytestmark = needs_yolos
ABOUT = content("yolov8/augment.json")


def numbers() -> dict[str, Any]:
    path = augment_file("yolov8")
    return arrays(path) if path.is_file() else {}


class Replay:
    """A case: its draws and stages, one after the other; in a second sample of a mixup no stage is stored."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case, self.hyper, self.size = case, case["hyper"], (ABOUT["imgsz"],) * 2
        self.draws = [tuple(draw) for draw in case["draws"] if draw[0] != "#stage"]
        self.stages: Iterator[tuple[int, dict[str, Any]]] = enumerate(case["stages"])

    def next(self, function: str) -> Any:
        name, self.arguments, result = self.draws.pop(0)
        assert name.endswith(function)
        return result

    def loaded(self, number: int) -> Sample:
        classes = numbers()[f"class{number}"]
        made = sample_of(numbers()[f"loaded{number}"], numbers()[f"boxes{number}_xywh_norm"], classes)
        polygons = [numbers()[f"segment{number}_{k}"] for k in range(len(classes))]
        return with_points(made._replace(polygons=polygons))

    def compare(self, name: str, made: Sample) -> None:
        """With the next stage, which has this name: its labels, and its picture where it is stored."""
        number, stage = next(self.stages)
        assert stage["name"] == name
        part = f"case{self.case['case']}.stage{number}.{name}"
        seen = made.truths[:, 2:4].all(1)  # a box that the mosaic has cut off is left out by the warp
        rows = made.truths[seen]
        key, boxes = {
            "xyxy pixels": ("boxes_xyxy", corners_in(made)[seen]),
            "xywh pixels": ("boxes_xywh", rows[:, :4] * (made.image.shape[1::-1] * 2)),
            "xywh normalized": ("boxes_xywh_norm", rows[:, :4]),
        }[stage["boxes"]]
        expected = numbers()[f"{part}.{key}"]
        assert boxes.shape == expected.shape
        assert np.abs(boxes - expected).max(initial=0) < 1e-4
        assert np.array_equal(rows[:, 4], numbers()[f"{part}.class"])
        if f"{part}.img_u8" in numbers():
            picture = numbers()[f"{part}.img_u8"]
            picture = picture if picture.shape[2] == 3 else picture.transpose(1, 2, 0)
            assert np.abs(made.image.astype(int) - rgb(picture)).max() <= 1

    def sample(self, index: int, *, stored: bool) -> Sample:
        """A mosaic or a single picture, with objects copied, warped."""
        compare = self.compare if stored else lambda name, made: None
        if self.next("uniform") < self.hyper["mosaic"]:
            tiles, y, x = self.next("choices"), self.next("uniform"), self.next("uniform")
            made = around([self.loaded(number) for number in (index, *tiles)], (int(x), int(y)), self.size)
        else:
            made = self.loaded(index)
        compare("Mosaic", made)
        if self.hyper["copy_paste"]:
            chosen = self.next("sample")
            assert fitting(made).tolist() == self.arguments[0][0]
            assert len(chosen) == round(self.hyper["copy_paste"] * len(fitting(made)))
            made = copied(made, chosen)
        compare("CopyPaste", made)
        made = made if made.image.shape[0] > self.size[1] else fitted(made, "yolov8", self.size)
        perspective, (angle, zoom), shear, shift = (tuple(self.next("uniform") for _ in range(2)) for _ in range(4))
        drawn = DrawnWarp(made.image.shape[1::-1], self.size, angle, zoom, shear, shift, perspective)
        made = warped(made, Warp(), drawn, RNG)
        compare("RandomPerspective", made)
        return made


@pytest.mark.parametrize("case", [param for param in augment_cases("yolov8") if "stages" in param.values[0]])
def test_a_sample_is_made(case: dict[str, Any]) -> None:
    replay, hyper = Replay(case), case["hyper"]
    made = replay.sample(case["index"], stored=True)
    if replay.next("uniform") < hyper["mixup"]:
        second = replay.sample(replay.next("randint"), stored=False)
        made = blended(made, second, replay.next("beta"), 1000)
    replay.compare("MixUp", made)
    replay.compare("Albumentations", made)
    gains = np.array(replay.next("uniform")) * [hyper["hsv_h"], hyper["hsv_s"], hyper["hsv_v"]] + 1
    made = after(HueTables(), made, gains)
    replay.compare("RandomHSV", made)
    for down, probability in ((True, hyper["flipud"]), (False, hyper["fliplr"])):
        made = after(Flip(1, down=down), made, replay.next("random") < probability)
        replay.compare("RandomFlip", made)
    assert not replay.draws
    assert not list(replay.stages)


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
