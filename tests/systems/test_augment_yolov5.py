"""YOLOv5's to v7's augmentation, fed with what their programs drew: the same labels, and pictures to a level."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from yolos import YOLOS, arrays, needs_yolos

from darknet_py.data.augment.canvas import Fitted, around, in_spiral
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import ImageStep, Sample
from darknet_py.data.augment.warp import DrawnWarp, Limits, Warp
from darknet_py.data.truths import OUTSIDE
from darknet_py.layers.needs import Rows
from darknet_py.pictures.read import Image

pytestmark = needs_yolos
RNG = np.random.default_rng(0)
ASPECT = {"yolov5": 100, "yolov6": 20, "yolov7": 20}


def cases(*prefixes: str) -> list[Any]:
    """(system, case) of all systems whose case's name begins so, without those that need polygons."""
    found = []
    for system in ASPECT:
        path = YOLOS / system / "augment.json"
        content = json.loads(path.read_text())["cases"] if path.is_file() else []
        chosen = (case for case in content if case["name"].startswith(prefixes) and not case.get("segments"))
        found += [pytest.param(system, case, id=f"{system}-{case['name']}") for case in chosen]
    return found


class Draws:
    """The draws of a case, one after the other."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.rest = [tuple(draw) for draw in case["draws"]]

    def next(self, function: str) -> Any:
        name, _, result = self.rest.pop(0)
        assert name.endswith(function)
        return result


def sample(number: int) -> Sample:
    """A picture of YOLOv5's, in RGB, with its labels."""
    numbers = arrays(YOLOS / "yolov5/augment.npz")
    labels = numbers[f"labels_{number}"]
    rows = np.concatenate((labels[:, 1:], labels[:, :1], np.zeros((len(labels), 1))), 1)
    return Sample(rgb(numbers[f"picture_{number}"]), rows.astype(np.float32), "")


def rgb(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def after(step: ImageStep, made: Sample, drawn: Any) -> Sample:
    moved = step.move(made.truths[:, :4], drawn)
    rows = np.concatenate((moved, made.truths[:, 4:]), 1)[(moved != OUTSIDE).any(1)]
    return made._replace(image=step.apply(made.image, drawn, rows, RNG), truths=rows)


def warped(system: str, made: Sample, draws: Draws, size: tuple[int, int]) -> Sample:
    perspective = (0.0, 0.0) if system == "yolov6" else (draws.next("uniform"), draws.next("uniform"))
    angle, zoom, *rest = (draws.next("uniform") for _ in range(6))
    drawn = DrawnWarp(made.image.shape[1::-1], size, angle, zoom, tuple(rest[:2]), tuple(rest[2:]), perspective)
    return after(Warp(limits=Limits(aspect=ASPECT[system])), made, drawn)


def mosaic(system: str, case: dict[str, Any], draws: Draws, index: int, size: tuple[int, int]) -> Sample:
    y, x = int(draws.next("uniform")), int(draws.next("uniform"))
    if system == "yolov6":
        tiles = case["tiles"]
    else:
        tiles = [index, *draws.next("choices")]
        tiles = draws.next("shuffle") if system == "yolov5" else tiles
    return warped(system, around([sample(number) for number in tiles], (x, y), size), draws, size)


def spiral(system: str, case: dict[str, Any], draws: Draws, index: int, size: tuple[int, int]) -> Sample:
    tiles = [index, *draws.next("choices")]
    tiles = draws.next("shuffle") if system == "yolov5" else tiles
    y, x = int(draws.next("uniform")), int(draws.next("uniform"))
    return warped(system, in_spiral([sample(number) for number in tiles], (x, y), size), draws, size)


def any_mosaic(system: str, case: dict[str, Any], draws: Draws, index: int | None, size: tuple[int, int]) -> Sample:
    """YOLOv7 decides for each mosaic whether it has nine pictures."""
    make = spiral if system == "yolov7" and draws.next("random") >= 0.8 else mosaic
    return make(system, case, draws, draws.next("randint") if index is None else index, size)


def corners(rows: Rows, size: tuple[int, int]) -> NDArray[np.float64]:
    """(m, 5): class, corners in pixels."""
    low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
    return np.concatenate((rows[:, 4:5], low * size, high * size), 1)


def assert_same(made: Sample, image: Image, labels: NDArray[Any], levels: int = 1) -> None:
    assert np.abs(made.image.astype(int) - rgb(image).astype(int)).max() <= levels
    size = made.image.shape[1::-1]
    assert len(made.truths) == len(labels)
    assert np.abs(corners(made.truths, size) - labels).max(initial=0) < 1e-3


@pytest.mark.parametrize(("system", "case"), cases("mosaic"))
def test_four_pictures_become_a_warped_mosaic(system: str, case: dict[str, Any]) -> None:
    numbers, (height, width) = arrays(YOLOS / system / "augment.npz"), case["shape"][:2]
    make = spiral if case["name"] == "mosaic9" else mosaic
    made = make(system, case, Draws(case), case.get("index", 0), (width, height))
    assert_same(made, numbers[f"{case['name']}_image"], numbers[f"{case['name']}_labels"])


@pytest.mark.parametrize(("system", "case"), cases("affine"))
def test_a_picture_is_warped(system: str, case: dict[str, Any]) -> None:
    numbers = arrays(YOLOS / system / "augment.npz")
    labels = numbers["affine_in_labels"]
    size = np.tile(numbers["affine_in_image"].shape[1::-1], 2)
    xyxy = labels[:, 1:] / size
    xywh = np.concatenate(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]), 1)
    rows = np.concatenate((xywh, labels[:, :1], labels[:, :1]), 1).astype(np.float32)
    made = warped(system, Sample(rgb(numbers["affine_in_image"]), rows, ""), Draws(case), (96, 96))
    assert_same(made, numbers["affine_image"], numbers["affine_labels"])


@pytest.mark.parametrize(("system", "case"), cases("getitem_mosaic_mixup", "getitem_plain", "getitem_mixup"))
def test_a_sample_is_made(system: str, case: dict[str, Any]) -> None:
    numbers, draws, hyp = arrays(YOLOS / system / "augment.npz"), Draws(case), case["hyp"]
    size = tuple(case["shape"][:0:-1])
    if draws.next("random") < hyp["mosaic"]:
        made = any_mosaic(system, case, draws, case["index"], size)
        if draws.next("random") < hyp["mixup"]:
            second = any_mosaic(system, case, draws, None, size)
            made = blended(made, second, draws.next("beta"), 1000)
    else:
        fitted = Fitted()
        picture = sample(case["index"])
        made = after(fitted, picture, (picture.image.shape[1::-1], size))
        made = warped(system, made, draws, size)
    gains = np.array(draws.next("uniform")) * [hyp["hsv_h"], hyp["hsv_s"], hyp["hsv_v"]] + 1
    made = after(HueTables(), made, gains)
    if system == "yolov7":
        assert draws.next("random") >= hyp["paste_in"]
    for down, probability in ((True, hyp["flipud"]), (False, hyp["fliplr"])):
        made = after(Flip(1, down=down), made, draws.next("random") < probability)
    expected = numbers[f"{case['name']}_image"].transpose(1, 2, 0)  # RGB
    assert np.abs(made.image.astype(int) - expected).max() <= 1
    labels = numbers[f"{case['name']}_labels"]
    assert np.abs(made.truths[:, (4, 0, 1, 2, 3)] - labels[:, 1:]).max() < 2e-5
    assert not draws.rest


def test_hue_turns_and_the_rest_is_cut() -> None:
    numbers = arrays(YOLOS / "yolov5/augment.npz")
    (case,) = (param.values[1] for param in cases("augment_hsv"))
    gains = np.array(Draws(case).next("uniform")) * case["gains"] + 1
    made = HueTables().apply(rgb(numbers["picture_0"]), gains, np.empty((0, 6), np.float32), RNG)
    assert np.array_equal(made, rgb(numbers["augment_hsv_image"]))
