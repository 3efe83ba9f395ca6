"""Charts show what they are drawn of: every point lies inside the axes, and no legend on any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darknet_py.measuring import plots

pytest.importorskip("matplotlib")


def rows(count: int, measured: tuple[int, ...] = ()) -> list[dict[str, str]]:
    """A loss that falls from 3000 to about 2."""
    losses = [3000 / k**1.5 + 2 for k in range(1, count + 1)]
    return [
        {"iteration": str(k), "loss": str(loss), "average": str(loss), "map": "0.98" if k in measured else ""}
        for k, loss in enumerate(losses, 1)
    ]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, which are not written."""
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    return drawn


@pytest.mark.parametrize("count", [1, 3, 300, 6000])
def test_the_chart_of_a_run_shows_its_curve_and_the_legend_lies_beside_it(count: int, figures: list[Any]) -> None:
    plots.draw_chart(Path("chart.png"), rows(count, (count,)), 6000, "my")
    figure = figures[0]
    figure.canvas.draw()
    axes, right = figure.axes
    last = axes.transData.transform((count, float(rows(count)[-1]["average"])))
    assert axes.bbox.contains(*last)
    assert last[0] - axes.bbox.x0 >= axes.bbox.width / plots.WIDEST * 0.9 or count == 6000
    assert right.bbox.contains(*right.transData.transform((count, 0.98)))
    assert (axes.lines[1].get_marker() == "o") == (count <= plots.FEW_POINTS), "a line of one point is not seen"
    assert not figure.legends[0].get_window_extent().overlaps(axes.bbox)
    assert axes.get_legend() is None


@pytest.mark.parametrize("count", [12, 600])
def test_the_chart_shows_a_loss_that_rises(count: int, figures: list[Any]) -> None:
    rising = [{"iteration": str(k), "loss": str(k), "average": str(k), "map": ""} for k in range(1, count + 1)]
    plots.draw_chart(Path("chart.png"), rising, count, "my")
    assert figures[0].axes[0].get_ylim()[1] == pytest.approx(1.1 * count, rel=0.1)


def test_max_chart_loss_is_the_upper_end_of_the_chart(figures: list[Any]) -> None:
    plots.draw_chart(Path("chart.png"), rows(100), 100, "my", max_loss=5.0)
    assert figures[0].axes[0].get_ylim() == (0, 5)


def test_the_confusion_matrix_of_a_classifier_has_no_background(figures: list[Any]) -> None:
    plots.draw_confusion(Path("c.png"), np.eye(2, dtype=np.int64), ["cat", "dog"])
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("classified as", "ground truth")
