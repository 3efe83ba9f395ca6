"""The C program's numbers on networks and texts drawn at random: forward pass, decoding, training, what a cfg says.

The corpus (`../shared/random`, its README) was drawn by rule, never by what this project does: combinations of options
that no official cfg has. What differs on purpose is found by the cfg's words, never by a case's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from c_structs import differences, layer_structs, net_struct
from kit import RANDOM, cases, needs_random, read_json
from recipes import digest, recipe_network
from test_forward import TOLERANCE, compare
from test_training import DELTA, UPDATE, WEIGHTS, deltas_of, relative
from torch import Tensor

from darknet_py.cfg import parse_cfg
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError
from darknet_py.inference.deploy import deployed
from darknet_py.layers.arithmetic import Arithmetic
from darknet_py.network import Network
from darknet_py.training.step import Trainer

DECODE = 2e-4  # of the value; decoding starts from Darknet's raw outputs
COST = 1e-4  # of the cost, or of 1 where that is more
VALUE = 3e-5  # of a number that a cfg says: Darknet computes rates in float32


class Zeros(Arithmetic):
    """Activations as Darknet computes those that it has for convolutions only: 0."""

    def activate(self, x: Tensor, name: str, *, own: bool = False) -> Tensor:
        return torch.zeros_like(x)


def with_darknets_zeros(network: Network) -> Network:
    """The network with 0 where Darknet gives it in place of an activation; this project computes what the cfg means."""
    for layer in network.layers:
        if layer.zeroed and layer.options.activation in layer.zeroed:
            for module in layer.modules():
                module.arithmetic = Zeros()
    return network


def shared_layers(network: Network) -> set[int]:
    """Layers that share weights: Darknet updates these weights once for each of them, this project once.

    Their weights differ after the first update, on purpose, and with them all that follows."""
    sharers = [layer for layer in network.layers if layer.kind == "convolutional" and layer.shared]
    return {index for layer in sharers for index in (layer.index, layer.owner.index)}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are so small that threads would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def golden_of(folder: str, name: str) -> tuple[Path, dict[str, Any], Any]:
    """(the cfg, its record, its arrays) of a case."""
    path = RANDOM / folder / name
    return path.with_suffix(".cfg"), read_json(folder, name, RANDOM), np.load(path.with_suffix(".npz"))


def folded_cases() -> list[str]:
    names = cases("forward", "*.npz", RANDOM)
    return [name for name in names if not RANDOM.is_dir() or read_json("forward", name, RANDOM)["fused"]]


@needs_random
@pytest.mark.parametrize("name", cases("forward", "*.npz", RANDOM))
def test_every_layer_gives_darknets_output(name: str, tmp_path: Path) -> None:
    cfg, case, golden = golden_of("forward", name)
    compare(with_darknets_zeros(recipe_network(cfg, case, tmp_path)), case, golden, TOLERANCE)


@needs_random
@pytest.mark.parametrize("name", folded_cases())
def test_every_layer_gives_darknets_output_with_folded_batch_norm(name: str, tmp_path: Path) -> None:
    cfg, case, golden = golden_of("forward", name)
    network = deployed(recipe_network(cfg, case, tmp_path))
    compare(with_darknets_zeros(network), case, golden, TOLERANCE, "fused_")


@needs_random
@pytest.mark.parametrize("name", cases("decode", "*.npz", RANDOM))
def test_raw_outputs_become_darknets_detections(name: str) -> None:
    cfg, case, golden = golden_of("decode", name)
    network = Network(parse_cfg(cfg)).initialise(0).requires_grad_(False).eval()
    shapes = [head["raw_shape"] if head["raw_shape"][0] else [-1] for head in case["heads"]]
    raws = [
        torch.from_numpy(golden[f"raw_{head['index']}"]).view(1, *shape)
        for head, shape in zip(case["heads"], shapes, strict=True)
    ]
    for number, run in enumerate(case["runs"]):
        letterbox = bool(run["letter"])
        detector = Detector(network, letterbox=letterbox, nms_kind=run["nms_kind"], beta_nms=run["beta_nms"])
        size, (thresh, nms) = (run["image_w"], run["image_h"]), np.float32([run["thresh"], run["nms"]]).tolist()
        found = detector.postprocess(raws, [size], thresh, nms)[0]
        ours = np.concatenate([found.class_ids[:, None], found.confidences[:, None], found.xywh], 1).astype(np.float64)
        theirs = golden[f"rows_{number}"].astype(np.float64)
        if case["pixels_always"] or not run["relative"]:
            theirs[:, 2:] /= [*size, *size]
        assert_same_rows(ours, theirs)


def assert_same_rows(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Rows class, probability, x, y, w, h in any order: each of Darknet's has one of ours, and none is left over."""
    free = np.ones(len(ours), bool)
    for row in theirs:
        floors = np.maximum(np.abs(row[1:]), [1e-3, *[1e-2] * 4])
        distances = (np.abs(ours[:, 1:] - row[1:]) / floors).max(1, initial=0)
        distances[~free | (ours[:, 0] != row[0])] = np.inf
        assert distances.min(initial=np.inf) <= DECODE, f"Darknet alone has {row}"
        free[distances.argmin()] = False
    assert not free.any(), f"Darknet has not {ours[free][0]}"


@needs_random
@pytest.mark.parametrize("name", cases("training", "*.npz", RANDOM))
def test_two_iterations_of_training_are_darknets(name: str, tmp_path: Path) -> None:
    cfg, case, golden = golden_of("training", name)
    network = recipe_network(cfg, case, tmp_path).requires_grad_(True)
    rng = np.random.Generator(np.random.PCG64(case["seed"] + 1000003))
    values = rng.random((case["subdivisions"], case["minibatch"], case["inputs"])).astype(np.float32)
    inputs = torch.from_numpy(values).unflatten(2, (case["channels"], case["height"], case["width"]))
    trainer = Trainer(network)
    shared = shared_layers(network)
    for number, record in enumerate(case["iterations"]):
        for sub, (images, costs) in enumerate(zip(inputs, record["minibatch"], strict=True)):
            truths = torch.from_numpy(golden["truth"][sub])
            step = trainer.accumulate(images, truths)
            parts = {
                f"layer {index}": cost / len(trainer.loss_layers) for index, cost in costs["cost_per_layer"].items()
            }
            ours = {part.split(" (")[0]: float(cost) for part, cost in step.parts.items()} | {"all": step.cost}
            assert ours == pytest.approx(parts | {"all": costs["network_cost"]}, rel=COST, abs=COST), f"costs, {number}"
            if number == 0:
                for index, delta in deltas_of(trainer, step, truths, images).items():
                    assert_delta(delta.numpy(), golden, f"it1_s{sub}_delta_{index}")
        if number == 0:
            assert_updates(network, case, golden)
        assert trainer.update() == pytest.approx(record["rate_used"], rel=1e-6, abs=1e-12)
        assert_weights(network, case, golden, f"after{number + 1}", shared)
        if shared:
            return


def assert_delta(ours: np.ndarray, golden: Any, key: str) -> None:
    theirs = golden[key] if key in golden else golden[f"{key}_digest"]
    difference = relative(ours if key in golden else digest(ours), theirs, np.abs(theirs).max())
    assert difference <= DELTA, f"{key}: {difference:.1e}"


def assert_updates(network: Network, case: dict[str, Any], golden: Any) -> None:
    """The gradients of the first iteration, relative to the largest of their layer."""
    largest: dict[int, float] = {}
    for (index, _), value in zip(case["updates"], golden["update_max"], strict=True):
        largest[index] = max(largest.get(index, 0.0), float(value))
    for (index, name), theirs in zip(case["updates"], golden["update_digest"], strict=True):
        if index in case["alive"]:
            tensor = next(stored.tensor for stored in network.layers[index].stored() if stored.name == name)
            ours = np.zeros(tensor.numel()) if tensor.grad is None else -tensor.grad.numpy()
            difference = relative(digest(ours), theirs, largest[index])
            assert difference <= UPDATE, (
                f"update, layer {index} ({network.layers[index].kind}) {name}: {difference:.1e}"
            )


def assert_weights(network: Network, case: dict[str, Any], golden: Any, key: str, shared: set[int]) -> None:
    """The weights, relative to the largest change in their layer; shared layers and those that no loss reads are left
    out."""
    rows = [(layer, stored) for layer in network.layers for stored in layer.stored()]
    for (layer, stored), theirs in zip(rows, golden[f"{key}_digest"], strict=True):
        if layer.index in case["alive"] and layer.index not in shared:
            change = max(float(golden[f"{key}_change"][layer.index]), 1e-7)
            difference = relative(digest(stored.tensor.detach().numpy()), theirs, change)
            assert difference <= WEIGHTS, f"{key}, layer {layer.index} ({layer.kind}) {stored.name}: {difference:.1e}"


@cache
def texts() -> dict[str, dict[str, Any]]:
    """The records of cfg/cfgs.jsonl by their names."""
    if not RANDOM.is_dir():
        return {"(no random)": {}}
    lines = (RANDOM / "cfg" / "cfgs.jsonl").read_bytes().decode().split("\n")
    return {record["name"]: record for record in map(json.loads, filter(None, lines))}


@cache
def compared_names() -> dict[str, Any]:
    """The values that were written down of [net] and of each type of layer."""
    return json.loads((RANDOM / "cfg" / "keys.json").read_text())


@needs_random
@pytest.mark.parametrize("name", list(texts()))
def test_a_text_says_what_it_says_to_darknet(name: str, tmp_path: Path) -> None:
    """Every value of [net] and of each layer is Darknet's; a text at which it stops is refused, if only by training."""
    case, path, names = texts()[name], tmp_path / "random.cfg", compared_names()
    path.write_bytes(case["text"].encode())
    try:
        network = Network(parse_cfg(path))
    except DarknetError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert not case["taken"] or is_clear_refusal(refusal.removeprefix(str(path)), case["text"]), refusal
        return
    if not case["taken"]:
        assert network.cfg.stops, f"Darknet stops: {case['how']}"
        return
    policy = case["net"].get("policy", 0)
    of_net = [key for key in names["net"] if policy in names["by_policy"].get(key, [policy])]
    wrong = [f"[net] {text}" for text in differences(net_struct(network), case["net"], of_net, VALUE)]
    for index, (ours, theirs) in enumerate(zip(layer_structs(network), case["layers"], strict=True)):
        of_layer = names["layer"][str(theirs["type"])]
        wrong += [f"layer {index}, {text}" for text in differences(ours, theirs, of_layer, VALUE)]
    assert not wrong, "\n".join(wrong)


def is_clear_refusal(message: str, text: str) -> bool:
    """Whether a message names the line of a value, or of a list's element, that begins with no number (`==5`, `inf`).

    Darknet reads a silent 0 there; to refuse it, and to say where, is better.
    """
    match = re.fullmatch(
        r":(\d+): \[\w+\] [^=]+=.*: (?:'.*' is not (a number|an integer)|an element is missing .*)", message
    )
    if match is None:
        return False
    value = re.sub(r"\s", "", text.split("\n")[int(match[1]) - 1]).split("=", 1)[1]
    number = r"[+-]?\d" if match[2] == "an integer" else r"[+-]?\.?\d"
    return any(re.match(number, element) is None for element in value.split(","))
