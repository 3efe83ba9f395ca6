"""YOLOX's assigners and loss are those of its own program."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from loss_cases import LossCase, anchor_free_heads, gradients_are_near
from torch import Tensor
from yolos import YOLOS, arrays, case_files, needs_yolos, tensors

from darknet_py.boxes import corners
from darknet_py.losses import Output, State
from darknet_py.losses.points import points
from darknet_py.losses.truths import truths_to_the_edge
from darknet_py.losses.yolox import box_quality, matched, yolox_loss

ASSIGNERS = {"main": "simota", "old": "simota_0.3"}
PARTS = {"iou_x5": "box", "obj": "objectness", "cls": "class", "l1": "L1"}  # the program's names → ours
FILES = case_files("yolox", "simota*")
CASES = [
    (file, variant, case)
    for file, (_, about) in FILES.items()
    for variant, cases in about["variants"].items()
    for case in cases
]
GRADIENTS = [
    (file, variant, case, part)
    for file, variant, case in CASES
    for part in ("total", *PARTS)
    if part != "l1" or FILES[file][1]["variants"][variant][case]["use_l1"]
]


def case_of(file: str, variant: str, case: str, options: str = "") -> LossCase:
    """The assignment is the same in the last epochs (`.l1`), and stored once."""
    path, about = FILES[file]
    values, plain = arrays(path.with_suffix(".npz")), case.removesuffix(".l1")
    name = plain.removeprefix(f"{variant}.")
    leaves = [torch.from_numpy(values[f"{name}.map_{stride}"]).requires_grad_() for stride in about["strides"]]
    options += f"\ncoords=xywh\nobjectness=1\nassigner={ASSIGNERS[variant.split('_')[0]]}"
    heads = anchor_free_heads(about, leaves[0].shape[1], options)
    labels = torch.from_numpy(values[f"{name}.labels"])
    size = about["width"], about["height"]
    rows = torch.cat((labels[..., 1:] / torch.tensor(size * 2), labels[..., :1], torch.zeros_like(labels[..., :1])), -1)
    expected = about["variants"][variant][case]
    own = {key[len(part) + 1 :]: values[key] for part in (plain, case) for key in values if key.startswith(f"{part}.")}
    outputs = [Output(*pair) for pair in zip(heads, leaves, strict=True)]
    return LossCase(expected, own, outputs, leaves, rows, State(size, plain=expected["use_l1"]))


@needs_yolos
@pytest.mark.parametrize(("file", "variant", "case"), CASES or [("(no yolos)", "", "")])
def test_assignment(file: str, variant: str, case: str) -> None:
    expected, values, outputs, _, rows, state = case_of(file, variant, case)
    boxes, head = points(outputs, state.size), outputs[0].layer
    truths = truths_to_the_edge(rows, head.classes)
    owner, overlap, cost = matched(boxes, truths, truths.xywh * torch.tensor(state.size * 2), head.options.assigner)
    with_truths = expected["images_with_truth"]
    assert (owner >= 0).any(1).nonzero().flatten().tolist() == with_truths
    assert (owner >= 0).sum(1)[with_truths].tolist() == expected["num_fg"]
    for image in with_truths:
        number, trained, possible = owner[image], owner[image] >= 0, torch.from_numpy(values[f"im{image}.candidates"])
        assert torch.equal(trained, torch.from_numpy(values[f"im{image}.fg_mask"]))
        assert torch.equal(number[trained], torch.from_numpy(values[f"im{image}.matched_gt"]))
        labels = truths.classes[image, number[trained]]
        assert torch.equal(labels, torch.from_numpy(values[f"im{image}.matched_class"]))
        costs, overlaps = (torch.from_numpy(values[f"im{image}.{name}"]) for name in ("cost", "ious"))
        assert torch.equal(cost[image, 0].isfinite(), possible)
        torch.testing.assert_close(cost[image, : len(costs), possible], costs, rtol=5e-6, atol=1e-5)
        torch.testing.assert_close(overlap[image, : len(costs), possible], overlaps, rtol=1e-5, atol=1e-6)


@needs_yolos
@pytest.mark.parametrize(("file", "variant", "case"), CASES or [("(no yolos)", "", "")])
def test_loss(file: str, variant: str, case: str) -> None:
    expected, _, outputs, _, rows, state = case_of(file, variant, case)
    value = yolox_loss(outputs, rows, state)
    assert float(value.total.detach()) == pytest.approx(expected["losses"]["total"], rel=1e-6)
    for name, part in PARTS.items():
        assert float(value.parts.get(part, 0.0)) == pytest.approx(expected["losses"][name], rel=1e-6)


@needs_yolos
@pytest.mark.parametrize(("file", "variant", "case", "part"), GRADIENTS or [("(no yolos)", "", "", "")])
def test_gradients(file: str, variant: str, case: str, part: str) -> None:
    """A part is alone where the others weigh nothing."""
    others = [name for name in ("box", "objectness", "class") if part != "total" and PARTS[part] != name]
    case_alone = case_of(file, variant, case, "\n".join(f"{name}_weight=0" for name in others))
    _, values, outputs, leaves, rows, state = case_alone
    state = replace(state, plain=state.plain and part in ("total", "l1"))
    gradients = torch.autograd.grad(yolox_loss(outputs, rows, state).total, leaves)
    gradients_are_near(gradients, values, FILES[file][1]["strides"], part)


def perfect(options: str) -> tuple[list[Output], Tensor, State]:
    """Heads of 4x4 and 2x2 cells; each box is the truth, a square of 32 pixels in the middle of 64x64, of class 1."""
    about = {"num_classes": 3, "width": 64, "height": 64, "strides": (16, 32)}
    heads = anchor_free_heads(about, 8, f"coords=xywh\nobjectness=1\n{options}")
    raws = []
    for side in (4, 2):
        corner = torch.arange(side).float()
        raw = torch.zeros(1, 8, side, side)
        raw[:, 0], raw[:, 1] = side / 2 - corner, side / 2 - corner[:, None]
        raw[:, 2:4] = math.log(side / 2)
        raws.append(raw)
    rows = torch.zeros(1, 2, 6)
    rows[0, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5, 1, 0])
    return [Output(*pair) for pair in zip(heads, raws, strict=True)], rows, State((64, 64), plain=True)


@pytest.mark.parametrize(("options", "count"), [("", 8), ("iou_loss=giou", 8), ("assigner=simota_0.3", 10)])
def test_a_perfect_box_costs_nothing(options: str, count: int) -> None:
    """8 of the 20 boxes lie within 1.5 cells of the truth's centre, all within 2.5; a truth trains at most 10."""
    value = yolox_loss(*perfect(options))
    assert float(value.parts["box"]) == pytest.approx(0, abs=1e-6)
    assert float(value.parts["L1"]) == pytest.approx(0, abs=1e-5)
    assert float(value.parts["class"]) == pytest.approx(3 * math.log(2), rel=1e-6)
    assert float(value.parts["objectness"]) == pytest.approx(20 * math.log(2) / count, rel=1e-6)


@needs_yolos
@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_overlaps_and_their_gradients(kind: str) -> None:
    pairs = tensors(YOLOS / "yolox" / "iou_loss.npz")
    pred = pairs["pred"].requires_grad_()
    loss = 1 - box_quality(kind, corners(pred), corners(pairs["target"]))
    torch.testing.assert_close(loss, pairs[f"{kind}.loss"], rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    largest = pairs[f"{kind}.grad"].abs().max()
    torch.testing.assert_close(gradient, pairs[f"{kind}.grad"], rtol=0, atol=2e-5 * float(largest))
