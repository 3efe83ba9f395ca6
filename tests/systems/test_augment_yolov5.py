"""YOLOv5's to v7's augmentation, fed with what their programs drew: the same labels, and pictures to a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from replayed import RNG, after, corners_in, fitted, fractions_of, rgb, sample_of
from yolos import YOLOS, arrays, content, needs_yolos

from darknet_py.data.augment.canvas import around, in_spiral
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import Sample
from darknet_py.data.augment.warp import DrawnWarp, Limits, Warp
from darknet_py.pictures.read import Image

pytestmark = needs_yolos
ASPECT = {"yolov5": 100, "yolov6": 20, "yolov7": 20}


def cases(*prefixes: str) -> list[Any]:
    """(system, case) of all systems whose case's name begins so, without those that need polygons."""
    found = []
    for system in ASPECT:
        listed = content(f"{system}/augment.json").get("cases", [])
        chosen = (case for case in listed if case["name"].startswith(prefixes) and not case.get("segments"))
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
    return sample_of(numbers[f"picture_{number}"], labels[:, 1:], labels[:, 0])


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


def assert_same(made: Sample, image: Image, labels: NDArray[Any]) -> None:
    """labels: (m, 5), class, corners in pixels."""
    assert np.abs(made.image.astype(int) - rgb(image).astype(int)).max() <= 1
    assert len(made.truths) == len(labels)
    assert np.array_equal(made.truths[:, 4], labels[:, 0])
    assert np.abs(corners_in(made) - labels[:, 1:]).max(initial=0) < 1e-3


@pytest.mark.parametrize(("system", "case"), cases("mosaic"))
def test_four_pictures_become_a_warped_mosaic(system: str, case: dict[str, Any]) -> None:
    numbers, (height, width) = arrays(YOLOS / system / "augment.npz"), case["shape"][:2]
    make = spiral if case["name"] == "mosaic9" else mosaic
    made = make(system, case, Draws(case), case.get("index", 0), (width, height))
    assert_same(made, numbers[f"{case['name']}_image"], numbers[f"{case['name']}_labels"])


@pytest.mark.parametrize(("system", "case"), cases("affine"))
def test_a_picture_is_warped(system: str, case: dict[str, Any]) -> None:
    numbers = arrays(YOLOS / system / "augment.npz")
    image, labels = numbers["affine_in_image"], numbers["affine_in_labels"]
    before = sample_of(image, fractions_of(labels[:, 1:], image.shape[1::-1]), labels[:, 0])
    made = warped(system, before, Draws(case), (96, 96))
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
        made = warped(system, fitted(sample(case["index"]), "yolov5", size), draws, size)
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
