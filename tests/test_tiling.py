"""Large images are looked at in tiles: all of the image, and each object once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from project import CFGS, ROOT

import darknet_py
from darknet_py import Detections, Detector, detect
from darknet_py.boxes import iou
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import DarknetError
from darknet_py.tiling import _joined, detect_in_tiles, tiles_of

SIDES = st.integers(1, 400)
MODEL = ["--cfg", str(CFGS / "shapes.cfg"), "--weights", str(ROOT / "weights" / "shapes.weights")]


@given(
    image=st.tuples(SIDES, SIDES), tile=st.tuples(st.integers(20, 500), st.integers(20, 500)), overlap=st.floats(0, 0.9)
)
def test_tiles_cover_the_image_and_share_what_they_should(
    image: tuple[int, int], tile: tuple[int, int], overlap: float
) -> None:
    tiles = tiles_of(image, tile, overlap)
    seen = np.zeros(image[::-1], bool)
    for left, top, width, height in tiles[:-1] if len(tiles) > 1 else tiles:
        assert (width, height) == (min(tile[0], image[0]), min(tile[1], image[1]))
        seen[top : top + height, left : left + width] = True
    assert seen.all()
    assert tuple(tiles[-1]) == (0, 0, *image)
    for axis in (0, 1):
        starts = np.unique(tiles[:, axis])
        assert (np.diff(starts) <= max(1, int(tile[axis] * (1 - overlap))) + 1).all()


@pytest.mark.parametrize(
    ("tile", "overlap", "message"), [((0, 9), 0, "tile"), ((9, 9), 1, "overlap"), ((1, 1), 0, "limit")]
)
def test_wrong_tiles_are_refused(tile: tuple[int, int], overlap: float, message: str) -> None:
    with pytest.raises(DarknetError, match=message):
        tiles_of((1000, 1000), tile, overlap)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(darknet_py.load(CFGS / "shapes.cfg", ROOT / "weights" / "shapes.weights"))


def pictures(folder: Path, count: int) -> list[np.ndarray]:
    write_dataset(folder, train=1, valid=count)
    return [cv2.imread(str(path))[..., ::-1] for path in sorted((folder / "images").glob("valid-*.png"))]


def test_a_large_image_has_the_objects_of_its_parts(tmp_path: Path, detector: Detector) -> None:
    parts = pictures(tmp_path, 12)
    large = np.concatenate([np.concatenate(parts[row : row + 4], 1) for row in (0, 4, 8)])
    expected = sum(len(one) for one in detector(parts))
    (found,) = detect_in_tiles(detector, [large], (256, 192))
    assert found.size == (large.shape[1], large.shape[0])
    assert len(found) >= 0.9 * expected
    boxes, classes = torch.from_numpy(found.xywh), torch.from_numpy(found.class_ids)
    same = (iou(boxes[:, None], boxes[None]) > 0.45) & (classes[:, None] == classes)
    assert int(same.sum()) == len(found)  # each with itself
    assert list(found.confidences) == sorted(found.confidences, reverse=True)
    assert len(found) > len(detector([large])[0])  # at the network's size they are too small


def test_an_image_of_a_tiles_size_is_one_tile(tmp_path: Path, detector: Detector) -> None:
    (image,) = pictures(tmp_path, 1)
    (whole,), (tiled,) = detector([image]), detect_in_tiles(detector, [image], (256, 192))
    assert np.array_equal(whole.xywh, tiled.xywh)
    assert np.array_equal(whole.confidences, tiled.confidences)


def in_tiles(*boxes: list[tuple[float, ...]]) -> list[Detections]:
    """For each tile its boxes: confidence, then corners in pixels of a tile of 100x100, or of the whole of 150x100."""
    found = []
    for number, rows in enumerate(boxes):
        values = np.array(rows, np.float32).reshape(-1, 5)
        size = (150, 100) if number == 2 else (100, 100)
        low, high = values[:, 1:3] / size, values[:, 3:] / size
        xywh = np.concatenate(((low + high) / 2, high - low), 1).astype(np.float32)
        found.append(Detections(np.zeros(len(rows), np.int64), values[:, 0], xywh, size, ["a"]))
    return found


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        # cut by the first tile, whole in the second: the whole one, though it is less confident
        (in_tiles([(0.9, 80, 10, 100, 40)], [(0.5, 30, 10, 60, 40)], []), [(80, 110)]),
        # cut by both, whole in the whole image
        (in_tiles([(0.9, 40, 10, 100, 90)], [(0.9, 0, 10, 70, 90)], [(0.3, 40, 10, 120, 90)]), [(40, 120)]),
        # cut, and nothing else shows it: it stays
        (in_tiles([(0.9, 80, 10, 100, 40)], [], []), [(80, 100)]),
        # two objects beside each other, each in a tile of its own
        (in_tiles([(0.9, 20, 10, 40, 40)], [(0.8, 60, 10, 80, 40)], []), [(20, 40), (110, 130)]),
        # whole in both tiles: once
        (in_tiles([(0.9, 60, 10, 90, 40)], [(0.8, 10, 10, 40, 40)], []), [(60, 90)]),
    ],
)
def test_an_object_at_a_border_is_reported_once(
    boxes: list[Detections], expected: list[tuple[int, int]], detector: Detector
) -> None:
    tiles = np.array([[0, 0, 100, 100], [50, 0, 100, 100], [0, 0, 150, 100]])
    found = _joined(boxes, tiles, (150, 100), 0.45, detector, None)
    assert sorted((round(left), round(right)) for left, _, right, _ in found.xyxy.tolist()) == expected


def test_the_command_detects_in_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = pictures(tmp_path / "data", 4)
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.concatenate([np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)])[..., ::-1])
    arguments = [*MODEL, str(path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert detect.main([*arguments, "--tile", "256x192", "--tile-overlap", "0.3"]) == 0
    in_parts = capsys.readouterr().out.count("%")
    assert detect.main(arguments) == 0
    assert in_parts > capsys.readouterr().out.count("%")
    assert (tmp_path / "out" / "large.png").is_file()
