"""The overlaps, assigners and losses of YOLOv5 and YOLOv7 are those of their own programs."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import pytest
import torch
from loss_cases import LossCase, hyper_weights, truth_rows
from torch import Tensor
from yolos import YOLOS, arrays, content, needs_yolos, tensors

from darknet_py.boxes import corners
from darknet_py.cfg import parse_text
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.losses import LOSSES, Output, State, Value
from darknet_py.losses.assign import ratio
from darknet_py.losses.assign.level import level_of
from darknet_py.losses.assign.ota import _cheapest
from darknet_py.losses.overlaps import diou, giou, iou
from darknet_py.losses.predictions import Prediction, predictions
from darknet_py.losses.truths import truths_to_the_edge
from darknet_py.losses.yolov5 import EPS, V5
from darknet_py.losses.yolov7 import V7
from darknet_py.network import Network
from darknet_py.training.step import Trainer

SYSTEMS = {"yolov5": V5, "yolov7": V7}
CASES = [
    (system, case["case"]) for system in SYSTEMS for case in content(f"{system}/loss/cases.json").get("cases", [])
] or [("(no yolos)", "")]
V5_ANCHORS = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))  # pixels
OVERLAPS = {"IoU": iou, "GIoU": giou, "DIoU": diou}


def cfg_of(system: str, about: dict[str, Any], strides: list[int], *, auxiliary: bool, written: str = "") -> str:
    """A network of [yolo] heads of these strides, with the options that the case has; auxiliary heads come behind."""
    height, width = about["hw"]
    hyp, assigner = about["hyp_scaled"], "ota" if "OTA" in about.get("loss_class", "") else "ratio"
    anchors = V5_ANCHORS
    if "anchors_grid" in about:
        anchors = [
            [side * stride for pair in pairs for side in pair]
            for pairs, stride in zip(about["anchors_grid"], strides, strict=True)
        ]
    options = (
        f"classes={about['nc']}\nnum=3\nnew_coords=1\nscale_x_y=2\nlogistic=1\nloss={system}\nassigner={assigner}\n"
        f"anchor_t={hyp['anchor_t']}\nfocal_gamma={hyp['fl_gamma']}\nlabel_smooth_eps={hyp['label_smoothing']}\n"
        f"class_positive_weight={hyp['cls_pw']}\nobjectness_positive_weight={hyp['obj_pw']}\n"
        f"sort_obj_iou={int(about.get('sort_obj_iou', False))}\nautobalance={int(about['autobalance'])}\n{written}"
    )
    text = f"[net]\nwidth={width}\nheight={height}\nchannels=3\n"
    for kind in ("", "auxiliary") if auxiliary else ("",):
        for stride, pairs in zip(strides, anchors, strict=True):
            text += "[route]\nlayers=0\n" if kind or stride != strides[0] else "[empty]\n"
            text += f"[convolutional]\nfilters={3 * (5 + about['nc'])}\nsize={stride}\nstride={stride}\n"
            text += f"[yolo]\nanchors={','.join(map(str, pairs))}\n{options}"
            text += f"aux_of=-{3 * len(strides)}\n" if kind else ""
    return text


def case_of(system: str, name: str, *, written: bool = True) -> LossCase:
    """written: the weights of the terms are written in the cfg."""
    folder = YOLOS / system / "loss"
    everything = content(f"{system}/loss/cases.json")
    about = next(case for case in everything["cases"] if case["case"] == name)
    strides, hyp, values = (
        about.get("strides", everything.get("strides")),
        about["hyp_scaled"],
        arrays(folder / f"{name}.npz"),
    )
    options = hyper_weights(hyp, about["nc"], (about["hw"][1], about["hw"][0]), len(strides))
    weights = "".join(f"{key}={value!r}\n" for key, value in options.items())
    text = cfg_of(system, about, strides, auxiliary="pred_aux_0" in values, written=weights * written)
    network = Network(parse_text(text))
    heads = [layer for layer in network.layers if layer.head]
    names = [
        f"{part}_{level}"
        for part in ("pred", "pred_aux")
        for level in range(len(strides))
        if f"{part}_{level}" in values
    ]
    leaves = [torch.from_numpy(values[name]).requires_grad_() for name in names]  # (n, anchors, h, w, entries)
    raws = [leaf.movedim(4, 2).flatten(1, 2) for leaf in leaves]
    outputs = [Output(*pair) for pair in zip(heads, raws, strict=True)]
    rows = truth_rows(torch.from_numpy(values["targets"]), len(leaves[0]))
    return LossCase(about, values, outputs, leaves, rows, State(network.size, network.net))


def rows_of(head: Prediction, image: Tensor, box: Tensor) -> Tensor:
    """(p, 4) image, anchor, row, column, as the cases list them."""
    cell, anchor = box // 3, box % 3
    return torch.stack((image, anchor, cell // head.grid[0], cell % head.grid[0]), 1)


@needs_yolos
@pytest.mark.parametrize("form", ["xywh", "xyxy"])
@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_overlaps_and_their_gradients(system: str, kind: str, form: str) -> None:
    pairs, case = tensors(YOLOS / system / "boxes.npz"), f"{kind}_{form}"
    leaf, other = pairs["box1_xywh"], corners(pairs["box2_xywh"])
    leaf = (leaf if form == "xywh" else corners(leaf)).requires_grad_()
    boxes = corners(leaf) if form == "xywh" else leaf
    overlap = SYSTEMS[system].overlap(boxes, other) if kind == "CIoU" else OVERLAPS[kind](boxes, other, EPS)
    (gradient,) = torch.autograd.grad(overlap.sum(), leaf)
    expected, slopes = pairs[case], pairs[f"grad1_{case}"]
    known = ~slopes.isnan().any(1)
    assert known.sum() >= 199
    torch.testing.assert_close(overlap[known], expected[known], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient[known], slopes[known], rtol=1e-6, atol=1e-6)


@needs_yolos
@pytest.mark.parametrize(("system", "name"), CASES)
def test_assignment(system: str, name: str) -> None:
    case = case_of(system, name)
    heads, truths = predictions(case.outputs, case.rows, case.state, "ratio", truths_to_the_edge)
    for number, head in enumerate(heads):
        level = number % len(case.about.get("strides", V5_ANCHORS))
        part = "aux_" if head.layer.auxiliary else ""
        image, truth, box, background = head.assignment
        matches = torch.from_numpy(case.values[f"{part}match_{level}"])
        assert torch.equal(rows_of(head, image, box), matches[:, :4])
        assert background.sum() == background.numel() - len(matches[:, :4].unique(dim=0))
        xywh, classes = truths.xywh[image, truth], truths.classes[image, truth]
        if f"{part}candidates_{level}" in case.values:
            found = ratio.matches(level_of(head.layer, head.xywh, head.logits, head.grid, case.state.size), truths)
            candidates = torch.from_numpy(case.values[f"{part}candidates_{level}"])
            assert torch.equal(rows_of(head, found[0], found[2]), candidates)
            targets = torch.from_numpy(case.values[f"{part}match_target_{level}"])
            assert torch.equal(torch.cat((classes[:, None], xywh), 1), targets[:, 1:])
        else:
            assert torch.equal(classes, matches[:, 4])
            corner = head.layer.place_of(box, head.grid)[0]
            wanted = xywh * torch.tensor(head.grid * 2) - torch.nn.functional.pad(corner, (0, 2))
            assert torch.equal(wanted, torch.from_numpy(case.values[f"tbox_{level}"]))


def test_ota_chooses_as_topk_does_for_each_truth_alone_also_among_boxes_that_were_found_twice() -> None:
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(4, 6, 40, generator=generator)
    cost[..., 1::2] = cost[..., ::2]  # each box twice
    lengths, count = torch.tensor([40, 39, 17, 0]), torch.randint(1, 11, (4, 6), generator=generator)
    possible = (torch.arange(40) < lengths[:, None])[:, None].repeat(1, 6, 1)
    possible[0, 5] = False  # no truth
    chosen = _cheapest(torch.where(possible, cost, torch.inf), possible, count.int())
    for image, truth in possible.any(2).nonzero().tolist():
        row = cost[image, truth, : lengths[image]]
        expected = row.topk(int(count[image, truth]), largest=False).indices.sort().values
        assert torch.equal(chosen[image, truth].nonzero().squeeze(1), expected)
    assert not (chosen & ~possible).any()


@needs_yolos
@pytest.mark.parametrize(("system", "name"), CASES)
def test_loss_parts_and_gradients(system: str, name: str) -> None:
    case = case_of(system, name)
    value: Value = LOSSES["yolo"][system].function(case.outputs, case.rows, case.state)
    images = len(case.rows)
    assert float(value.total.detach()) == pytest.approx(case.about["loss"], rel=1e-6)
    for part, key in {"box": "lbox", "objectness": "lobj", "class": "lcls"}.items():
        assert float(value.parts[part]) / images == pytest.approx(case.about[key], rel=1e-6, abs=1e-9)
    levels = range(len(case.leaves) // (2 if "pred_aux_0" in case.values else 1))
    names = [f"{part}_{level}" for part in ("grad", "grad_aux") for level in levels if f"{part}_{level}" in case.values]
    gradients = torch.autograd.grad(value.total, case.leaves)
    for gradient, name in zip(gradients, names, strict=True):
        torch.testing.assert_close(gradient, torch.from_numpy(case.values[name]), rtol=0, atol=3e-8)


@needs_yolos
@pytest.mark.parametrize(("system", "name"), [case for case in CASES if "tiny" not in case[1]])
def test_the_usual_weights_are_those_of_the_trainer(system: str, name: str) -> None:
    """Where the cfg writes none; for an input of 640 pixels, which the cases are scaled for."""
    case = case_of(system, name, written=False)
    net = dataclasses.replace(case.state.net, width=640, height=640)
    state = dataclasses.replace(case.state, net=net)
    value = LOSSES["yolo"][system].function(case.outputs, case.rows, state)
    assert float(value.total.detach()) == pytest.approx(case.about["loss"], rel=1e-6)


@needs_yolos
@pytest.mark.parametrize(("system", "name"), CASES)
def test_balances_after_the_step(system: str, name: str) -> None:
    case = case_of(system, name)
    LOSSES["yolo"][system].function(case.outputs, case.rows, case.state)
    leads = [layer for layer, _ in case.outputs if not layer.auxiliary]
    after = [float(case.state.memory[f"{layer.index}.objectness_balance"]) for layer in leads if case.state.memory]
    assert after == pytest.approx(case.about["balance_after"] if case.about["autobalance"] else [], rel=1e-7)


ABOUT = {"nc": 2, "hw": (64, 64), "autobalance": False, "loss_class": "OTA",
         "hyp_scaled": {"anchor_t": 4, "fl_gamma": 0, "label_smoothing": 0, "cls_pw": 1, "obj_pw": 1}}  # fmt: skip
STRIDES = [8, 16, 32]


def text_of(loss: str, *changes: tuple[str, str]) -> str:
    """Three heads, and an auxiliary one for each. changes: what is replaced in the last head."""
    first, name, last = cfg_of(loss, ABOUT, STRIDES, auxiliary=True).rpartition("[yolo]")
    for before, after in changes:
        assert before in last
        last = last.replace(before, after)
    return first + name + last


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("loss=yolov7", "loss=darknet")], r"logistic=1: needs a loss of logits, not Darknet's; write loss=yolov5"),
        ([("loss=yolov7", "loss=yolov5")], r"aux_of=-9: layer 8 has another loss; write loss=yolov5 there"),
        ([("logistic=1\n", "")], r"new_coords=1: gives no logits, and loss=yolov7 needs them; write logistic=1 too"),
        ([("assigner=ota", "assigner=ratio")], r"assigner=ratio: layer 2 has assigner=ota; heads that train together"),
        ([("anchors=116", "anchors=115")], r"aux_of=-9: its anchors differ from those of layer 8"),
        ([("aux_of=-9", "aux_of=-8")], r"aux_of=-8: layer 9 \(\[route\]\) is not a \[yolo\] of 2 classes"),
    ],
)
def test_heads_that_cannot_train_together(changes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(CfgError, match=r"^<text>:\d+: \[yolo\] " + message):
        Trainer(Network(parse_text(text_of("yolov7", *changes))).initialise(0))


def test_heads_of_different_classes_do_not_train_together() -> None:
    text = cfg_of("yolov5", ABOUT, STRIDES, auxiliary=False)
    text = text.replace("classes=2", "classes=3", 1).replace("filters=21", "filters=24", 1)
    with pytest.raises(CfgError, match=r"\[yolo\] classes=2: layer 2 has classes=3; heads that train together need"):
        Trainer(Network(parse_text(text)).initialise(0))


def test_training_warns_where_ota_misplaces_truths() -> None:
    """Its program multiplies both coordinates by the height; a case of its loss shows it (see `test_assignment`)."""
    text = text_of("yolov7")
    assert "height=64" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(Network(parse_text(text)))
        Trainer(Network(parse_text(text.replace("ota", "ratio").replace("height=64", "height=96"))))
    with pytest.warns(
        CfgWarning, match=r"^<text>:\d+: \[net\] height=96: assigner=ota places truths wrongly .* height=64"
    ):
        Trainer(Network(parse_text(text.replace("height=64", "height=96"))))


def test_checkpoints_hold_the_balances_and_an_iteration_that_is_undone_leaves_them() -> None:
    about = ABOUT | {"autobalance": True}

    def trainer() -> Trainer:
        return Trainer(Network(parse_text(cfg_of("yolov5", about, STRIDES, auxiliary=False))).initialise(0))

    images, rows = torch.rand(1, 3, 64, 64), truth_rows(torch.tensor([[0, 1, 0.4, 0.6, 0.3, 0.5]]), 1)
    first, second = trainer(), trainer()
    first.accumulate(images, rows)
    before = dict(first.memory)
    first.update()
    second.load_state_dict(first.state_dict())
    assert second.memory == before
    second.accumulate(images, rows)
    assert second.memory != before
    second.undo()
    assert second.memory == before


@pytest.mark.parametrize("loss", SYSTEMS)
def test_the_loss_falls(loss: str) -> None:
    weights = "box_weight=.05\nobjectness_weight=100\nclass_weight=10\n"
    text = cfg_of(loss, ABOUT, STRIDES, auxiliary=True, written=weights)
    text = text.replace("[net]", "[net]\nlearning_rate=.05\nbatch=2\n")
    trainer = Trainer(Network(parse_text(text)).initialise(0))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    rows = truth_rows(torch.tensor([[0, 1, 0.4, 0.6, 0.3, 0.5], [1, 0, 0.7, 0.3, 0.6, 0.2]]), 2)
    costs = []
    for _ in range(12):
        costs.append(trainer.accumulate(images, rows).cost)
        trainer.update()
    assert costs[-1] < 0.9 * costs[0]


def test_a_head_without_classes_has_a_finite_loss() -> None:
    about = ABOUT | {"nc": 0}
    trainer = Trainer(Network(parse_text(cfg_of("yolov5", about, STRIDES, auxiliary=False))).initialise(0))
    step = trainer.accumulate(torch.rand(1, 3, 64, 64), truth_rows(torch.tensor([[0, 0, 0.4, 0.6, 0.3, 0.5]]), 1))
    assert math.isfinite(step.cost)


def test_a_truth_at_the_left_edge_of_the_image_is_trained() -> None:
    network = Network(parse_text(cfg_of("yolov5", ABOUT, STRIDES, auxiliary=False)))
    rows = truth_rows(torch.tensor([[0, 1, 0.0, 0.5, 0.3, 0.5], [0, 1, 0.5, 0.5, 0.3, 0.5]]), 1)
    outputs = [Output(head, torch.zeros(1, 21, head.shape.h, head.shape.w)) for head in network.head_layers()]
    heads, _ = predictions(outputs, rows, State(network.size, network.net), "ratio", truths_to_the_edge)
    assert {0, 1} == {int(truth) for head in heads for truth in head.assignment.truth}


@pytest.mark.parametrize(("loss", "usual"), [("yolov5", (0.05, 1.0, 0.5)), ("yolov7", (0.05, 0.7, 0.3))])
def test_weights_are_those_for_80_classes_and_640_pixels_whatever_the_network(
    loss: str, usual: tuple[float, float, float]
) -> None:
    written = "".join(
        f"{term}_weight={value}\n" for term, value in zip(("box", "objectness", "class"), usual, strict=True)
    )
    rows = truth_rows(torch.tensor([[0, 1, 0.4, 0.6, 0.3, 0.5], [1, 0, 0.7, 0.3, 0.6, 0.2]]), 2)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    costs = []
    for options in ("", written):
        text = cfg_of(loss, ABOUT, STRIDES, auxiliary=True, written=options)
        costs.append(Trainer(Network(parse_text(text)).initialise(0)).accumulate(images, rows).cost)
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
