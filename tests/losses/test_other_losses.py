"""The losses beside Darknet's for [yolo], each beside its formula written out box by box."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from losses_of import heads_of

from darknet_py import DarknetError
from darknet_py.cfg import parse_text
from darknet_py.network import Network
from darknet_py.training.step import Trainer

CFG = """[net]
width=64
height=64
channels=3
batch=3
[convolutional]
filters=21
size=1
stride=16
activation=linear
[yolo]
mask=2,3,4
anchors=5,7, 9,9, 14,20, 26,22, 40,50
classes=2
num=5
max=6
{options}
[route]
layers=0
[convolutional]
filters=14
size=1
stride=1
activation=linear
[upsample]
stride=2
[yolo]
mask=0,1
anchors=5,7, 9,9, 14,20, 26,22, 40,50
classes=2
num=5
max=6
{options}
"""
SIZE = 64
ANCHORS = np.array([[5, 7], [9, 9], [14, 20], [26, 22], [40, 50]]) / SIZE
COARSE, FINE = (2, 3, 4), (0, 1)
CELLS = {COARSE: 4, FINE: 8}


def make(options: str = "") -> Network:
    return Network(parse_text(CFG.format(options=options)))


def truths(columns: int = 6) -> torch.Tensor:
    """Image 0 has no objects, image 1 two that share a cell and an anchor, image 2 small and large ones."""
    rows = torch.zeros(3, 6, columns)
    rows[1, 0, :5] = torch.tensor([0.40, 0.40, 0.40, 0.35, 0])
    rows[1, 1, :5] = torch.tensor([0.45, 0.44, 0.42, 0.33, 1])
    rows[2, 0, :5] = torch.tensor([0.10, 0.90, 0.08, 0.10, 1])
    rows[2, 1, :5] = torch.tensor([0.70, 0.30, 0.62, 0.80, 0])
    rows[2, 2, :5] = torch.tensor([0.71, 0.31, 0.14, 0.15, 0])
    return rows


def raw(network: Network) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(3, 21, 4, 4, generator=generator), torch.randn(3, 14, 8, 8, generator=generator)]


def run(name: str, network: Network, inputs: list[torch.Tensor], rows: torch.Tensor) -> list[Any]:
    return heads_of(name, network.head_layers(), inputs, rows, (SIZE, SIZE))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce(x: float, target: float) -> float:
    return -target * math.log(sigmoid(x)) - (1 - target) * math.log(1 - sigmoid(x))


def overlap(a: Any, b: Any) -> float:
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    inter = max(sides[0], 0) * max(sides[1], 0)
    return float(inter / (a[2] * a[3] + b[2] * b[3] - inter))


def giou(a: Any, b: Any) -> float:
    hull = [
        max(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - min(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    value = overlap(a, b)
    inter = value * (a[2] * a[3] + b[2] * b[3]) / (1 + value)
    union = a[2] * a[3] + b[2] * b[3] - inter
    return value - (hull[0] * hull[1] - union) / (hull[0] * hull[1])


def boxes(output: torch.Tensor, mask: tuple[int, ...]) -> Any:
    """(image, anchor of the head, row, column) → its entries and its box."""
    grid, entries = CELLS[mask], output.double().view(3, len(mask), -1, *output.shape[2:])
    for image in range(3):
        for place, anchor in enumerate(mask):
            for row in range(grid):
                for column in range(grid):
                    x = entries[image, place, :, row, column].tolist()
                    centre = (column + sigmoid(x[0])) / grid, (row + sigmoid(x[1])) / grid
                    yield (
                        (image, place, row, column),
                        x,
                        (*centre, *(math.exp(x[2 + k]) * ANCHORS[anchor][k] for k in (0, 1))),
                    )


def objects(rows: torch.Tensor, image: int) -> list[list[float]]:
    return [row for row in rows[image].double().tolist() if row[0] > 0]


def best_anchor(row: list[float]) -> int:
    return int(np.argmax([overlap((0, 0, *anchor), (0, 0, *row[2:4])) for anchor in ANCHORS]))


def assigned(rows: torch.Tensor, mask: tuple[int, ...]) -> dict[tuple[int, ...], list[list[float]]]:
    """Darknet's assignment: each truth to its best anchor, if that is the head's."""
    result: dict[tuple[int, ...], list[list[float]]] = {}
    for image in range(3):
        for row in objects(rows, image):
            if (anchor := best_anchor(row)) in mask:
                key = (image, mask.index(anchor), int(row[1] * CELLS[mask]), int(row[0] * CELLS[mask]))
                result.setdefault(key, []).append(row)
    return result


def test_giou_loss_is_balanced_over_the_scales() -> None:
    network, rows = make(), truths()
    inputs = raw(network)
    for output, mask, result, weight in zip(
        inputs, (COARSE, FINE), run("giou", network, inputs, rows), (1.0, 4.0), strict=True
    ):
        trained, location, classes, objectness = assigned(rows, mask), [], [], []
        for key, x, box in boxes(output, mask):
            rows_here = trained.get(key, [])
            best = max((overlap(box, row) for row in objects(rows, key[0])), default=0.0)
            if rows_here or best <= 0.5:
                objectness.append(bce(x[4], float(bool(rows_here))))
            if rows_here:
                location.append(1 - giou(box, rows_here[-1]))
                classes += [bce(x[5 + c], float(any(row[4] == c for row in rows_here))) for c in range(2)]
        expected = (
            weight * 5 * (SIZE * SIZE / 416**2) * np.mean(objectness)
            + 0.05 * np.mean(location)
            + 2 / 80 * np.mean(classes)
        )
        assert len(location) >= 1
        assert float(result.cost) == pytest.approx(3 * expected, rel=1e-4)


def test_focal_loss_weighs_blended_images() -> None:
    network, rows = make("label_smooth_eps=0.1"), truths(7)
    rows[1, :, 6], rows[2, :, 6] = 0.3, 1.0
    inputs = raw(network)
    for output, mask, result in zip(inputs, (COARSE, FINE), run("focal", network, inputs, rows), strict=True):
        trained, expected = assigned(rows, mask), 0.0
        for key, x, box in boxes(output, mask):
            rows_here = trained.get(key, [])
            weight = rows_here[-1][6] if rows_here else 1.0
            best = max((overlap(box, row) for row in objects(rows, key[0])), default=0.0)
            if rows_here or best < 0.5:
                target = float(bool(rows_here))
                expected += weight * abs(target - sigmoid(x[4])) ** 2 * bce(x[4], target)
            if rows_here:
                row = rows_here[-1]
                expected += weight * (2 - row[2] * row[3]) * (1 - giou(box, row))
                expected += weight * sum(bce(x[5 + c], 0.95 if row[4] == c else 0.05) for c in range(2))
        assert float(result.cost) == pytest.approx(expected, rel=1e-4)


def priors(mask: tuple[int, ...]) -> dict[tuple[int, int, int], tuple[float, ...]]:
    grid = CELLS[mask]
    return {
        (place, row, column): ((column + 0.5) / grid, (row + 0.5) / grid, *ANCHORS[anchor])
        for place, anchor in enumerate(mask)
        for row in range(grid)
        for column in range(grid)
    }


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ("", (0.5, 0.5, 0.0, -1.0)),
        ("iou_thresh=.4\nignore_thresh=.3\nmin_pos_iou=.3\nbackground_thresh=.02", (0.4, 0.3, 0.3, 0.02)),
    ],
)
def test_the_grid_assigner_and_its_losses(options: str, limits: tuple[float, ...]) -> None:
    network, rows = make(f"label_smooth_eps=0.2\nscale_x_y=1.1\n{options}"), truths()
    positive, negative, least, background = limits
    inputs = raw(network)
    results = run("grid", network, inputs, rows)
    costs, ignored = [0.0, 0.0], 0
    for image in range(3):
        image_rows = objects(rows, image)
        all_priors = {(mask, *key): box for mask in (COARSE, FINE) for key, box in priors(mask).items()}
        centre_priors = {
            key
            for key in all_priors
            if any((int(row[1] * CELLS[key[0]]), int(row[0] * CELLS[key[0]])) == key[2:] for row in image_rows)
        }
        number: dict[Any, int] = {}
        for key, box in all_priors.items():
            overlaps = [overlap(box, row) for row in image_rows]
            best = max(overlaps, default=0.0)
            number[key] = -1 if background < best <= negative or not len(image_rows) else -2
            if key in centre_priors and best > positive:
                number[key] = int(np.argmax(overlaps))
        for k, row in enumerate(image_rows):
            highest = max(overlap(all_priors[key], row) for key in centre_priors)
            for key in centre_priors:
                if overlap(all_priors[key], row) == highest > least:
                    number[key] = k
        for head, (output, mask) in enumerate(zip(inputs, (COARSE, FINE), strict=True)):
            for key, x, _ in boxes(output, mask):
                if key[0] != image:
                    continue
                k = number[(mask, *key[1:])]
                ignored += k == -2
                if k == -2:
                    continue
                costs[head] += bce(x[4], float(k >= 0))
                if k < 0:
                    continue
                row, cell = image_rows[k], (key[3], key[2])
                for axis in (0, 1):
                    target = min(max((row[axis] * CELLS[mask] - cell[axis] - 0.5) / 1.1 + 0.5, 1e-6), 1 - 1e-6)
                    costs[head] += 2 * bce(x[axis], target)
                    costs[head] += 2 * (x[2 + axis] - math.log(row[2 + axis] / ANCHORS[mask[key[1]]][axis])) ** 2
                costs[head] += sum(bce(x[5 + c], 0.9 if row[4] == c else 0.1) for c in range(2))
    assert ignored > 0
    assert [float(result.cost) for result in results] == pytest.approx(costs, rel=1e-4)


@pytest.mark.parametrize("name", ["grid", "giou", "focal"])
def test_the_delta_is_minus_the_gradient(name: str) -> None:
    network, rows = make(), truths()
    inputs = raw(network)
    before = run(name, network, inputs, rows)
    direction = [torch.randn(output.shape, generator=torch.Generator().manual_seed(1)) * 1e-3 for output in inputs]
    ends = [
        run(name, network, [output + sign * step for output, step in zip(inputs, direction, strict=True)], rows)
        for sign in (1, -1)
    ]
    for head in range(2):
        slope = float((ends[0][head].cost - ends[1][head].cost) / 2)
        assert slope == pytest.approx(-float((before[head].delta * direction[head]).sum()), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("name", ["grid", "giou", "focal"])
def test_images_without_objects_train_the_background_alone(name: str) -> None:
    network = make()
    inputs = raw(network)
    for output, result in zip(inputs, run(name, network, inputs, torch.zeros(3, 6, 6)), strict=True):
        assert float(result.cost) > 0
        entries = result.delta.unflatten(1, (-1, 7))
        assert (entries[:, :, 4] < 0).all()
        assert not entries[:, :, [0, 1, 2, 3, 5, 6]].any()
        assert result.delta.shape == output.shape


def test_a_head_without_logits_is_refused() -> None:
    with pytest.raises(DarknetError, match=r"^<text>:17: \[yolo\] new_coords=1: gives no logits, and loss=giou needs"):
        Trainer(make("new_coords=1\nloss=giou").initialise(0))


def test_the_command_takes_them(tmp_path: Path) -> None:
    from darknet_py.data.shapes import write_dataset
    from darknet_py.train import main

    data = write_dataset(tmp_path / "data", train=6, valid=2)
    cfg = tmp_path / "tiny.cfg"
    text = make().cfg.lines
    cfg.write_text(
        "\n".join(text)
        .replace("filters=21", "filters=33")
        .replace("filters=14", "filters=22")
        .replace("classes=2", "classes=6")
        .replace("[net]", "[net]\nmax_batches=2\nmixup=1\nlearning_rate=0.001")
    )
    for name in ("grid", "giou", "focal"):
        arguments = ["--workers", "0", "--device", "cpu", "--mixup-beta", "1.5", "--loss", name, "--freeze", "1"]
        assert main([str(data), str(cfg), "--out", str(tmp_path / name), *arguments]) == 0
        assert (tmp_path / name / "tiny_final.weights").is_file()
