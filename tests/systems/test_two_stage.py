"""Two-stage networks give the numbers of torchvision and py-faster-rcnn: anchors, proposals, RoI pooling, losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import torch
import torch.nn.functional as F
from project import CFGS
from torch import Tensor
from yolos import YOLOS, case_files, drawn_weights, needs_yolos, rows, tensors

import darknet_py
from darknet_py.boxes import centres, corners, nms
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.layers import Layer
from darknet_py.layers.regions import (
    CONVENTIONS,
    cell_anchors,
    clipped,
    deltas_to,
    moved,
    shifted,
)
from darknet_py.layers.roi_head import MIN_SIDE, RoiHead
from darknet_py.layers.roi_pool import RoiPool, roi_align, roi_pool
from darknet_py.layers.roi_sample import RoiSample
from darknet_py.layers.rpn import SCALES, Choice, Rpn, propose
from darknet_py.losses.assign.regions import Draw, Objects, overlaps, sampled_regions
from darknet_py.losses.faster_rcnn import anchor_costs, drawn_anchors, region_costs
from darknet_py.network import Network

pytestmark = needs_yolos
L = TypeVar("L", bound=Layer)
TORCHVISION, CLASSICAL = CONVENTIONS["torchvision"], CONVENTIONS["classical"]
EXACT = {"rtol": 0.0, "atol": 0.0}


def runs(name: str, key: str = "runs", having: str = "key") -> list[tuple[str, int]]:
    """(file, number) of all cases in the list `key` of the files of this name that have an entry `having`."""
    files = case_files("rpn", name).items()
    found = [(file, number) for file, (_, about) in files for number, run in enumerate(about[key]) if having in run]
    return found or [("(no yolos)", 0)]


def opened(file: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of the folder says, and its arrays."""
    path, about = case_files("rpn", file)[file]
    return about, tensors(path.with_suffix(".npz"))


def near(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    """Within a fraction of the largest value."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(float(expected.abs().max()), 1e-30))


def rpn_of(options: str, anchors: int, size: tuple[int, int] = (144, 96), training: bool = True) -> Rpn:
    """An [rpn] that reads a map of stride 16."""
    logits = 2 if "classical" in options else 1
    text = f"[net]\nwidth={size[0]}\nheight={size[1]}\nchannels=3\n[convolutional]\nsize=16\nstride=16\n"
    network = Network(parse_text(f"{text}filters={anchors * (4 + logits)}\n[rpn]\n{options}\n"))
    return cast(Rpn, network.train(training).layers[1])


class Given:
    """Draws that are known: for each image the order of the candidates, first of objects, then of background.

    permutations: of each image the candidates' permutation, for objects and then for background.
    """

    def __init__(self, permutations: list[list[int]]) -> None:
        self.turns = [permutations[::2], permutations[1::2]]

    def __call__(self, candidates: Tensor) -> Tensor:
        order = torch.zeros(candidates.shape)
        for image, permutation in enumerate(self.turns.pop(0)):
            places = candidates[image].nonzero().squeeze(1)
            assert len(places) == len(permutation)
            order[image, places[permutation]] = torch.arange(len(places)).float()
        return order


# anchors


@pytest.mark.parametrize("file", case_files("rpn", "tv_anchors") or ["(no yolos)"])
def test_anchors_are_torchvisions(file: str) -> None:
    about, values = opened(file)
    for name, case in about.items():
        levels = []
        for level, (sizes, ratios) in enumerate(zip(case["sizes"], case["aspect_ratios"], strict=True)):
            (height, width), (down, across) = case["maps_hw"][level], case["strides"][level]
            cell = cell_anchors(tuple(sizes), tuple(ratios), across, TORCHVISION)
            torch.testing.assert_close(cell, values[f"{name}.cell{level}"], **EXACT)
            levels.append(shifted(cell, (width, height), (across, down)))
        torch.testing.assert_close(torch.cat(levels), values[f"{name}.anchors"], **EXACT)


@pytest.mark.parametrize("file", case_files("rpn", "py_faster_rcnn") or ["(no yolos)"])
def test_anchors_are_py_faster_rcnns(file: str) -> None:
    values = opened(file)[1]
    ratios = (0.5, 1, 2)
    for name, stride, sizes in (
        ("default", 16, (128, 256, 512)), ("scales_1_2_4", 16, (16, 32, 64)), ("base8_ratios", 8, (16, 32))
    ):  # fmt: skip
        torch.testing.assert_close(cell_anchors(sizes, ratios, stride, CLASSICAL), values[f"anchors.{name}"], **EXACT)


# deltas


def test_deltas_are_torchvisions() -> None:
    values = tensors(YOLOS / "rpn" / "tv_box_coder.npz")
    for name, scales in (("w1_1", SCALES), ("w10_5", (10.0, 10.0, 5.0, 5.0))):
        near(deltas_to(values["gt"], values["proposals"], scales, TORCHVISION), values[f"encode.{name}"], 1e-6)
        near(moved(values["deltas"], values["proposals"], scales, TORCHVISION), values[f"decode.{name}"], 1e-6)


@pytest.mark.parametrize("file", case_files("rpn", "py_faster_rcnn") or ["(no yolos)"])
def test_deltas_are_py_faster_rcnns(file: str) -> None:
    values = opened(file)[1]
    boxes = values["boxes.ex"]
    near(deltas_to(values["boxes.gt"], boxes, SCALES, CLASSICAL), values["boxes.transform"], 1e-6)
    result = moved(values["boxes.deltas_2_classes"].unflatten(1, (-1, 4)), boxes[:, None], SCALES, CLASSICAL)
    near(result.flatten(1), values["boxes.inv"], 1e-6)
    size = torch.tensor((144, 96))
    near(clipped(result, size, CLASSICAL).flatten(1), values["boxes.inv_clipped_96x144"], 1e-6)
    near(overlaps(values["boxes.gt"], boxes, CLASSICAL), values["boxes.overlaps"], 1e-6)


# proposals


@pytest.mark.parametrize(("file", "number"), runs("tv_rpn", having="pre_nms_top_n"))
def test_proposals_are_torchvisions(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["runs"][number]
    rpn = rpn_of("sizes=8,16,32", 9)
    maps = torch.cat((values["objectness"], values["deltas"]), 1)
    size = (about["padded_hw"][1], about["padded_hw"][0])
    logits, deltas = rpn.values(maps)
    boxes = moved(deltas, rpn.anchors_of(maps, size), SCALES, TORCHVISION)
    near(boxes, values["decoded"], 2e-6)
    least = float(torch.logit(torch.tensor(run["score_thresh"])))
    choice = Choice(run["pre_nms_top_n"], run["post_nms_top_n"], run["nms"], run["min_size"], least)
    sizes = torch.tensor(about["image_sizes_hw"]).flip(1)
    regions, scores = propose(logits, boxes, sizes, choice, TORCHVISION)
    for image, count in enumerate(run["n"]):
        own = regions[:, 0] == image
        expected = values[f"{run['key']}.im{image}.boxes"]
        assert own.sum() == count == len(expected)
        torch.testing.assert_close(regions[own, 1:], expected, rtol=0, atol=5e-5)
        torch.testing.assert_close(scores[own].sigmoid(), values[f"{run['key']}.im{image}.scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("file", "number"), runs("py_faster_rcnn", "proposals"))
def test_proposals_are_py_faster_rcnns(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["proposals"][number]
    sizes = ",".join(str(run["feat_stride"] * scale) for scale in run["scales"])
    rpn = rpn_of(f"convention=classical\nstride={run['feat_stride']}\nsizes={sizes}", 9)
    logits = values["prop.probabilities"].logit()
    maps = torch.cat((torch.zeros_like(logits[:, :9]), logits[:, 9:], values["prop.deltas"]), 1)
    scores, deltas = rpn.values(maps)
    height, width, scale = values["prop.im_info"][0].tolist()
    boxes = moved(deltas, rpn.anchors_of(maps, (144, 96)), SCALES, CLASSICAL)
    choice = Choice(run["pre"], run["post"], run["nms"], run["min_size"] * scale, -math.inf)
    regions, found = propose(scores, boxes, torch.tensor([[width, height]]), choice, CLASSICAL)
    assert len(regions) == run["n"]
    torch.testing.assert_close(regions, values[f"{run['key']}.rois"], rtol=0, atol=5e-5)
    torch.testing.assert_close(found.sigmoid(), values[f"{run['key']}.scores"][:, 0], rtol=0, atol=1e-6)


# regions of maps


@pytest.mark.parametrize(("file", "number"), runs("tv_roi_ops"))
def test_pooling_of_regions_is_torchvisions(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["runs"][number]
    name, scale, *rest = run["key"].split(".")
    x, regions = values["feature"].requires_grad_(), values["rois"]
    factor = 1 / int(scale.removeprefix("scale1_"))
    if name.startswith("pool"):
        result = roi_pool(x, regions, run["output"], factor)
    else:
        sampling, aligned = int(rest[0].removeprefix("sampling")), rest[1] == "aligned1"
        result = roi_align(x, regions, run["output"], factor, sampling, aligned=aligned)
    torch.testing.assert_close(result, values[f"{run['key']}.out"], rtol=0, atol=1.2e-5)
    (gradient,) = torch.autograd.grad(result, x, values[f"grad_out_{run['output']}"])
    torch.testing.assert_close(gradient, values[f"{run['key']}.grad_feature"], rtol=0, atol=1.2e-5)


# losses


def objects_in(boxes: list[Tensor], classes: list[Tensor] | None = None) -> Objects:
    """Truths of images, some of which may have none."""
    most = max(1, *map(len, boxes))
    result = Objects(
        torch.zeros(len(boxes), most, 4), torch.zeros(len(boxes), most).bool(), torch.zeros(len(boxes), most).long()
    )
    for image, one in enumerate(boxes):
        result.boxes[image, : len(one)], result.valid[image, : len(one)] = one, True
        if classes is not None:
            result.classes[image, : len(one)] = classes[image]
    return result


@pytest.mark.parametrize(("file", "number"), runs("tv_rpn", having="loss_objectness"))
def test_the_loss_of_proposals_is_torchvisions(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["runs"][number]
    rpn = rpn_of(
        f"sizes=8,16,32\nsamples={run['batch_size_per_image']}\npositives={run['positive_fraction']}\n"
        f"truth_thresh={run['fg_iou']}\nignore_thresh={run['bg_iou']}", 9
    )  # fmt: skip
    key, size = run["key"], (about["padded_hw"][1], about["padded_hw"][0])
    images = len(about["image_sizes_hw"])
    truths = [values[f"{key.split('.')[1]}.im{image}.boxes"] for image in range(images)]
    objects, draw = objects_in(truths), [order for _, order in run["randperm_draws"]]
    objectness, deltas = values["objectness"].requires_grad_(), values["deltas"].requires_grad_()
    maps = torch.cat((objectness, deltas), 1)
    anchors = rpn.anchors_of(maps, size)
    match, trained = drawn_anchors(rpn, anchors, objects, size, Given(draw))
    for image in range(images):
        name = f"{key}.im{image}"
        assert torch.equal(match.label[image].float(), values[f"{name}.label"])
        assert torch.equal(trained[image] & (match.label[image] == 1), values[f"{name}.sampled_pos"].bool())
        assert torch.equal(trained[image] & (match.label[image] == 0), values[f"{name}.sampled_neg"].bool())
        object_ = match.label[image] == 1
        assert torch.equal(match.truth[image][object_], values[f"{name}.matched_idx"][object_])
        if len(truths[image]):
            target = deltas_to(objects.boxes[image, match.truth[image]], anchors, SCALES, TORCHVISION)
            near(target[object_], values[f"{name}.regression_target"][object_], 1e-5)
    costs = anchor_costs(rpn, maps, objects, size, Given(draw))
    assert [cost.item() for cost in costs] == pytest.approx([run["loss_objectness"], run["loss_box"]], rel=1e-5)
    near(torch.autograd.grad(costs[0], objectness, retain_graph=True)[0], values[f"{key}.objectness.grad_obj"])
    near(torch.autograd.grad(costs[1], deltas)[0], values[f"{key}.box.grad_deltas"])


@pytest.mark.parametrize(("file", "number"), runs("py_faster_rcnn", "anchor_target"))
def test_the_loss_of_proposals_is_py_faster_rcnns(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["anchor_target"][number]
    key = run["key"]
    weight = f"positive_weight={run['positive_weight']}\n" if run["positive_weight"] >= 0 else ""
    rpn = rpn_of(
        f"convention=classical\nstride=16\nsizes=16,32,64\nsamples={run['batch']}\nborder={run['allowed_border']}\n"
        f"clobber={int(run['clobber'])}\n{weight}", 9
    )  # fmt: skip
    height, width, _ = values["prop.im_info"][0].tolist()
    size, objects = (int(width), int(height)), objects_in([values["gt_boxes"][:, :4]])
    logits, deltas = values["logits"].requires_grad_(), values["prop.deltas"].requires_grad_()
    maps = torch.cat((logits, deltas), 1)
    anchors = rpn.anchors_of(maps, (144, 96))
    border = run["allowed_border"]
    inside = ((anchors[:, :2] >= -border).all(1) & (anchors[:, 2:] < torch.tensor(size) + border).all(1)).nonzero()[
        :, 0
    ]
    labels = values[f"{key}.labels"].view(9, -1).T.flatten()

    def draw() -> Draw:
        """The draws name those that are disabled: the others stay."""
        sizes = {one["n"]: one["chosen"] for one in run["draws"]}
        return lambda candidates: _disabled(candidates, inside, sizes.get(int(candidates.sum()), []))

    match, trained = drawn_anchors(rpn, anchors, objects, size, draw())
    assert torch.equal(torch.where(trained[0], match.label[0], -1).float(), labels)
    targets = values[f"{key}.targets"].view(9, 4, -1).permute(2, 0, 1).flatten(0, 1)
    chosen = trained[0] & (match.label[0] == 1)
    near(deltas_to(objects.boxes[0, match.truth[0, chosen]], anchors[chosen], SCALES, CLASSICAL), targets[chosen], 1e-5)
    costs = anchor_costs(rpn, maps, objects, size, draw())
    expected = [run["derived_loss_cls"], run["derived_loss_box"]]
    assert [cost.item() for cost in costs] == pytest.approx(expected, rel=1e-5)
    near(torch.autograd.grad(costs[0], logits, retain_graph=True)[0], values[f"{key}.derived_grad_logits"])
    near(torch.autograd.grad(costs[1], deltas)[0], values[f"{key}.derived_grad_deltas"])


def _disabled(candidates: Tensor, inside: Tensor, chosen: list[int]) -> Tensor:
    order = torch.zeros(candidates.shape)
    order[:, inside[chosen]] = 1
    return order


@pytest.mark.parametrize(("file", "number"), runs("py_faster_rcnn", "proposal_target"))
def test_sampled_regions_are_py_faster_rcnns(file: str, number: int) -> None:
    about, values = opened(file)
    run = about["proposal_target"][number]
    key, truths = run["key"], values["gt_boxes"]
    expected = values[f"{key}.rois"]
    proposals = next(
        values[f"{one['key']}.rois"] for one in about["proposals"] if one["n"] == _proposals_of(run, len(truths))
    )
    options = RoiSample.Options(
        samples=run["batch"], positives=run["fg_fraction"], truth_thresh=run["fg_thresh"], ignore_thresh=run["bg_hi"],
        background_thresh=run["bg_lo"],
    )  # fmt: skip
    objects = objects_in([truths[:, :4]], [truths[:, 4].long()])
    kept = [torch.tensor(one["chosen"]) for one in run["draws"]]
    result = sampled_regions(proposals, objects, options, CLASSICAL, _kept(kept))
    order = torch.cat(kept).argsort()
    torch.testing.assert_close(result[:, :5], expected[order], **EXACT)
    classes = torch.where(result[:, 5] >= 0, objects.classes[0, result[:, 5].long()], 0)
    assert torch.equal(classes.float(), values[f"{key}.labels"][order])
    scales = [1 / one for one in run["stds"]] if run["normalized"] else SCALES
    targets = values[f"{key}.targets"][order].unflatten(1, (-1, 4))[torch.arange(len(order)), classes]
    found = deltas_to(objects.boxes[0, result[:, 5].long()], result[:, 1:5], scales, CLASSICAL)
    near(found[classes > 0], targets[classes > 0], 1e-5)


def _proposals_of(run: dict[str, Any], truths: int) -> int:
    """The number of proposals behind which the truths stand: the draws name the last truth too."""
    return max(max(one["chosen"]) for one in run["draws"]) + 1 - truths


def _kept(turns: list[Tensor]) -> Draw:
    """Draws that name those that stay, for objects and then for background."""
    waiting = list(turns)

    def draw(candidates: Tensor) -> Tensor:
        order = torch.ones(candidates.shape)
        order[:, waiting.pop(0)] = 0
        return order

    return draw


# whole networks


def whole() -> list[tuple[str, str]]:
    """(file, variant) of all networks."""
    files = case_files("rpn", "two_stage*")
    return [(file, kind) for file, (_, about) in files.items() for kind in ("align", "pool") if kind in about] or [
        ("(no yolos)", "align")
    ]


def cfg_text(about: dict[str, Any], variant: str, recipe: str = "") -> str:
    """The network that a file lists, layer by layer, as a cfg. recipe: further lines of [net]."""
    settings, listed = (
        about["settings"],
        [layer for layer in about["layers"] if layer["type"] != "GeneralizedRCNNTransform"],
    )
    channels, height, width = listed[0]["in"]
    text, number, at = f"[net]\nwidth={width}\nheight={height}\nchannels={channels}\n{recipe}\n", 0, {}
    for layer, following in zip(listed, [*listed[1:], {"type": ""}], strict=True):
        name, kind, part = layer["name"], layer["type"], layer["name"].split(".")[-1]
        activation = f"activation={'relu' if following['type'] == 'ReLU' or part.startswith('fc') else 'linear'}\n"
        if part == "bbox_pred":  # it reads what the logits read
            text, number = f"{text}[route]\nlayers={number - 2}\n", number + 1
        if kind == "Conv2d":
            text += f"[convolutional]\nfilters={layer['args']['filters']}\nsize={layer['args']['size']}\n"
            text += f"pad={int(layer['args']['pad'] > 0)}\n{activation}key={name}\n"
        elif kind == "MaxPool2d":
            text += f"[maxpool]\nsize={layer['args']['size']}\nstride={layer['args']['stride']}\n"
        elif kind == "Linear":
            text += f"[connected]\noutput={layer['out'][0]}\n{activation}key={name}\n"
        elif kind == "MultiScaleRoIAlign":
            sizes, ratios = (",".join(map(str, settings[key])) for key in ("anchor_sizes", "ratios"))
            text += f"[route]\nlayers={number - 3},{number - 1}\n[rpn]\nsizes={sizes}\nratios={ratios}\n"
            text += f"pre_nms={settings['rpn_pre_nms']}\npost_nms={settings['rpn_post_nms_test']}\n"
            text += f"train_pre_nms={settings['rpn_pre_nms']}\ntrain_post_nms={settings['rpn_post_nms_train']}\n"
            text += f"nms={settings['rpn_nms']}\nsamples={settings['rpn_batch']}\n"
            text += f"truth_thresh={settings['rpn_fg_iou']}\nignore_thresh={settings['rpn_bg_iou']}\n"
            text += f"[roi_sample]\nsamples={settings['box_batch']}\npositives={settings['box_positive_fraction']}\n"
            text += f"truth_thresh={settings['box_fg_iou']}\nignore_thresh={settings['box_bg_iou']}\n"
            text += f"[roi_{variant}]\nfrom={at['map']}\nsize={layer['out'][1]}\n"
            number, at["regions"] = number + 3, number + 2
        else:
            continue
        number += 1
        if name.startswith("backbone"):
            at["map"] = number - 1
    classes = next(layer["out"][0] for layer in listed if layer["name"].endswith("cls_score")) - 1
    return f"{text}[route]\nlayers={number - 3},{number - 1}\n[roi_head]\nfrom={at['regions']}\nclasses={classes}\n"


@cache
def drawn(file: str, variant: str) -> dict[str, Tensor]:
    """The weights of a network by torchvision's names."""
    path, about = case_files("rpn", file)[file]
    said = about[variant]
    settings = {
        "seed": said["weights_seed"],
        "gain": said["gain"],
        "weights_sha256": said["weights_sha256_before_scaling"],
    }
    weights = drawn_weights(settings, rows(path.with_suffix(".keys.tsv")))
    return {key: value * (0.25 if key.endswith("bbox_pred.weight") else 1) for key, value in weights.items()}


def loaded(file: str, variant: str, folder: Path) -> Network:
    """The network with the drawn weights, which came in as a user's would, by their names."""
    cfg, weights = folder / "two_stage.cfg", folder / "original.pt"
    cfg.write_text(cfg_text(opened(file)[0], variant))
    torch.save(drawn(file, variant), weights)
    return darknet_py.load(cfg, weights)


def pictures(values: dict[str, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The images, (n, 3, height, width), with black behind their right and lower edges; their sizes (n, 2)."""
    listed = [values[name] for name in sorted(values) if name.startswith("image")]
    batch = torch.zeros(len(listed), 3, size[1], size[0])
    for image, one in zip(batch, listed, strict=True):
        image[:, : one.shape[0], : one.shape[1]] = one.permute(2, 0, 1).float() / 255
    return batch, torch.tensor([(one.shape[1], one.shape[0]) for one in listed])


def layer_of(network: Network, kind: type[L]) -> L:
    return next(layer for layer in network.layers if isinstance(layer, kind))


def with_regions(
    network: Network, images: Tensor, regions: Callable[[Tensor], Tensor], outputs: list[int]
) -> dict[int, Tensor]:
    """A pass in which all who read the regions get those that the function makes of what [rpn] reads: the images do not
    fill the input."""
    rpn, sample = layer_of(network, Rpn), layer_of(network, RoiSample)
    maps = network.run(images, [rpn.source_indices[0]])[rpn.source_indices[0]]
    chosen = regions(maps)
    result = network.run(images, outputs, read=lambda _, source, output: chosen if source == sample.index else output)
    return result | {sample.index: chosen}


def proposals(rpn: Rpn, maps: Tensor, size: tuple[int, int], sizes: Tensor) -> Tensor:
    """What [rpn] gives for images that do not fill the input: their boxes are clipped to them."""
    logits, deltas = rpn.values(maps)
    boxes = moved(deltas, rpn.anchors_of(maps, size), SCALES, TORCHVISION)
    return propose(logits, boxes, sizes, rpn.choice(), TORCHVISION)[0]


@pytest.mark.parametrize(("file", "variant"), whole())
def test_a_network_detects_what_torchvisions_does(file: str, variant: str, tmp_path: Path) -> None:
    about, values = opened(file)
    network, settings = loaded(file, variant, tmp_path), about["settings"]
    images, sizes = pictures(values, network.size)
    rpn, head, pool = (layer_of(network, kind) for kind in (Rpn, RoiHead, RoiPool))
    with torch.no_grad():
        maps = network.features(images, [pool.source_indices[0], rpn.source_indices[0]])
        outputs = with_regions(
            network, images, lambda maps: F.pad(proposals(rpn, maps, network.size, sizes), (0, 1), value=-1.0),
            [head.source_indices[0], pool.index],
        )  # fmt: skip
    near(maps[pool.source_indices[0]], values[f"{variant}.feature"], 1e-5)
    logits, deltas = maps[rpn.source_indices[0]].split((rpn.anchors, 4 * rpn.anchors), 1)
    near(logits, values[f"{variant}.rpn_objectness"], 1e-5)
    near(deltas, values[f"{variant}.rpn_deltas"], 1e-5)
    regions = outputs[head.source_indices[1]]
    for image in range(len(images)):
        own, expected = regions[regions[:, 0] == image, 1:5], values[f"{variant}.proposals{image}"]
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-4)
    near(digest(outputs[pool.index]), values[f"{variant}.roi_digest"], 1e-5)
    raw = (outputs[head.source_indices[0]], regions)
    class_logits, deltas = head.values(raw)
    near(class_logits, values[f"{variant}.class_logits"], 1e-5)
    near(deltas.flatten(1), values[f"{variant}.box_regression"], 1e-5)
    found, size = head.decode(raw, settings["box_score_thresh"], network.size), torch.tensor(network.size).repeat(2)
    boxes = clipped(corners(found.xywh) * size, sizes[found.image], TORCHVISION)
    large = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)
    score, label = found.probs.max(1)
    score *= large  # what is small suppresses nothing
    kept = large & nms(centres(boxes), score, found.image * head.classes + label, settings["box_nms"])
    for image in range(len(images)):
        own = (kept & (found.image == image)).nonzero().squeeze(1)
        own = own[score[own].argsort(descending=True, stable=True)][: settings["detections"]]
        expected = {name: values[f"{variant}.det{image}.{name}"] for name in ("boxes", "scores", "labels")}
        assert torch.equal(label[own] + 1, expected["labels"].long())
        torch.testing.assert_close(score[own], expected["scores"], rtol=0, atol=1e-6)
        torch.testing.assert_close(boxes[own], expected["boxes"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("file", "variant"), whole())
def test_a_training_step_has_torchvisions_losses_and_gradients(file: str, variant: str, tmp_path: Path) -> None:
    about, values = opened(file)
    network, expected = loaded(file, variant, tmp_path).train().requires_grad_(), about[variant]["train"]
    images, sizes = pictures(values, network.size)
    rpn, sample, head = (layer_of(network, kind) for kind in (Rpn, RoiSample, RoiHead))
    objects = objects_in(
        [torch.tensor(one["boxes"]) for one in about["targets"]],
        [torch.tensor(one["labels"]) - 1 for one in about["targets"]],
    )
    orders = [order for _, order in expected["randperm_draws"]]
    half = 2 * len(images)

    def regions(maps: Tensor) -> Tensor:
        proposed = proposals(rpn, maps.detach(), network.size, sizes)
        return sampled_regions(proposed, objects, sample.options, TORCHVISION, Given(orders[half:]))

    outputs = with_regions(network, images, regions, [rpn.source_indices[0], head.source_indices[0]])
    maps = outputs[rpn.source_indices[0]]
    costs = anchor_costs(rpn, maps, objects, network.size, Given(orders[:half]))
    costs += region_costs(head, (outputs[head.source_indices[0]], outputs[sample.index]), objects)
    names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    assert [cost.item() for cost in costs] == pytest.approx([expected["losses"][name] for name in names], rel=1e-5)
    torch.stack(costs).sum().backward()
    gradients = {
        f"{layer.options.key}.{name}": cast(Tensor, getattr(layer, ours).grad)
        for layer in network.layers if layer.options.key
        for name, ours in (("weight", "weights"), ("bias", "biases"))
    }  # fmt: skip
    assert set(gradients) == set(expected["grad_digests"])
    for key, gradient in gradients.items():
        near(digest(gradient), torch.tensor(expected["grad_digests"][key]["digest"], dtype=torch.float64))
        if f"{variant}.grad.{key}" in values:
            near(gradient, values[f"{variant}.grad.{key}"])


def digest(values: Tensor) -> Tensor:
    """(20,) float64: mean, deviation, minimum, maximum and 16 values."""
    flat = values.detach().flatten().double()
    places = [k * (len(flat) - 1) // 15 for k in range(16)]
    return torch.cat((torch.stack((flat.mean(), flat.std(correction=0), flat.min(), flat.max())), flat[places]))


def test_the_small_cfg_is_the_network_of_the_numbers() -> None:
    about = opened("two_stage")[0]
    expected, network = (
        Network(parse_text(cfg_text(about, "align"))),
        Network(parse_cfg(CFGS / "faster-rcnn-small.cfg")),
    )
    assert [layer.options for layer in network.layers] == [layer.options for layer in expected.layers]
    assert sum(parameter.numel() for parameter in network.parameters()) == about["info"]["n_params"]
