"""What is drawn can be read: labels lie apart, lines and letters fit the image."""

from __future__ import annotations

import numpy as np
import pytest

from darknet_py.detections import Detections
from darknet_py.pictures import draw as drawing
from darknet_py.pictures.draw import Label, Style, draw


def detections(xywh: list[list[float]], size: tuple[int, int], name: str = "dog") -> Detections:
    count = len(xywh)
    confidences = np.linspace(0.9, 0.3, count, dtype=np.float32)
    return Detections(np.zeros(count, int), confidences, np.float32(xywh), size, [name])


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Label, tuple[int, int]]]:
    """The labels that are drawn, and their upper left corners."""
    drawn: list[tuple[Label, tuple[int, int]]] = []
    monkeypatch.setattr(drawing, "_write", lambda _, label, place, __: drawn.append((label, place)))
    return drawn


def test_labels_of_the_same_box_lie_apart(labels: list[tuple[Label, tuple[int, int]]]) -> None:
    size = (640, 480)
    draw(np.zeros((480, 640, 3), np.uint8), detections([[0.5, 0.5, 0.4, 0.6]] * 6, size))
    assert len(labels) == 6
    covered = np.zeros((480, 640), int)
    for label, (x, y) in labels:
        covered[y : y + label.height, x : x + label.width] += 1
    assert covered.max() == 1


def test_a_label_that_would_cover_others_is_left_out(labels: list[tuple[Label, tuple[int, int]]]) -> None:
    draw(np.zeros((480, 640, 3), np.uint8), detections([[0.5, 0.5, 0.05, 0.03]] * 50, (640, 480)))
    assert 1 < len(labels) < 50
    assert labels[-1][0].text == "dog 0.90"  # the most confident one is there, and on top


@pytest.mark.parametrize("size", [(24, 16), (48, 32), (100, 60), (300, 200), (1920, 1080), (5000, 3000), (900, 40)])
def test_lines_and_letters_fit_the_size(size: tuple[int, int], labels: list[tuple[Label, tuple[int, int]]]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    drawn = draw(image, detections([[0.5, 0.6, 0.5, 0.5]], size))
    assert drawn.shape == image.shape
    rows = (drawn[:, size[0] // 2].max(1) > 60).sum() / 2  # the line's width, above and below
    assert 1 <= rows <= max(2, max(size) / 100)
    assert len(labels) == (max(size) >= 100)
    for label, (x, y) in labels:
        assert x >= 0
        assert y >= 0
        assert x + label.width <= size[0]
        assert y + label.height <= size[1]


def test_the_style_says_how_thick_and_how_large(labels: list[tuple[Label, tuple[int, int]]]) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    found = detections([[0.5, 0.6, 0.5, 0.5]], (640, 480))
    thick = draw(image, found, Style(line_width=9, font_size=40))
    assert (thick[300, :320].max(1) > 60).sum() == pytest.approx(9, abs=2)
    assert labels.pop()[0].above == pytest.approx(40, abs=12)
    assert draw(image, found, Style(labels=False)).any()
    assert not labels
    assert not draw(image, found, Style(boxes=False)).any()


def test_a_name_that_is_too_long_loses_its_confidence_or_is_left_out(
    labels: list[tuple[Label, tuple[int, int]]],
) -> None:
    image = np.zeros((120, 120, 3), np.uint8)
    for length in (5, 28, 80):
        draw(image, detections([[0.5, 0.6, 0.5, 0.5]], (120, 120), "x" * length))
    assert [label.text for label, _ in labels] == ["xxxxx 0.90", "x" * 28]
