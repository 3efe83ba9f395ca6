"""YOLOv6's overlaps, assigners and losses are those of its own program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from loss_cases import LossCase, truth_rows
from torch import Tensor
from yolos import YOLOS, content, needs_yolos, tensors

from darknet_py.boxes import corners, iou
from darknet_py.cfg import parse_text
from darknet_py.losses import Output, State
from darknet_py.losses.overlaps import OVERLAPS
from darknet_py.losses.points import points
from darknet_py.losses.truths import truths_to_the_edge
from darknet_py.losses.yolov6 import AUXILIARY_TOP, TOP, assigned, yolov6_loss
from darknet_py.network import Network

V6 = YOLOS / "yolov6"


@needs_yolos
@pytest.mark.parametrize("form", ["xywh", "xyxy"])
@pytest.mark.parametrize("eps", ["1e-10", "1e-07"])
@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlaps_and_their_gradients(kind: str, eps: str, form: str) -> None:
    """Where the original gives NaN (CIoU of identical boxes), ours is defined."""
    pairs, case = tensors(V6 / "boxes.npz"), f"loss_{kind}_{form}_eps{eps}"
    leaf, other = pairs["box1_xywh"], corners(pairs["box2_xywh"])
    if form == "xyxy":
        leaf = corners(leaf)
    leaf.requires_grad_()
    loss = 1 - OVERLAPS[kind](corners(leaf) if form == "xywh" else leaf, other, float(eps))
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    expected = pairs[case]
    known = ~expected.isnan()
    assert known.sum() >= 190
    torch.testing.assert_close(loss[known], expected[known], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient[known], pairs[f"grad1_{case}"][known], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss, pairs[f"{case}_f64"], rtol=1e-6, atol=1e-6)


STRIDES = (8, 16, 32)
CASES = {case["case"]: case for case in content("yolov6/loss/cases.json").get("cases", [])}


def heads_of(about: dict[str, Any]) -> list[Any]:
    """A network's [anchor_free] heads of strides 8, 16 and 32; auxiliary ones where the case has anchors."""
    height, width = about["hw"]
    anchors = about.get("anchors_cells")
    reg_max = about["reg_max"] if about.get("use_dfl") else 0
    weights = about.get("loss_weight", {"class": 1.0, "iou": 2.5, "dfl": 0.5})
    head = (
        f"[anchor_free]\nclasses={about['nc']}\niou_loss={about['iou_type']}\nreg_max={{}}\n"
        f"box_weight={weights['iou']}\nclass_weight={weights['class']}\ndfl_weight={weights['dfl']}\n"
        f"atss_epochs={about.get('warmup_epoch', 0)}\n"
    )
    text = f"[net]\nwidth={width}\nheight={height}\nchannels=3\n"
    for level, step in enumerate((8, 2, 2)):
        entries = 4 * (reg_max + 1) + about["nc"]
        text += f"[convolutional]\nfilters={entries}\nsize={step}\nstride={step}\n{head.format(reg_max)}"
        if anchors:
            pixels = ",".join(str(side * STRIDES[level]) for pair in anchors[level] for side in pair)
            text += f"[convolutional]\nfilters={len(anchors[level]) * (4 + about['nc'])}\nsize=1\n"
            text += f"{head.format(0)}anchors={pixels}\naux_of=-2\n"
    layers = Network(parse_text(text)).layers
    return [layer for layer in layers if layer.head and layer.auxiliary == bool(anchors)]


def maps_of(layers: Sequence[Any], box: Tensor, classes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Boxes and classes (n, k, …), head by head, anchor by anchor, cells by row → the heads' maps."""
    maps, first = [], 0
    for layer, stride in zip(layers, STRIDES, strict=True):
        width, height = size[0] // stride, size[1] // stride
        last = first + layer.boxes_in_cell * width * height
        parts = [
            part[:, first:last].unflatten(1, (-1, height, width)).movedim(-1, 2).flatten(1, 2)
            for part in (box, classes)
        ]
        maps.append(torch.cat(parts, 1))
        first = last
    assert first == box.shape[1]
    return maps


def case_of(name: str) -> LossCase:
    about, values = CASES[name], tensors(V6 / "loss" / f"{name}.npz")
    size = (about["hw"][1], about["hw"][0])
    layers = heads_of(about)
    leaves = (values["reg_raw" if "reg_raw" in values else "reg"], values["cls_logits"])
    for leaf in leaves:
        leaf.requires_grad_()
    outputs = [Output(*pair) for pair in zip(layers, maps_of(layers, *leaves, size), strict=True)]
    rows = truth_rows(values["targets"], len(leaves[0]))
    return LossCase(about, values, outputs, leaves, rows, State(size, epoch=about.get("epoch", 0)))


@needs_yolos
@pytest.mark.parametrize("name", CASES or ["(no yolos)"])
def test_assignment(name: str) -> None:
    about, values, outputs, _, rows, state = case_of(name)
    boxes = points(outputs, state.size)
    truths = truths_to_the_edge(rows, about["nc"])
    top = AUXILIARY_TOP if "anchors_cells" in about else TOP if about["assigner"] == "TAL" else None
    owner, score, corners_of_truths = assigned(boxes, truths, state.size, top)
    trained = owner >= 0
    assert torch.equal(trained, values["fg_mask"])
    image, box = trained.nonzero(as_tuple=True)
    classes = truths.classes[image, owner[trained]]
    assert torch.equal(classes, values["target_labels"][trained])
    cells = corners_of_truths[image, owner[trained]] / boxes.stride[box].repeat(1, 2)
    torch.testing.assert_close(cells.float(), values["target_boxes_cells_xyxy"][trained], rtol=1e-6, atol=1e-6)
    scores = torch.zeros(values["target_scores"].shape)
    scores[image, box, classes] = score[trained].float()
    torch.testing.assert_close(scores, values["target_scores"], rtol=1e-6, atol=1e-6)


@needs_yolos
@pytest.mark.parametrize("name", CASES or ["(no yolos)"])
def test_loss_and_gradients(name: str) -> None:
    about, values, outputs, leaves, rows, state = case_of(name)
    value = yolov6_loss(outputs, rows, state)
    by_box, by_class = torch.autograd.grad(value.total, leaves)
    assert float(value.total.detach()) == pytest.approx(about["loss"], rel=1e-6)
    parts = {part.split()[-1]: float(cost) for part, cost in value.parts.items()}
    for part, key in (("class", "cls"), ("box", "iou"), ("distribution", "dfl")):
        assert parts.get(part, 0.0) == pytest.approx(about[key], rel=1e-6)
    torch.testing.assert_close(by_class, values["grad_cls_logits"], rtol=1e-6, atol=3e-8)
    grad = "grad_reg_raw" if "grad_reg_raw" in values else "grad_reg"
    torch.testing.assert_close(by_box, values[grad], rtol=1e-6, atol=3e-8)


@pytest.mark.parametrize("options", ["iou_loss=siou", "reg_max=16", "atss_epochs=1"])
def test_descent_moves_the_best_boxes_to_the_truths(options: str) -> None:
    """The maps themselves are trained: at the end, the surest box of each class is its truth."""
    entries = 4 * 17 + 2 if "reg_max" in options else 4 + 2
    text = "[net]\nwidth=64\nheight=64\nchannels=3\n[convolutional]\n"
    text += f"filters={entries}\nsize=8\nstride=8\n[anchor_free]\nclasses=2\n{options}\n"
    head: Any = Network(parse_text(text)).layers[1]
    raw = torch.ones(2, entries, 8, 8)  # as YOLOv6 begins: distances of 1, classes of .01
    raw[:, -2:] = -math.log(99)
    raw.requires_grad_()
    rows = torch.zeros(2, 3, 6)
    rows[0, :2, :5] = torch.tensor([[0.3, 0.4, 0.5, 0.3, 0.0], [0.7, 0.6, 0.5, 0.7, 1.0]])
    optimizer = torch.optim.Adam([raw], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        value = yolov6_loss([Output(head, raw)], rows, State((64, 64)))
        value.total.backward()
        optimizer.step()
    boxes = head.boxes(raw.detach(), (64, 64))
    for truth in rows[0, :2]:
        best = boxes.xywh[0, boxes.classes[0, :, int(truth[4])].argmax()]
        assert iou(best, truth[:4]) > 0.9
    assert boxes.classes[1].max() < 0.1  # the image without truths
