"""A head from outside: the package trains, evaluates, detects and resumes with a head that this file alone defines.

[points] is anchor-free: it gives each cell of a map the distances to the four sides of a box, and classes. Its truths
have a form of their own, its assigner looks at all levels at once, its loss differentiates a parameter of the head, and
some of its heads exist in training alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import darknet_py
from darknet_py import evaluate, train
from darknet_py.boxes import giou, iou
from darknet_py.cfg import parse_cfg
from darknet_py.data.shapes import write_dataset
from darknet_py.layers import KINDS, Boxes, Head
from darknet_py.layers.layer import LayerOptions, Place
from darknet_py.layers.needs import BoxNeeds, Rows
from darknet_py.losses import LOSSES, Loss, Output, State, Value
from darknet_py.network import Network
from darknet_py.options import option
from darknet_py.training.step import Trainer

CHOSEN = 6  # cells that a truth trains


@dataclass(frozen=True)
class Corners:
    """(max, 5): class + 1 and left, top, right, bottom; a class of 0 ends the list."""

    maximum: int

    def __call__(self, rows: Rows) -> Rows:
        result = np.zeros((self.maximum, 5), np.float32)
        half = rows[:, 2:4] / 2
        result[: len(rows)] = np.concatenate((rows[:, 4:5] + 1, rows[:, :2] - half, rows[:, :2] + half), 1)
        return result


class Points(Head):
    kind = "points"
    box_values = 4
    stored_names = ("scale",)

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        classes: int = option(1, "number of classes", minimum=1)
        max: int = option(50, "maximum number of truths per image", use="training")
        jitter: float = option(0.1, "cropping", use="training")
        auxiliary: int = option(0, "1: this head exists in training alone", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.auxiliary = options.classes, bool(options.auxiliary)
        self.scale = self.empty(1)  # of the distances: learned
        self.set_input(place, options.classes + 4, "classes", f"{options.classes} classes + 4")

    def initialise(self, generator: torch.Generator) -> None:
        torch.nn.init.ones_(self.scale)

    def needs(self) -> BoxNeeds:
        return BoxNeeds(self.classes, self.options.max, Corners(self.options.max), jitter=self.options.jitter)

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        height, width = raw.shape[2:]
        rows, columns = torch.arange(height, device=raw.device), torch.arange(width, device=raw.device)
        centre = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1) + 0.5
        values = raw.flatten(2).transpose(1, 2)  # (n, k, 4 + classes)
        distances = (values[..., :4] * self.scale).exp()  # left, top, right, bottom; cells
        low, high = centre - distances[..., :2], centre + distances[..., 2:]
        cells = torch.tensor((width, height), device=raw.device)
        xywh = torch.cat(((low + high) / 2 / cells, (high - low) / cells), -1)
        return Boxes(xywh, torch.ones_like(values[..., 0]), values[..., 4:].sigmoid())


def assign(predicted: Tensor, centres: Tensor, truths: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each truth trains the CHOSEN cells, of any level and with their centre in it, that overlap it best.

    predicted: (n, k, 4), all levels one after the other. centres: (k, 2). truths: (n, t, 4). real: (n, t) bool.
    Returns the images, cells and truths of the pairs, all (p,).
    """
    low, high = truths[..., :2] - truths[..., 2:] / 2, truths[..., :2] + truths[..., 2:] / 2
    inside = ((centres[None, None] > low[:, :, None]) & (centres[None, None] < high[:, :, None])).all(-1)
    near = (1 - (centres[None, None] - truths[:, :, None, :2]).abs() / truths[:, :, None, 2:]).prod(-1)
    score = torch.where(inside & real[..., None], iou(truths[:, :, None], predicted[:, None]) + near, -1.0)  # (n, t, k)
    best = score.topk(CHOSEN, 2)
    chosen = torch.zeros_like(score).scatter(2, best.indices, 1.0).bool() & (score > 0)
    owner = torch.where(chosen, score, -1.0).max(1)  # a cell that several truths choose belongs to the best of them
    image, cell = (owner.values > 0).nonzero(as_tuple=True)
    return image, cell, owner.indices[image, cell]


def points_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    real = rows[..., 0] > 0
    corners = rows[..., 1:]
    truths = torch.cat(((corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]), -1)
    groups = ([o for o in outputs if o.layer.auxiliary], [o for o in outputs if not o.layer.auxiliary])
    costs = {name: _cost(group, truths, real, rows[..., 0].long() - 1, state)
             for name, group in zip(("auxiliary", "lead"), groups, strict=True) if group}  # fmt: skip
    total = sum((0.25 if name == "auxiliary" else 1.0) * cost for name, cost in costs.items())
    return Value(torch.as_tensor(total), {name: cost.detach() for name, cost in costs.items()})


def _cost(outputs: Sequence[Output], truths: Tensor, real: Tensor, labels: Tensor, state: State) -> Tensor:
    boxes = [layer.boxes(raw, state.size) for layer, raw in outputs]
    xywh = torch.cat([level.xywh for level in boxes], 1)
    classes = torch.cat([level.classes for level in boxes], 1)
    centres = torch.cat([_centres(raw) for _, raw in outputs])
    with torch.no_grad():
        image, cell, number = assign(xywh, centres, truths, real)
        target = torch.zeros_like(classes)
        target[image, cell, labels[image, number]] = 1
    weight = torch.where(target > 0, 1.0, classes.detach() ** 2)
    by_class = F.binary_cross_entropy(classes, target, weight, reduction="sum")
    by_box = (1 - giou(xywh[image, cell], truths[image, number])).sum()
    return by_class / CHOSEN + 2 * by_box / CHOSEN


def _centres(raw: Tensor) -> Tensor:
    height, width = raw.shape[2:]
    grid = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    return (torch.stack(grid, -1).flatten(0, 1) + 0.5) / torch.tensor((width, height))


@pytest.fixture(autouse=True, scope="module")
def _known() -> Iterator[None]:
    """Registers the head; other tests list the kinds and losses of the package, so it goes again."""
    KINDS["points"], LOSSES["points"] = Points, {"points": Loss(points_loss)}
    yield
    del KINDS["points"], LOSSES["points"]


CONVOLUTION = (
    "[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize=3\nstride={stride}\npad=1\nactivation=leaky\n"
)
HEAD = "[convolutional]\nfilters=10\nsize=1\nactivation=linear\n[points]\nclasses=6\nauxiliary={auxiliary}\n"


def write_cfg(folder: Path, iterations: int) -> Path:
    net = (
        f"[net]\nwidth=96\nheight=64\nchannels=3\nbatch=8\nmax_batches={iterations}\nadam=1\nlearning_rate=0.003\n"
        "burn_in=10\nflip=1\n"
    )
    trunk = [CONVOLUTION.format(filters=filters, stride=stride) for filters, stride in ((16, 2), (24, 2), (32, 2))]
    last = CONVOLUTION.format(filters=48, stride=2)
    text = (
        net + "".join(trunk)  # layers 0 to 2
        + HEAD.format(auxiliary=1)  # 3, 4
        + "[route]\nlayers=2\n" + HEAD.format(auxiliary=0)  # 5 to 7
        + "[route]\nlayers=2\n" + last + HEAD.format(auxiliary=0)  # 8 to 11
    )  # fmt: skip
    path = folder / "points.cfg"
    path.write_text(text)
    return path


def losses_in(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_it_trains_evaluates_detects_and_resumes(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "shapes", train=60, valid=20)
    cfg, out = write_cfg(tmp_path, 90), tmp_path / "out"
    arguments = [str(data), str(cfg), "--out", str(out), "--workers", "0", "--device", "cpu"]
    assert train.main([*arguments, "--max-batches", "60"]) == 0
    assert train.main([*arguments, "--max-batches", "90", "--resume"]) == 0
    losses = losses_in(out)
    assert len(losses) == 90
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) / 2
    weights = out / "points_final.weights"
    network = darknet_py.load(cfg, weights)
    assert float(network.layers[7].scale) != 1  # the head's own parameter has learned, and travels in the file
    assert evaluate.main([str(data), str(cfg), str(weights), "--device", "cpu"]) == 0
    image = next((tmp_path / "shapes" / "images").glob("valid-*.png"))
    detections = darknet_py.Detector(network, names=str(tmp_path / "shapes" / "shapes.names"))(image, thresh=0.2)[0]
    assert len(detections) > 0


def test_a_resumed_run_is_one_that_never_stopped(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "shapes", train=16, valid=2)
    cfg = write_cfg(tmp_path, 6)
    arguments = [str(data), str(cfg), "--workers", "0", "--device", "cpu"]
    assert train.main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert train.main([*arguments, "--out", str(tmp_path / "parts"), "--max-batches", "3"]) == 0
    assert train.main([*arguments, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    whole, parts = (tmp_path / name / "points_final.weights" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_an_auxiliary_head_is_trained_and_no_part_of_inference(tmp_path: Path) -> None:
    network = Network(parse_cfg(write_cfg(tmp_path, 2))).initialise(0)
    assert network.heads == [7, 11]
    ran: list[int] = []
    for index in (3, 4):
        network.layers[index].register_forward_hook(lambda layer, *_: ran.append(layer.index))
    network.eval()(torch.rand(1, 3, 64, 96))
    assert not ran
    trainer = Trainer(network)
    truths = torch.zeros(8, 50, 5)
    truths[:, 0] = torch.tensor([1, 0.2, 0.3, 0.6, 0.8])
    step = trainer.accumulate(torch.rand(8, 3, 64, 96), truths)
    assert set(step.parts) == {"auxiliary", "lead"}
    assert step.cost == pytest.approx(float(step.parts["lead"] + 0.25 * step.parts["auxiliary"]), rel=1e-5)
    for index in (4, 7, 11):
        assert network.layers[index].scale.grad is not None
    assert network.layers[3].weights.grad is not None
