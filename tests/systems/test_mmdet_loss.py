"""The grid assigner and losses of YOLOv3 in MMDetection, and the GIoU loss of bubbliiiing's YOLOv3, are those of their
programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import LossCase, gradients_are_near, truth_rows
from torch import Tensor
from yolos import YOLOS, arrays, case_files, needs_yolos

from darknet_py.cfg import parse_text
from darknet_py.losses import LOSSES, Output, State, Value
from darknet_py.losses.assign.level import level_of
from darknet_py.losses.grid import encoded
from darknet_py.losses.predictions import predictions
from darknet_py.network import Network

FOLDER = "mmdet_yolov3"
FILES = case_files(FOLDER, "*loss")
GRID_CASES = [(file, case) for file in FILES if "bubbliiiing" not in file for case in FILES[file][1]["cases"]]
USUAL = [(file, case) for file, case in GRID_CASES if FILES[file][1]["cases"][case]["pos_neg_min"] == [0.5, 0.5, 0]]
GIOU_CASES = [(file, case) for file in FILES if "bubbliiiing" in file for case in FILES[file][1]["cases"]]
CODERS = sorted(path.name for path in YOLOS.glob(f"{FOLDER}/*coder*.npz"))
NONE = [("(no yolos)", "")]
PARTS = {
    "class": ("loss_cls",),
    "objectness": ("loss_conf",),
    "box": ("loss_xy", "loss_wh"),
}  # our name of a weight → theirs of the parts


def heads_of(about: dict[str, Any], options: str) -> list[Any]:
    """The [yolo] heads of a network, from large to small objects. options: lines of the sections."""
    anchors = [pair for pairs in about["anchors"] for pair in pairs] if "strides" in about else about["anchors"]
    masks = about.get("anchors_mask", [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    strides, filters = about.get("strides", [32, 16, 8]), len(masks[0]) * (5 + about["num_classes"])
    text = f"[net]\nwidth={about['width']}\nheight={about['height']}\nchannels=3\n"
    for stride, mask in zip(strides, masks, strict=True):
        text += "[route]\nlayers=0\n" if stride != strides[0] else "[empty]\n"
        text += f"[convolutional]\nfilters={filters}\nsize={stride}\nstride={stride}\n"
        text += f"[yolo]\nclasses={about['num_classes']}\nnum={len(anchors)}\nmask={','.join(map(str, mask))}\n"
        text += f"anchors={','.join(str(side) for pair in anchors for side in pair)}\n{options}"
    return [layer for layer in Network(parse_text(text)).layers if layer.head]


def case_of(file: str, name: str, truths: str, options: str) -> LossCase:
    """truths: the name of the arrays with the truths' boxes."""
    path, about = FILES[file]
    values = {
        key.removeprefix(f"{name}."): value
        for key, value in arrays(path.with_suffix(".npz")).items()
        if key.startswith(f"{name}.")
    }
    heads = heads_of(about, options)
    size = (about["width"], about["height"])
    leaves = [torch.from_numpy(values[f"map_{size[0] // head.shape.w}"]).requires_grad_() for head in heads]
    targets = [boxes_of(values, f"im{image}", truths, size, image) for image in range(len(leaves[0]))]
    outputs = [Output(*pair) for pair in zip(heads, leaves, strict=True)]
    rows = truth_rows(torch.cat(targets), len(targets))
    return LossCase(about["cases"][name], values, outputs, leaves, rows, State(size))


def boxes_of(values: dict[str, Any], prefix: str, name: str, size: tuple[int, int], image: int) -> Tensor:
    """(t, 6) image, class, x, y, w, h, fractions of the input."""
    boxes = torch.from_numpy(values[f"{prefix}.{name}"])
    if name == "truth_xywh_class":
        xywh, labels = boxes.split((4, 1), 1)
    else:
        low, high = boxes.double().split(2, 1)
        xywh = torch.cat(((low + high) / 2, high - low), 1) / torch.tensor(size * 2)
        labels = torch.from_numpy(values[f"{prefix}.truth_class"])[:, None]
    return torch.cat((torch.full_like(xywh[:, :1], image), labels, xywh), 1).float()


def grid_case(file: str, name: str, *alone: str) -> LossCase:
    """alone: the terms that count, by our names of their weights; none: all."""
    about = FILES[file][1]
    weights, limits = about["weights"], about["cases"][name]["pos_neg_min"]
    assert weights["xy"] == weights["wh"]
    written = {"class": weights["cls"], "objectness": weights["conf"], "box": weights["xy"]}
    text = "loss=grid\n" + "".join(
        f"{term}_weight={value * (not alone or term in alone)}\n" for term, value in written.items()
    )
    negative = limits[1] if isinstance(limits[1], list) else [limits[1]]
    text += f"iou_thresh={limits[0]}\nignore_thresh={negative[-1]}\nmin_pos_iou={[*limits, 0][2]}\n"
    text += f"background_thresh={negative[0]}\n" if len(negative) > 1 else ""
    return case_of(file, name, "truth_xyxy", text)


def loss_of(case: LossCase, name: str) -> Value:
    return LOSSES["yolo"][name].function(case.outputs, case.rows, case.state)


def strides_of(case: LossCase) -> list[int]:
    return [case.state.size[0] // leaf.shape[3] for leaf in case.leaves]


@needs_yolos
@pytest.mark.parametrize(("file", "name"), GRID_CASES or NONE)
def test_assignment(file: str, name: str) -> None:
    case = grid_case(file, name)
    heads, truths = predictions(case.outputs, case.rows, case.state, "grid")
    numbers = []
    for head, stride in zip(heads, strides_of(case), strict=True):
        image, truth, box, background = head.assignment
        number = torch.where(background, 0, -1)
        assert not background[image, box].any()
        number[image, box] = truth + 1
        numbers.append(number)
        assert torch.equal(background, torch.from_numpy(case.values[f"neg_{stride}"]).bool())
        target = torch.zeros(*background.shape, 10)
        xywh, labels = truths.xywh[image, truth], truths.classes[image, truth]
        target[image, box, :4] = encoded(head.layer, box, xywh, head.grid, case.state.size)
        target[image, box, 4] = 1
        target[image, box, 5 + labels] = 1
        torch.testing.assert_close(target, torch.from_numpy(case.values[f"target_{stride}"]), rtol=1e-5, atol=1e-6)
    expected = [torch.from_numpy(case.values[f"im{image}.gt_inds"]) for image in range(len(case.rows))]
    assert torch.equal(torch.cat(numbers, 1), torch.stack(expected))


@needs_yolos
@pytest.mark.parametrize("term", PARTS)
@pytest.mark.parametrize(("file", "name"), GRID_CASES or NONE)
def test_loss_parts_and_gradients(file: str, name: str, term: str) -> None:
    """A term is alone where the others weigh nothing."""
    case = grid_case(file, name, term)
    value, strides = loss_of(case, "grid"), strides_of(case)
    losses = [sum(parts) for parts in zip(*(case.about["losses"][part] for part in PARTS[term]), strict=True)]
    assert [float(part) for part in value.parts.values()] == pytest.approx(losses, rel=1e-6)
    gradients = torch.autograd.grad(value.total, case.leaves)
    together = {
        f"grad_{term}_{stride}": sum(case.values[f"grad_{part}_{stride}"] for part in PARTS[term]) for stride in strides
    }
    gradients_are_near(gradients, together, strides, term)


@needs_yolos
@pytest.mark.parametrize(("file", "name"), USUAL or NONE)
def test_the_usual_weights_and_thresholds_are_those_of_the_recipe(file: str, name: str) -> None:
    case = grid_case(file, name)
    usual = loss_of(case_of(file, name, "truth_xyxy", "loss=grid\n"), "grid")
    assert torch.equal(usual.total, loss_of(case, "grid").total)


@needs_yolos
@pytest.mark.parametrize("file", CODERS or ["(no yolos)"])
def test_boxes_are_encoded_and_decoded(file: str) -> None:
    """The boxes are numbered by their anchors, which are some of those of the loss's heads."""
    values = {name: torch.from_numpy(array) for name, array in arrays(YOLOS / FOLDER / file).items()}
    about = FILES["loss"][1]
    size, compared = (about["width"], about["height"]), 0
    for head, stride in zip(heads_of(about, ""), about["strides"], strict=True):
        own = values["stride"] == stride
        grid = (head.shape.w, head.shape.h)
        level = level_of(head, torch.zeros(0), torch.zeros(0), grid, size)
        priors = level.priors() * torch.tensor(size * 2)
        anchors = _xywh(values["priors"][own])
        box = torch.cdist(anchors, priors).argmin(1)
        torch.testing.assert_close(priors[box], anchors)
        wanted = encoded(head, box, _xywh(values["boxes"][own]) / torch.tensor(size * 2), grid, size)
        torch.testing.assert_close(wanted, values["encoded"][own], rtol=1e-5, atol=5e-6)
        given = values["pred"][own]
        logits = torch.cat((given[:, :2].logit(), given[:, 2:], torch.zeros(len(given), 1 + head.classes)), 1)
        decoded = head.boxes_at(logits, box, grid, size).xywh * torch.tensor(size * 2)
        torch.testing.assert_close(decoded, _xywh(values["decoded"][own]), rtol=5e-6, atol=5e-5)
        compared += len(box)
    assert compared == len(values["stride"])


def _xywh(corners: Tensor) -> Tensor:
    low, high = corners.split(2, 1)
    return torch.cat(((low + high) / 2, high - low), 1)


@needs_yolos
@pytest.mark.parametrize(("file", "name"), GIOU_CASES or NONE)
def test_the_giou_loss_is_bubbliiiings(file: str, name: str) -> None:
    """It gives a mean over the mini-batch, and ours that times the images."""
    about = FILES[file][1]
    assert about["giou"]
    case = case_of(file, name, "truth_xywh_class", f"loss=giou\nignore_thresh={about['ignore_threshold']}\n")
    value, images = loss_of(case, "giou"), len(case.rows)
    losses = [float(part) / images for part in value.parts.values()]
    assert losses == pytest.approx(case.about["loss_stride_32_16_8"], rel=1e-6)
    gradients = torch.autograd.grad(value.total / images, case.leaves)
    named = {key.replace("grad_", "grad_total_"): value for key, value in case.values.items()}
    gradients_are_near(gradients, named, strides_of(case), "total")
