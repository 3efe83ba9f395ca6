"""Training steps are those of the newer systems' own programs: optimizer, batch norm, moving average."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from loss_cases import hyper_weights, truth_rows
from recipes import digest
from torch import Tensor
from yolos import YOLOS, arrays, cfg_of, content, drawn_input, drawn_weights, files_of, needs_yolos

import darknet_py
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.keys import _names, own_tensors
from darknet_py.losses.loss import Value
from darknet_py.network import Network
from darknet_py.training.step import Trainer

pytestmark = needs_yolos

# Toys: a network whose loss is the squared difference from given maps -----------------------------------------------

LAYERS = """
[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=swish

[convolutional]
filters=6
size=1
activation=linear

[anchor_free]
classes=2
"""
NET = """[net]
width=8
height=8
channels=3
batch=2
epochs=12
max_batches=60
optimizer=sgd
nesterov=1
decay=0.0005
bn_eps=0.001
bn_momentum=0.03
ema_ramp=2000
"""
YOLOX = """policy=warmcos
learning_rate=0.0025
learning_rate_min=0.000125
momentum=0.9
burn_in_epochs=2
power=2
close_mosaic=3
ema_alpha=0.9998
"""
YOLOV8 = """policy=linear
learning_rate=0.01
learning_rate_min=0.0001
momentum=0.937
burn_in=20
power=1
burn_in_bias_rate=0.1
burn_in_momentum=0.8
clip_norm=10
ema_alpha=0.9999
"""
TOYS = {
    "yolox": (YOLOX, "yolox/schedule_ema.json", "mean", 1.0),
    "yolov8": (YOLOV8, "yolov8/toy_train.json", "sum", 0.05),
}
"""The words of [net], the file with the losses, and the loss: which of all squares, times a factor."""

NAMES = {
    "conv.weight": ("layers.0.weights", "4x3x3x3", "param"),
    "bn.weight": ("layers.0.scales", "4", "param:bn"),
    "bn.bias": ("layers.0.biases", "4", "param:bn"),
    "bn.running_mean": ("layers.0.rolling_mean", "4", "buffer:bn"),
    "bn.running_var": ("layers.0.rolling_variance", "4", "buffer:bn"),
    "head.weight": ("layers.1.weights", "6x4x1x1", "param"),
    "head.bias": ("layers.1.biases", "6", "param"),
}
"""A toy's tensors by the original's names: ours, shape and kind."""


def stored(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"layers.{layer.index}.{one.name}": one.tensor for layer in trainer.network.layers for one in layer.stored()
    }


def toy(words: str, about: dict[str, Any]) -> Trainer:
    """Of a network with the drawn weights."""
    network = Network(parse_text(NET + words + LAYERS)).initialise(0)
    settings = {"seed": about["weights_seed"], "gain": 2.0, "weights_sha256": about["weights_sha256"]}
    keys = [{"key": key, "shape": shape, "kind": kind} for key, (_, shape, kind) in NAMES.items()]
    drawn = drawn_weights(settings, keys)
    with torch.no_grad():
        for layer in network.layers:
            for one in layer.stored():
                key = next(key for key, (ours, *_) in NAMES.items() if ours == f"layers.{layer.index}.{one.name}")
                one.tensor.copy_(drawn[key])
    return Trainer(network)


@pytest.mark.parametrize("system", TOYS)
def test_a_toy_is_trained_to_the_original_s_weights_and_averages(system: str) -> None:
    words, file, kind, factor = TOYS[system]
    about = content(file)["toy"]
    trainer = toy(words, about)
    rng, expected = np.random.Generator(np.random.PCG64(501)), arrays(YOLOS / system / "toy_train.npz")

    def loss(raws: Any, truths: Tensor, size: tuple[int, int], seen: int) -> Value:
        (raw,) = raws.values()
        return Value(factor * getattr((raw - truths) ** 2, kind)())

    trainer.loss = loss  # type: ignore[method-assign]
    for number, step in enumerate(about["trace"], start=1):
        images = torch.from_numpy(rng.random((2, 3, 8, 8)).astype(np.float32))
        maps = torch.from_numpy(rng.standard_normal((2, 6, 8, 8)).astype(np.float32))
        assert trainer.accumulate(images, maps).cost == pytest.approx(step["loss"], rel=2e-6)
        trainer.update()
        for name, (ours, *_) in NAMES.items():
            for form, tensors in (("model", stored(trainer)), ("ema", trainer.ema.values)):
                wanted = expected.get(f"it{number}.{form}.{name}")
                if wanted is not None:
                    torch.testing.assert_close(tensors[ours].detach(), torch.from_numpy(wanted), rtol=2e-6, atol=1e-6)
    assert number == 60


# Whole networks -------------------------------------------------------------------------------------------------------

FILES = sorted(YOLOS.glob("*/train_step*.json"))


class Near(NamedTuple):
    """How near digests and losses must be, relatively: the loss and the gradients (their median) of the first step, the
    weights after it, and the losses of later steps."""

    loss: float
    gradient: float
    weights: float
    later: float


# Rounding decides on which side of the kink of an activation a pixel is, and v6's batch statistics of 2x4x4 pixels
# amplify it: noise of 1e-7 in the picture changes gradients of yolov7-tiny by 1 %, and float64 those of yolov6n by 5 %.
NEAR = {
    "yolov5": Near(1e-6, 5e-5, 1e-6, 5e-6),
    "yolov6": Near(3e-4, 0.02, 0.04, 5e-3),
    "yolov7": Near(3e-6, 1e-3, 1e-3, 1e-3),
}


def model_of(file: Path, about: dict[str, Any]) -> str:
    """The network that a file is about, as a folder of `../shared/yolos`."""
    system = file.parent.name
    return f"{system}/{Path(about.get('model', 'yolov5n')).stem}"


def cfg_text(model: str, about: dict[str, Any]) -> str:
    """The network's cfg for the file's classes, with its recipe."""
    classes, text = about["nc"], cfg_of(model).read_text()
    for old, new in (("filters=255", f"filters={3 * (5 + classes)}"), ("filters=80", f"filters={classes}")):
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    text = text.replace("\nclasses=80\n", f"\nclasses={classes}\n")
    count, _, height, width = about["input"]
    recipe = {
        "width": width,
        "height": height,
        "batch": count,
        "subdivisions": 1,
        "optimizer": "sgd",
        "nesterov": 1,
        "policy": "constant",
        "burn_in": 0,
        "burn_in_bias_rate": 0,
        "burn_in_epochs": 0,
        "epochs": 1000,
        "max_batches": 1000,
        "nominal_batch": 0,
        "learning_rate": about["lr"],
        "momentum": about["momentum"],
        "decay": about["weight_decay"],
        "clip_norm": about.get("clip_grad_norm") or about.get("clip") or 0,
        "bn_momentum": 0.03,
        "ema_alpha": 0.9999,
        "ema_ramp": 2000,
    }
    net, rest = text.split("\n\n\n", 1)
    net = re.sub(rf"\n({'|'.join(recipe)})=.*", "", net) + "".join(f"\n{key}={value}" for key, value in recipe.items())
    hyp = about.get("hyp", {})
    heads = len(re.findall(r"(?m)^\[yolo\]\n(?!(?:.+\n)*aux_of)", rest))
    weights: dict[str, Any] = hyper_weights(hyp, about["nc"], (width, height), heads) if hyp else {}
    weights |= {"iou_loss": about["iou_type"]} if "iou_type" in about else {}
    lines = "".join(f"{key}={value}\n" for key, value in weights.items())
    return f"{net}\n\n\n" + re.sub(r"\[(yolo|anchor_free)\]\n", rf"[\1]\n{lines}", rest)


def rows_of_keys(network: Network, about: dict[str, Any]) -> list[dict[str, str]]:
    """The table of keys where the original's is not at hand: its names are in the file, in their order, but for the
    statistics of batch norm, which come behind its bias; the shapes are those of the layers of these names."""
    norms = {key.rsplit(".", 1)[0] for key in about["buffers"]}
    names = [
        name
        for key in about["parameters"]
        for stem, leaf in [key.rsplit(".", 1)]
        for name in (key, *(f"{stem}.running_{part}" for part in ("mean", "var") if leaf == "bias" and stem in norms))
    ]
    shapes = {}
    for layer in network.layers:
        tensors = {one.name: one.tensor for one in layer.stored()}
        for own, name in _names(network, layer, set(tensors), dict.fromkeys(names, torch.empty(0)), "").items():
            shapes[name] = "x".join(map(str, tensors[own].shape))
    modules = {"im": "ImplicitM", "ia": "ImplicitA"}
    return [
        {"key": name, "shape": shapes[name], "in_recipe": "1"}
        | {"module": "BatchNorm2d" if name.rsplit(".", 1)[0] in norms else modules.get(name.split(".")[2], "Conv2d")}
        for name in names
    ]


def drawn(model: str, about: dict[str, Any], cfg: Path) -> dict[str, Tensor]:
    """The weights by the original's names, for the file's classes."""
    if not (YOLOS / model / "keys.tsv").is_file():
        return drawn_weights(about, rows_of_keys(Network(parse_cfg(cfg)), about))
    settings, _, keys = files_of(model)
    sides = {"255": str(3 * (5 + about["nc"])), "80": str(about["nc"])}
    keys = [row | {"shape": "x".join(sides.get(side, side) for side in row["shape"].split("x"))} for row in keys]
    return drawn_weights(settings | about, keys)


def by_original_names(network: Network, weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors ("layers.0.weights") by the original's names and in its order of elements."""
    sizes = [tensor.numel() for tensor in weights.values()]
    starts = dict(zip(weights, itertools.accumulate([0, *sizes]), strict=False))
    places = {key: torch.arange(weights[key].numel()).view(weights[key].shape) + starts[key] for key in weights}
    everything = torch.full((sum(sizes),), torch.nan, dtype=torch.float64)
    for name, place in own_tensors(network, places, "places").items():
        if name in tensors:
            everything[place.flatten()] = tensors[name].detach().double().flatten()
    return {key: everything[place.flatten()].view(place.shape) for key, place in places.items()}


def groups_of(trainer: Trainer, weights: dict[str, Tensor]) -> dict[str, str]:
    """In which of the original's groups of parameters each parameter is: decayed weights, biases, the others."""
    kinds = ("others", "bias", "weight_decay")
    numbers = {
        id(tensor): 2 if group["decayed"] else 1 if group["bias"] else 0
        for group in trainer.optimizer.param_groups
        for tensor in group["params"]
    }
    filled = {
        name: torch.full_like(tensor, numbers[id(tensor)])
        for name, tensor in stored(trainer).items()
        if id(tensor) in numbers
    }
    named = by_original_names(trainer.network, weights, filled)
    return {key: kinds[int(values.max())] for key, values in named.items() if not values.isnan().any()}


def truths_of(file: Path, about: dict[str, Any]) -> Tensor:
    given = about["targets"] if "targets" in about else arrays(file.parent / "loss" / "default.npz")["targets"]
    return truth_rows(torch.tensor(given, dtype=torch.float32), about["input"][0])


def differences(tensors: dict[str, Tensor], names: list[str], wanted: np.ndarray) -> dict[str, float]:
    """How far each tensor's digest is from the original's, relative to its largest number."""
    return {
        name: float(np.abs(digest(tensors[name].numpy()) - row).max() / max(np.abs(row).max(), 1e-12))
        for name, row in zip(names, wanted, strict=True)
        if name in tensors
    }


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_step_of_a_whole_network_is_the_original_s(file: Path, tmp_path: Path) -> None:
    about, expected = json.loads(file.read_text()), arrays(file.with_suffix(".npz"))
    model = model_of(file, about)
    path = tmp_path / "network.cfg"
    path.write_text(cfg_text(model, about))
    weights = drawn(model, about, path)
    torch.save(weights, tmp_path / "original.pt")
    network = darknet_py.load(path, tmp_path / "original.pt")
    trainer = Trainer(network)
    images, truths = drawn_input(about["input_seed"], tuple(about["input"])), truths_of(file, about)
    wanted = {key: group if group in ("bias", "weight_decay") else "others" for key, group in about["groups"].items()}
    assert groups_of(trainer, weights) == {key: wanted[key] for key in about["parameters"] if key in weights}
    near, originals = NEAR[file.parent.name], {"grad": "parameters", "param": "parameters", "buffer": "buffers"}
    for number, step in enumerate(about["steps"]):
        cost = trainer.accumulate(images, truths).cost
        assert cost == pytest.approx(step["loss"], rel=near.later if number else near.loss)
        tensors = {"grad": {name: one.grad for name, one in stored(trainer).items() if one.grad is not None}}
        trainer.update()
        if number:  # what rounding did to the step before is too large for digests of each tensor
            continue
        tensors |= {"param": stored(trainer), "buffer": stored(trainer), "ema": trainer.ema.values}
        found = {
            form: differences(
                by_original_names(network, weights, own),
                about[originals.get(form, "parameters")],
                expected[f"grad_{number}" if form == "grad" else f"{form}_after_{number}"],
            )
            for form, own in tensors.items()
        }
        assert len(found["param"]) == len(found["ema"]) == sum("running" not in key for key in weights)
        assert max(found["buffer"].values()) < 2e-5
        assert np.median([*found["grad"].values()]) < near.gradient
        assert max(found["param"].values()) < near.weights
        assert max(found["ema"].values()) < near.weights


# YOLOv6: what is left is rounding -----------------------------------------------------------------------------------


def outputs_of(raws: dict[int, Any]) -> tuple[Tensor, Tensor]:
    """Distances and scores of all boxes (images, boxes, 4 and classes), float64."""
    boxes = torch.cat([raw.detach().double().flatten(2).transpose(1, 2) for raw in raws.values()], 1)
    return boxes[..., :4], boxes[..., 4:].sigmoid()


def with_outputs(raws: dict[int, Any], distances: Tensor, scores: Tensor) -> dict[int, Tensor]:
    """Raw outputs of the same shapes that give these distances and scores."""
    boxes = torch.cat((distances.double(), torch.logit(scores.double())), -1).transpose(1, 2)
    parts = boxes.split([raw[0, 0].numel() for raw in raws.values()], 2)
    return {
        index: part.reshape(raw.shape).requires_grad_() for (index, raw), part in zip(raws.items(), parts, strict=True)
    }


@pytest.mark.parametrize("file", [file for file in FILES if file.parent.name == "yolov6"], ids=lambda path: path.stem)
def test_on_the_original_s_own_outputs_the_loss_of_yolov6_is_exact(file: Path, tmp_path: Path) -> None:
    """Its outputs in turn are as near to ours in float64 as ours in float32 are: batch statistics amplify rounding."""
    about, expected = json.loads(file.read_text()), arrays(file.with_suffix(".npz"))
    model, path = model_of(file, about), tmp_path / "network.cfg"
    path.write_text(cfg_text(model, about))
    torch.save(drawn(model, about, path), tmp_path / "original.pt")
    networks = {
        dtype: darknet_py.load(path, tmp_path / "original.pt").to(dtype) for dtype in (torch.float32, torch.float64)
    }
    if any(head.options.reg_max for head in networks[torch.float32].head_layers()):
        pytest.skip("distances alone do not say the distributions")
    images, truths = drawn_input(about["input_seed"], tuple(about["input"])), truths_of(file, about)
    trainers = {dtype: Trainer(network) for dtype, network in networks.items()}
    raws = {dtype: trainer.forward(images.to(dtype)) for dtype, trainer in trainers.items()}
    given = [torch.from_numpy(expected[f"{name}_0"]).double() for name in ("distances", "scores")]
    for original, single, double in zip(given, *(outputs_of(raws[dtype]) for dtype in networks), strict=True):
        rounding = (single - double).square().mean().sqrt()
        assert (original - double).square().mean().sqrt() < 1.5 * rounding
    trainer, size = trainers[torch.float64], tuple(about["input"][:1:-1])
    for number, step in enumerate(about["steps"]):
        outputs = with_outputs(
            raws[torch.float64], *(torch.from_numpy(expected[f"{name}_{number}"]) for name in ("distances", "scores"))
        )
        trainer.iteration = number
        value = trainer.loss(outputs, truths.double(), size, seen=0)  # type: ignore[arg-type]
        assert float(value.total.detach()) == pytest.approx(step["loss"], rel=1e-6)
        value.total.backward()
        for level, raw in enumerate(outputs.values()):
            assert raw.grad is not None
            for kind, gradient in zip(("reg", "cls"), raw.grad.sum((0, 2, 3)).split((4, about["nc"])), strict=True):
                row = expected[f"grad_{number}"][about["parameters"].index(f"detect.{kind}_preds.{level}.bias")]
                assert np.abs(digest(gradient.numpy()) - row).max() < 5e-6 * np.abs(row).max()
