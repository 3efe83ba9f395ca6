"""Anchors are found and judged as YOLOv5's autoanchor does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from yolos import YOLOS, arrays, content, needs_yolos

from darknet_py import anchors
from darknet_py.data.anchors import calc_anchors, evolved, fit_by_ratio
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import DarknetError

NUMBERS = YOLOS / "yolov5" / "autoanchor.npz"
ABOUT = content("yolov5/autoanchor.json")
RUNS = [name for name in ABOUT.get("results", {}) if name.startswith("n")] or ["(no yolos)"]
DEFAULT = np.array([10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326.0]).reshape(-1, 2)


@needs_yolos
@pytest.mark.parametrize("run", RUNS)
def test_fitness_and_recall_of_its_anchors(run: str) -> None:
    values = arrays(NUMBERS)
    fitness, recall, _ = ABOUT["results"][run]["fitness_bpr_aat"]
    found = fit_by_ratio(values["wh_pixels_filtered"], values[f"anchors_{run}"])
    assert found == pytest.approx((fitness, recall), rel=1e-6)


@needs_yolos
def test_fitness_and_recall_of_the_usual_anchors() -> None:
    usual = ABOUT["results"]["default_anchors_on_this_list"]
    found = fit_by_ratio(arrays(NUMBERS)["wh_pixels_filtered"], DEFAULT)
    assert found == pytest.approx((usual["fitness"], usual["bpr"]), rel=1e-6)


@needs_yolos
@pytest.mark.parametrize("run", RUNS)
def test_the_search_finds_anchors_that_fit_as_well(run: str) -> None:
    """Draws differ, so anchors do: of three searches of the same length, the best fits no worse than the original's."""
    values, about = arrays(NUMBERS), ABOUT["results"][run]
    sizes, clusters = values["wh_pixels_filtered"], about["n"]
    searches = [evolved(sizes, clusters, np.random.default_rng(seed), about["gen"]) for seed in range(3)]
    fits = [fit_by_ratio(sizes, search.centres) for search in searches]
    assert max(fit.fitness for fit in fits) > about["fitness_bpr_aat"][0] - 0.005
    assert max(fit.recall for fit in fits) > about["fitness_bpr_aat"][1] - 0.01


def test_a_search_raises_the_fitness_and_is_the_same_for_the_same_seed() -> None:
    sizes = np.random.default_rng(1).lognormal(3, 0.8, (200, 2)).astype(np.float32)
    start, end, again = (evolved(sizes, 5, np.random.default_rng(2), count).centres for count in (0, 300, 300))
    assert np.array_equal(end, again)
    assert fit_by_ratio(sizes, end).fitness > fit_by_ratio(sizes, start).fitness + 0.01


def test_boxes_of_less_than_two_pixels_do_not_count() -> None:
    sizes = np.array([[1, 1], [20, 30], [40, 10], [1.5, 1.9]], np.float32)
    assert np.allclose(calc_anchors(sizes, 2, "yolov5", 0).centres, [[40, 10], [20, 30]])
    with pytest.raises(DarknetError, match="3 clusters of 2 boxes"):
        calc_anchors(sizes, 3, "yolov5", 0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path, train=4, valid=1)
    assert anchors.main([str(data), "--size", "96x96", "--clusters", "3", "--method", "yolov5", "--seed", "1"]) == 0
    assert "best possible recall = 100.00 %" in capsys.readouterr().out
