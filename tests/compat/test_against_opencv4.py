"""The stand-in's answers beside OpenCV 4.14's own, which are computed in an environment of their own:

python3 -m venv /tmp/opencv4 && /tmp/opencv4/bin/pip install opencv-python==4.14.0.94
OPENCV4=/tmp/opencv4/bin/python python -m pytest tests/compat/test_against_opencv4.py

OpenCV gets the same weights, but variances that are greater by the difference of the epsilons of batch norm (1e-5 here,
1e-6 there), so that both compute the same function.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kit import KIT
from numpy.typing import NDArray
from opencv_calls import Answers, answers
from project import CFGS, ROOT
from recipes import write_recipe

import darknet_py
import darknet_py.compat.cv2dnn as cv2
from darknet_py.network import Network

OPENCV4 = os.environ.get("OPENCV4", "")
pytestmark = [
    pytest.mark.skipif(not OPENCV4, reason="OPENCV4 names no Python with OpenCV 4; see the top of this file"),
    pytest.mark.filterwarnings("ignore::darknet_py.CfgWarning"),
]
RECIPES = ("yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny", "darknet19", "yolov3")
TRAINED = sorted([CFGS / "shapes.cfg", *KIT.glob("real/*/*.cfg")])
DOG, SHAPES = KIT / "real/images/dog.jpg", ROOT / "weights/shapes.png"
EPSILON_DIFFERENCE = 1e-5 - 1e-6
CLOSE = 1e-4
PIXEL = 1


def weights_of(cfg: Path) -> Path:
    beside = cfg.with_suffix(".weights")
    return beside if beside.is_file() else ROOT / "weights" / beside.name


def both(cfg: Path, weights: Path, folder: Path, *, same_function: bool = True) -> tuple[Answers, Answers]:
    """Our answers and OpenCV's."""
    network = darknet_py.load(cfg, weights)
    if same_function:
        for name, buffer in network.named_buffers():
            if name.endswith("rolling_variance"):
                buffer += EPSILON_DIFFERENCE
    for_opencv, out = folder / "opencv.weights", folder / "answers.npz"
    network.save_weights(for_opencv)
    width, height = network.size
    image = str(DOG if DOG.is_file() else SHAPES)
    script = ROOT / "tests/support/opencv_calls.py"
    command = [OPENCV4, script, cfg, for_opencv, image, str(width), str(height), out]
    subprocess.run([*map(str, command)], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    return answers(cv2, str(cfg), str(weights), image, network.size), dict(np.load(out))


def check(ours: Answers, theirs: Answers) -> None:
    """Equal names, ids and shapes; values within CLOSE, of maps relative to their largest value."""
    heads = {str(name) for name, kind in zip(theirs["names"], theirs["types"], strict=True) if kind == "Region"}
    heads |= {"last"} if theirs["types"][-1] == "Region" else set()
    for key, expected in theirs.items():
        got, what = ours[key], key.split()[0]
        assert got.shape == expected.shape, key
        if what in ("detect", "across"):
            continue
        if expected.dtype.kind != "f":
            assert np.array_equal(got, expected), key
        elif what == "blob":
            np.testing.assert_allclose(got, expected, atol=2 * EPSILON_DIFFERENCE, rtol=1e-6, err_msg=key)
        elif key.split()[-1] in heads:
            check_rows(got.reshape(-1, got.shape[-1]), expected.reshape(-1, got.shape[-1]), key)
        else:
            assert np.abs(got - expected).max() <= CLOSE * max(1, np.abs(expected).max()), key
    for key in {key[:-2] for key in theirs if key.split()[0] in ("detect", "across")}:
        check_found(*([one[f"{key} {k}"] for k in range(3)] for one in (ours, theirs)), key)


def check_rows(got: NDArray[np.float32], expected: NDArray[np.float32], key: str) -> None:
    """Rows agree as the maps do that they are made from, whose values the logarithms of the sizes show.

    Logistic functions divide a map's difference by 4 or more. So the limit is CLOSE on trained models; random weights
    give values of up to 60, of which two programs that round differently share 5 digits. A score that only one program
    has lies at the threshold, .2.
    """
    sizes = [np.log(np.clip(one[:, 2:4], 1e-30, 1e30)) for one in (got, expected)]
    largest = max(1, np.abs(sizes[1]).max())
    assert np.abs(sizes[0] - sizes[1]).max() <= CLOSE * largest, key
    parts = [np.delete(one, (2, 3), 1) for one in (got, expected)]
    limit = CLOSE * max(1, largest / 4)
    apart = np.abs(parts[0] - parts[1]) > limit
    flipped = np.abs(np.maximum(*parts)[apart] - 0.2) < limit
    assert flipped.all(), f"{key}: {np.stack([part[apart] for part in parts])}"


def check_found(got: list[NDArray[np.float32]], expected: list[NDArray[np.float32]], key: str) -> None:
    """Each program's objects are among the other's, box by box within a pixel."""
    assert len(got[0]) == len(expected[0]), key
    if not len(got[0]):
        return
    same = (got[0][:, None] == expected[0]) & (np.abs(got[1][:, None] - expected[1]) <= CLOSE)
    same &= (np.abs(got[2][:, None] - expected[2]) <= PIXEL).all(-1)
    assert same.any(0).all(), key
    assert same.any(1).all(), key


@pytest.mark.parametrize("cfg", TRAINED, ids=lambda cfg: cfg.stem)
def test_trained_models_give_opencvs_answers(cfg: Path, tmp_path: Path) -> None:
    if not weights_of(cfg).is_file():
        pytest.skip("there are no weights for it")
    check(*both(cfg, weights_of(cfg), tmp_path))


@pytest.mark.parametrize("name", RECIPES)
def test_random_weights_give_opencvs_answers(name: str, tmp_path: Path) -> None:
    cfg, weights = CFGS / f"{name}.cfg", tmp_path / "recipe.weights"
    write_recipe(Network(darknet_py.parse_cfg(cfg)), 3, weights)
    check(*both(cfg, weights, tmp_path))


@pytest.mark.skipif(not DOG.is_file(), reason="needs a trained model of the conformance kit")
def test_the_epsilon_of_batch_norm_is_what_differs(tmp_path: Path) -> None:
    """On a trained model the same weights give slightly other numbers, and the same objects."""
    cfg = next(cfg for cfg in TRAINED if weights_of(cfg).is_file() and cfg.parent != CFGS)
    ours, theirs = both(cfg, weights_of(cfg), tmp_path, same_function=False)
    difference = max(np.abs(ours[key] - theirs[key]).max() for key in theirs if key.startswith("output"))
    assert CLOSE < difference < 0.05
    assert np.array_equal(ours["detect (0.3, 0.4) 0"], theirs["detect (0.3, 0.4) 0"])
