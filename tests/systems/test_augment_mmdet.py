"""mmdetection's augmentation, fed with what its program drew: the same patches, and colours to a hundredth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from replayed import RNG, augment_cases, corners_of, fractions_of
from yolos import arrays, augment_file, needs_yolos

from darknet_py.data.augment.colour import DrawnPhotometry, Photometry
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.patches import Expand, OverlapCrop
from darknet_py.data.augment.steps import DrawContext, ImageStep

pytestmark = needs_yolos
NONE = np.empty((0, 6), np.float32)


class Replay:
    """Draws what the program drew. Its draws between a size and 1 are turned into draws between 0 and that size."""

    def __init__(self, draws: list[Any]) -> None:
        self.draws = list(draws)

    def uniform(self, low: float, high: float) -> float:
        _, arguments, result = self.draws.pop(0)
        assert np.allclose(arguments, [low, high] if len(arguments) == 2 else [high])
        return float(result)

    def choice(self, modes: tuple[float, ...]) -> float:
        _, arguments, result = self.draws.pop(0)
        assert arguments == [list(modes)]
        return float(result)


def draws_of(case: dict[str, Any], stage: str) -> list[Any]:
    names = [index for index, draw in enumerate(case["draws"]) if draw[0] == "#stage"] + [len(case["draws"])]
    for begin, end in pairwise(names):
        if case["draws"][begin][1] == stage:
            return list(case["draws"][begin + 1 : end])
    raise AssertionError(stage)


@pytest.mark.parametrize("case", augment_cases("mmdet_yolov3"))
@pytest.mark.parametrize(
    ("before", "name", "step"), [("in", "Expand", Expand()), ("Expand", "MinIoURandomCrop", OverlapCrop())]
)
def test_a_patch_is_drawn(before: str, name: str, step: ImageStep, case: dict[str, Any]) -> None:
    numbers, key = arrays(augment_file("mmdet_yolov3")), f"case{case['case']}"
    image, boxes = (numbers[f"{key}.in_u8"], numbers[f"{key}.in_boxes"])
    if before != "in":
        image, boxes = numbers[f"{key}.{before}.img"], numbers[f"{key}.{before}.boxes"]
    size = image.shape[1::-1]
    replay = Replay(draws_of(case, name))
    context = DrawContext(size, (64, 64), fractions_of(boxes, size).astype(np.float32))
    drawn = step.draw(context, Dice.of(replay))  # type: ignore[arg-type]  # draws as a generator does
    assert not replay.draws
    assert np.array_equal(step.apply(image, drawn, NONE, RNG), numbers[f"{key}.{name}.img"])
    moved = step.move(context.boxes, drawn)
    moved = moved[(moved[:, 2:] > 0).all(1)]
    assert np.abs(corners_of(moved, step.resized(context.size, drawn)) - numbers[f"{key}.{name}.boxes"]).max() < 1e-3


@pytest.mark.parametrize("case", augment_cases("mmdet_yolov3"))
def test_colours_change(case: dict[str, Any]) -> None:
    numbers, key = arrays(augment_file("mmdet_yolov3")), f"case{case['case']}"
    first, *chosen, brightness, contrast, saturation, hue, order = (
        draw[2] for draw in draws_of(case, "PhotoMetricDistortion")
    )
    order = [2 - order[2 - channel] for channel in range(3)]  # theirs is BGR's
    values = (brightness / 255, contrast, saturation, hue, tuple(order))
    without = DrawnPhotometry()[:5]
    values = tuple(value if flag else none for value, flag, none in zip(values, chosen, without, strict=True))
    drawn = DrawnPhotometry(*values, contrast_first=bool(first))
    image = np.ascontiguousarray(numbers[f"{key}.MinIoURandomCrop.img"][..., ::-1])
    made = Photometry().apply(image, drawn, NONE, RNG)
    assert np.abs(made[..., ::-1] * 255 - numbers[f"{key}.PhotoMetricDistortion.img"]).max() < 0.01
