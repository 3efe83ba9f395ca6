"""YOLOv8's overlaps, assigners and loss are those of its own program."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from loss_cases import LossCase, anchor_free_heads, gradients_are_near, truth_rows
from torch import Tensor
from yolos import YOLOS, arrays, case_files, needs_yolos, tensors

from darknet_py.boxes import corners
from darknet_py.losses import Output, State
from darknet_py.losses.overlaps import OVERLAPS
from darknet_py.losses.points import points
from darknet_py.losses.truths import truths_to_the_edge
from darknet_py.losses.yolov8 import ALPHA, BETA, EPS, SMALLEST, TOP, assigned, yolov8_loss

FILES = case_files("yolov8", "tal_*loss")
CASES = [(file, case) for file, (_, about) in FILES.items() for case in about["cases"]] or [("(no yolos)", "")]
PARTS = {"total": "", "box": "box", "cls": "class", "dfl": "dfl"}  # the program's name → our option
GRADIENTS = [
    (file, case, part)
    for file, case in CASES
    for part in PARTS
    if file in FILES and f"{case}.grad_{part}_8" in arrays(FILES[file][0].with_suffix(".npz"))
] or [("(no yolos)", "", "")]


def case_of(file: str, case: str, weights: dict[str, float] | None = None) -> LossCase:
    """A file of another release has the same inputs as tal_loss, and does not repeat them."""
    path, about = FILES[file]
    files = (path.with_name("tal_loss.npz"), path.with_suffix(".npz"))
    values = {
        key.removeprefix(f"{case}."): value
        for source in files
        for key, value in arrays(source).items()
        if key.startswith(f"{case}.")
    }
    leaves = [torch.from_numpy(values[f"map_{stride}"]).requires_grad_() for stride in about["strides"]]
    weights = weights or {"box": about["gains"]["box"], "class": about["gains"]["cls"], "dfl": about["gains"]["dfl"]}
    options = f"reg_max={about['reg_max'] - 1}\nassigner={assigner_of(about)}\n"
    options += "\n".join(f"{name}_weight={weight}" for name, weight in weights.items())
    heads = anchor_free_heads(about, leaves[0].shape[1], options)
    columns = (values["batch_idx"][:, None], values["cls"], values["bboxes"])
    targets = torch.from_numpy(np.concatenate(columns, 1, dtype=np.float32))
    rows = truth_rows(targets, len(leaves[0]))
    outputs = [Output(*pair) for pair in zip(heads, leaves, strict=True)]
    return LossCase(about, values, outputs, leaves, rows, State((about["width"], about["height"])))


def assigner_of(about: dict[str, Any]) -> str:
    version = tuple(int(number) for number in about["ultralytics"].split("."))
    return "task_aligned" if version < (8, 4) else "task_aligned_8.4"


@needs_yolos
@pytest.mark.parametrize(("file", "case"), CASES)
def test_assignment(file: str, case: str) -> None:
    about, values, outputs, _, rows, state = case_of(file, case)
    assert about["assigner"] == {"topk": TOP, "alpha": ALPHA, "beta": BETA, "eps": 1e-9}
    truths = truths_to_the_edge(rows, about["num_classes"])
    low_high = corners(truths.xywh * torch.tensor(state.size * 2))
    owner, score = assigned(points(outputs, state.size), truths, low_high, SMALLEST[assigner_of(about)])
    trained = owner >= 0
    assert trained.sum(1).tolist() == about["cases"][case]["n_fg"]
    assert torch.equal(trained, torch.from_numpy(values["fg_mask"]).bool())
    assert torch.equal(owner.clamp(min=0), torch.from_numpy(values["target_gt_idx"]))
    scores = torch.zeros_like(torch.from_numpy(values["target_scores"]))
    image, box = trained.nonzero(as_tuple=True)
    scores[image, box, truths.classes[image, owner[trained]]] = score[trained]
    torch.testing.assert_close(scores, torch.from_numpy(values["target_scores"]), rtol=1e-5, atol=1e-6)


@needs_yolos
@pytest.mark.parametrize(("file", "case"), CASES)
def test_loss(file: str, case: str) -> None:
    about, _, outputs, _, rows, state = case_of(file, case)
    value, expected = yolov8_loss(outputs, rows, state), about["cases"][case]
    assert float(value.total.detach()) == pytest.approx(expected["total_times_batch"], rel=1e-6)
    for part, cost in zip(("box", "class", "distribution"), expected["box_cls_dfl"], strict=True):
        assert float(value.parts[part]) == pytest.approx(cost * len(rows), rel=1e-6)


@needs_yolos
@pytest.mark.parametrize(("file", "case", "part"), GRADIENTS)
def test_gradients(file: str, case: str, part: str) -> None:
    """A part is alone where the others weigh nothing."""
    gains = FILES[file][1]["gains"]
    weights = None if part == "total" else {PARTS[name]: gain * (name == part) for name, gain in gains.items()}
    about, values, outputs, leaves, rows, state = case_of(file, case, weights)
    gradients = torch.autograd.grad(yolov8_loss(outputs, rows, state).total, leaves)
    gradients_are_near(gradients, values, about["strides"], part)


def perfect(side: float, options: str = "") -> tuple[list[Output], Tensor, State]:
    """A head of 8x8 cells of 8 pixels; each box is the truth, a square of `side` pixels around (34, 34), of class 1."""
    heads = anchor_free_heads({"num_classes": 3, "width": 64, "height": 64, "strides": (8,)}, 7, options)
    middle = torch.arange(8) + 0.5
    raw = torch.zeros(1, 7, 8, 8)
    low, high = (34 - side / 2) / 8, (34 + side / 2) / 8
    raw[:, 0], raw[:, 1], raw[:, 2], raw[:, 3] = (
        middle - low,
        (middle - low)[:, None],
        high - middle,
        (high - middle)[:, None],
    )
    rows = torch.zeros(1, 2, 6)
    rows[0, 0] = torch.tensor([34 / 64, 34 / 64, side / 64, side / 64, 1, 0])
    return [Output(heads[0], raw)], rows, State((64, 64))


@pytest.mark.parametrize(
    ("side", "assigner", "count"),
    [(30, "task_aligned", 10), (2, "task_aligned", 0), (2, "task_aligned_8.4", 4)],
)
def test_a_perfect_box_costs_nothing(side: float, assigner: str, count: int) -> None:
    """A truth trains 10 of the boxes whose cells' middles lie in it; one of 2 pixels around (34, 34) contains none,
    but the 16 pixels around its middle contain 4."""
    outputs, rows, state = perfect(side, f"assigner={assigner}")
    outputs[0].raw.requires_grad_()
    value = yolov8_loss(outputs, rows, state)
    (gradient,) = torch.autograd.grad(value.total, [outputs[0].raw])
    assert float(value.parts["box"]) == pytest.approx(0, abs=1e-4)
    assert "distribution" not in value.parts
    assert float(value.parts["class"]) == pytest.approx(0.5 * 8 * 8 * 3 * math.log(2) / max(count, 1), rel=1e-6)
    assert int((gradient[0, 5] < 0).sum()) == count  # towards their class


def test_auxiliary_heads_are_assigned_for_themselves() -> None:
    (lead,), rows, state = perfect(30)
    (auxiliary,), _, _ = perfect(30)
    auxiliary.layer.auxiliary = True
    alone, both = yolov8_loss([lead], rows, state), yolov8_loss([lead, auxiliary], rows, state)
    assert both.parts == alone.parts | {f"auxiliary {name}": part for name, part in alone.parts.items()}


@needs_yolos
@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU"])
def test_overlaps_and_their_gradients(kind: str) -> None:
    pairs = tensors(YOLOS / "yolov8" / "box_iou.npz")
    pred = pairs["pred_xyxy"].requires_grad_()
    overlap = OVERLAPS[kind.lower()](pred, pairs["target_xyxy"], EPS)
    torch.testing.assert_close(overlap, pairs[kind], rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(overlap.sum(), pred)
    expected = pairs[f"{kind}.grad_pred"]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
