"""YOLOX's augmentation, fed with what its program drew: the same labels, and pictures to a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replayed import RNG, after, augment_cases, corners_in, fitted, fractions_of, rgb, sample_of
from yolos import arrays, augment_file, needs_yolos

from darknet_py.data.augment.canvas import Inside, around
from darknet_py.data.augment.colour import HueOffsets
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import DrawnOverlay, overlaid
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import DrawContext, Sample
from darknet_py.data.augment.warp import CornerWarp, DrawnWarp, Over

pytestmark = needs_yolos


def numbers() -> dict[str, Any]:
    return arrays(augment_file("yolox"))


def sample(number: int) -> Sample:
    image, labels = numbers()[f"picture{number}"], numbers()[f"labels{number}"]
    return sample_of(image, fractions_of(labels[:, :4], image.shape[1::-1]), labels[:, 4])


def inside(made: Sample, size: tuple[int, int]) -> Sample:
    context = DrawContext(made.image.shape[1::-1], size, made.truths[:, :4])
    step = Inside(exact=True)
    return after(step, made, step.draw(context, Dice.of(RNG)))


def assert_same(case: dict[str, Any], name: str, made: Sample) -> None:
    """The picture and the labels (corners in pixels, class) after a step."""
    key = f"case{case['case']}.{name}"
    assert np.abs(made.image.astype(int) - rgb(numbers()[f"{key}_img"])).max() <= 1
    labels = numbers()[f"{key}_labels"]
    assert np.array_equal(made.truths[:, 4], labels[:, 4])
    assert np.abs(corners_in(made) - labels[:, :4]).max(initial=0) < 1e-3


@pytest.mark.parametrize("case", augment_cases("yolox"))
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
    made = fitted(made, "yolox", size)
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
    return overlaid(first, fitted(second, "yolox", size), DrawnOverlay(scale, flip, (x, y)), 1000)
