"""YOLOX's augmentation, fed with what its program drew: the same labels, and pictures to a level."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from yolos import YOLOS, arrays, augment_file, needs_yolos

from darknet_py.data.augment.canvas import Fitted, Inside, around
from darknet_py.data.augment.colour import HueOffsets
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import DrawnOverlay, overlaid
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import DrawContext, ImageStep, Sample
from darknet_py.data.augment.warp import CornerWarp, DrawnWarp, Over
from darknet_py.data.truths import OUTSIDE
from darknet_py.pictures.fit import FITS
from darknet_py.pictures.read import Image

pytestmark = needs_yolos
RNG = np.random.default_rng(0)


def cases() -> list[Any]:
    path = YOLOS / "yolox/augment.json"
    found = json.loads(path.read_text())["cases"] if path.is_file() else []
    return [pytest.param(case, id=str(case["case"])) for case in found]


def numbers() -> dict[str, Any]:
    return arrays(augment_file("yolox"))


def rgb(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def after(step: ImageStep, made: Sample, drawn: Any) -> Sample:
    moved = step.move(made.truths[:, :4], drawn)
    rows = np.concatenate((moved, made.truths[:, 4:]), 1)[(moved != OUTSIDE).any(1)]
    return made._replace(image=step.apply(made.image, drawn, rows, RNG), truths=rows)


def sample(number: int) -> Sample:
    image, labels = rgb(numbers()[f"picture{number}"]), numbers()[f"labels{number}"]
    xyxy = labels[:, :4] / np.tile(image.shape[1::-1], 2)
    xywh = np.concatenate(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]), 1)
    return Sample(image, np.concatenate((xywh, labels[:, 4:], labels[:, 4:]), 1).astype(np.float32), "")


def inside(made: Sample, size: tuple[int, int]) -> Sample:
    context = DrawContext(made.image.shape[1::-1], size, made.truths[:, :4])
    step = Inside(exact=True)
    return after(step, made, step.draw(context, Dice.of(RNG)))


def fitted(made: Sample, size: tuple[int, int]) -> Sample:
    return after(Fitted(FITS["yolox"]), made, (made.image.shape[1::-1], size))


def assert_same(case: dict[str, Any], name: str, made: Sample) -> None:
    """The picture and the labels (corners in pixels, class) after a step."""
    key = f"case{case['case']}.{name}"
    assert np.abs(made.image.astype(int) - rgb(numbers()[f"{key}_img"])).max() <= 1
    assert np.abs(corners(made) - numbers()[f"{key}_labels"]).max(initial=0) < 1e-3


def corners(made: Sample) -> NDArray[np.float64]:
    rows, size = made.truths, made.image.shape[1::-1]
    low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
    return np.concatenate((low * size, high * size, rows[:, 4:5]), 1)


@pytest.mark.parametrize("case", cases())
def test_a_sample_is_made(case: dict[str, Any]) -> None:
    draws = [draw[2] for draw in case["draws"]]
    size = tuple(case["input_hw"][::-1])
    made = sample(case["index"])
    if case["mosaic"] and draws.pop(0) < 1:
        y, x, *others = (draws.pop(0) for _ in range(5))
        tiles = [inside(sample(number), size) for number in (case["index"], *others)]
        made = around(tiles, (int(x), int(y)), size)
        assert_same(case, "mosaic", made)
        angle, zoom, *rest = (draws.pop(0) for _ in range(6))
        drawn = DrawnWarp(made.image.shape[1::-1], size, angle, zoom, tuple(rest[:2]), tuple(rest[2:]))
        made = after(CornerWarp(), made, drawn)
        assert_same(case, "affine", made)
        if case["mixup"] and draws.pop(0) < 1:
            made = mixed(case, made, draws, size)
            assert_same(case, "mixup", made)
    if draws.pop(0) < case["hsv_prob"]:
        offsets, chosen = (np.array(draws.pop(0)) for _ in range(2))
        made = after(HueOffsets(), made, (offsets * [5, 30, 30] * chosen).astype(np.int16))
    made = after(Flip(1), made, draws.pop(0) < case["flip_prob"])
    made = fitted(made, size)
    made = after(Over(1), made, size)
    expected = rgb(numbers()[f"case{case['case']}.out_u8_chw"].transpose(1, 2, 0))
    assert np.abs(made.image.astype(int) - expected).max() <= 1
    labels = numbers()[f"case{case['case']}.out_labels"]  # class, centre and size in pixels
    assert len(made.truths) == len(labels)
    assert np.abs(made.truths[:, (4, 0, 1, 2, 3)] * [1, *size, *size] - labels).max(initial=0) < 1e-3
    assert not draws


def mixed(case: dict[str, Any], first: Sample, draws: list[Any], size: tuple[int, int]) -> Sample:
    """Draws pictures until one has labels; an offset is drawn only along an axis in which the second one is larger."""
    scale, flip = draws.pop(0), draws.pop(0) > 0.5
    second = sample(draws.pop(0))
    while not len(second.truths):
        second = sample(draws.pop(0))
    free = [int(side * scale) - side for side in size]
    y, x = (draws.pop(0) / free[axis] if free[axis] > 0 else 0 for axis in (1, 0))
    return overlaid(first, fitted(second, size), DrawnOverlay(scale, flip, (x, y)), 1000)
