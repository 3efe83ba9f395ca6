"""YOLOv5's to v7's augmentation, fed with what their programs drew: the same labels, and pictures to a level.

Each case of the folders is replayed, by what its name begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from replayed import RNG, after, corners_in, fitted, fractions_of, rgb, sample_of
from yolos import YOLOS, arrays, content, needs_yolos

from darknet_py.data.augment.canvas import around, in_spiral
from darknet_py.data.augment.colour import HueTables
from darknet_py.data.augment.mixup import blended
from darknet_py.data.augment.paste import (
    CUT,
    CUTOUTS,
    SCALES,
    TAKEN,
    Place,
    apart,
    copied,
    cut_out,
    pasted,
    place_around,
)
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import Sample, Size
from darknet_py.data.augment.warp import DrawnWarp, Limits, Warp, warped, with_points
from darknet_py.pictures.read import Image

pytestmark = needs_yolos
ASPECT = {"yolov5": 100, "yolov6": 20, "yolov7": 20}
Numbers: TypeAlias = dict[str, NDArray[Any]]


class Replay:
    """A case: its draws, one after the other, and what they are applied to."""

    def __init__(self, system: str, case: dict[str, Any]) -> None:
        self.system, self.case, self.hyp = system, case, case.get("hyp", {})
        self.name, self.index = case["name"], case.get("index", 0)
        self.numbers: Numbers = arrays(YOLOS / system / "augment.npz")
        self.draws = [tuple(draw) for draw in case["draws"]]

    def next(self, function: str) -> Any:
        name, _, result = self.draws.pop(0)
        assert name.endswith(function)
        return result

    def expected(self, part: str) -> NDArray[Any]:
        return self.numbers[f"{self.name}_{part}"]

    def loaded(self, number: int, *, polygons: bool = False) -> Sample:
        """A picture of YOLOv5's, in RGB, with its labels, and its polygons where the case has them."""
        pictures = arrays(YOLOS / "yolov5/augment.npz")
        labels = pictures[f"labels_{number}"]
        made = sample_of(pictures[f"picture_{number}"], labels[:, 1:], labels[:, 0])
        if polygons or self.case.get("segments"):
            made = made._replace(polygons=[pictures[f"polygon_{number}_{k}"] for k in range(len(labels))])
        return made

    def warped(self, made: Sample, size: Size) -> Sample:
        perspective = (0.0, 0.0) if self.system == "yolov6" else (self.next("uniform"), self.next("uniform"))
        angle, zoom, *rest = (self.next("uniform") for _ in range(6))
        drawn = DrawnWarp(made.image.shape[1::-1], size, angle, zoom, tuple(rest[:2]), tuple(rest[2:]), perspective)
        return warped(with_points(made), Warp(limits=Limits(aspect=ASPECT[self.system])), drawn, RNG)

    def tiles(self, index: int) -> list[Sample]:
        if self.system == "yolov6":
            numbers = self.case["tiles"]
        else:
            numbers = [index, *self.next("choices")]
            numbers = self.next("shuffle") if self.system == "yolov5" else numbers
        return [self.loaded(number) for number in numbers]

    def four(self, index: int, size: Size) -> Sample:
        y, x = int(self.next("uniform")), int(self.next("uniform"))
        return around(self.tiles(index), (x, y), size)

    def nine(self, index: int, size: Size) -> Sample:
        tiles = self.tiles(index)
        y, x = int(self.next("uniform")), int(self.next("uniform"))
        return in_spiral(tiles, (x, y), size)

    def chosen(self, made: Sample, fraction: float) -> list[int]:
        """Of the objects with polygons, those that are copied or cut out."""
        count = round(fraction * len(made.polygons))
        chosen: list[int] = self.next("sample") if fraction and made.polygons else []
        assert len(chosen) == count
        return chosen

    def copied(self, made: Sample, fraction: float) -> Sample:
        return copied(made, apart(made, self.chosen(made, fraction)))

    def mosaic(self, index: int, size: Size, *, spiral: bool = False) -> Sample:
        made = self.nine(index, size) if spiral else self.four(index, size)
        return self.warped(self.copied(made, self.hyp.get("copy_paste", 0)), size)

    def any_mosaic(self, index: int | None, size: Size) -> Sample:
        """YOLOv7 decides for each mosaic whether it has nine pictures."""
        spiral = self.system == "yolov7" and self.next("random") >= 0.8
        return self.mosaic(self.next("randint") if index is None else index, size, spiral=spiral)

    def coloured(self, made: Sample, gains: list[float]) -> Sample:
        return after(HueTables(), made, np.array(self.next("uniform")) * gains + 1)

    def places(self, size: Size) -> Iterator[Place]:
        width, height = size
        for scale in SCALES:
            if self.next("random") >= 1 - TAKEN:
                sides = [self.next("randint"), self.next("randint")][::-1]
                assert max(sides) <= scale * max(width, height)
                yield place_around([self.next("randint"), self.next("randint")], sides, size)

    def pasted_in(self, made: Sample, size: Size) -> Sample:
        cutouts = []
        while len(cutouts) < CUTOUTS:
            mosaic = self.four(self.next("randint"), size)
            cutouts += cut_out(mosaic, self.chosen(mosaic, CUT))
        return pasted(made, cutouts, self.places(size), lambda count: self.next("randint"))


def assert_same(made: Sample, image: Image, labels: NDArray[Any]) -> None:
    """image: BGR. labels: (m, 5), class, corners in pixels."""
    assert np.abs(made.image.astype(int) - rgb(image).astype(int)).max() <= 1
    assert len(made.truths) == len(labels)
    assert np.array_equal(made.truths[:, 4], labels[:, 0])
    assert np.abs(corners_in(made) - labels[:, 1:]).max(initial=0) < 1e-3


def mosaic(case: Replay) -> None:
    height, width = case.case["shape"][:2]
    made = case.mosaic(case.index, (width, height), spiral=case.name.startswith("mosaic9"))
    assert_same(made, case.expected("image"), case.expected("labels"))


def affine(case: Replay) -> None:
    image, labels = case.expected("in_image"), case.expected("in_labels")
    before = sample_of(image, fractions_of(labels[:, 1:], image.shape[1::-1]), labels[:, 0])
    assert_same(case.warped(before, (96, 96)), case.expected("image"), case.expected("labels"))


def getitem(case: Replay) -> None:
    """A whole sample; its labels are fractions, its picture RGB, channels first."""
    hyp, (height, width) = case.hyp, case.case["shape"][1:]
    size = (width, height)
    if case.next("random") < hyp["mosaic"]:
        made = case.any_mosaic(case.index, size)
        if case.next("random") < hyp["mixup"]:
            made = blended(made, case.any_mosaic(None, size), case.next("beta"), 1000)
    else:
        made = fitted(case.loaded(case.index)._replace(polygons=()), "yolov5", size)
        made = case.warped(made, size)
    made = case.coloured(made, [hyp["hsv_h"], hyp["hsv_s"], hyp["hsv_v"]])
    if case.system == "yolov7" and case.next("random") < hyp["paste_in"]:
        made = case.pasted_in(made, size)
    for down, probability in ((True, hyp["flipud"]), (False, hyp["fliplr"])):
        made = after(Flip(1, down=down), made, case.next("random") < probability)
    assert np.abs(made.image.astype(int) - case.expected("image").transpose(1, 2, 0)).max() <= 1
    assert np.abs(made.truths[:, (4, 0, 1, 2, 3)] - case.expected("labels")[:, 1:]).max(initial=0) < 2e-5


def augment_hsv(case: Replay) -> None:
    """Hue turns, the rest is cut."""
    assert np.array_equal(case.coloured(case.loaded(0), case.case["gains"]).image, rgb(case.expected("image")))


def mixup(case: Replay) -> None:
    """Of picture 2 with the first label, and another picture with the second one."""
    pictures, labels = (rgb(case.loaded(2).image), case.expected("second_picture")), case.expected("labels")
    boxes = fractions_of(labels[:, 1:], pictures[0].shape[1::-1])
    samples = (sample_of(*of, labels[k : k + 1, 0]) for k, of in enumerate(zip(pictures, boxes[:, None], strict=True)))
    assert_same(blended(*samples, case.next("beta"), 1000), case.expected("image"), labels)


def copy_paste(case: Replay) -> None:
    made = case.loaded(0, polygons=True)
    count = len(case.draws[0][2])
    made = case.copied(made, count / len(made.truths))
    assert_same(made, case.expected("image"), case.expected("labels"))


REPLAYS: dict[str, Callable[[Replay], None]] = {
    "mosaic": mosaic,
    "affine": affine,
    "getitem": getitem,
    "augment_hsv": augment_hsv,
    "mixup": mixup,
    "copy_paste": copy_paste,
}
CASES = [
    pytest.param(system, case, id=f"{system}-{case['name']}")
    for system in ASPECT
    for case in content(f"{system}/augment.json").get("cases", [])
]


@pytest.mark.parametrize(("system", "case"), CASES)
def test_augmentation_is_that_of_its_program(system: str, case: dict[str, Any]) -> None:
    replay = Replay(system, case)
    (kind,) = (kind for kind in REPLAYS if case["name"].startswith(kind))
    REPLAYS[kind](replay)
    assert not replay.draws
