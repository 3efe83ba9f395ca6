"""The networks of tests/golden give Darknet's numbers: outputs of every kind of layer, detections, a training step.

`make.py` makes the numbers. The conformance kit (`kit.py`) has many more, but is not part of the project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recipes import digest, recipe_batches, recipe_inputs, recipe_network

from darknet_py.boxes import nms
from darknet_py.cfg import parse_cfg
from darknet_py.layers import KINDS
from darknet_py.network import Network
from darknet_py.postprocess import from_letterbox
from darknet_py.training.step import Trainer

GOLDEN = Path(__file__).parent
NAMES = sorted(path.stem for path in GOLDEN.glob("*.cfg"))
TRAINED = [name for name in NAMES if "changes" in json.loads((GOLDEN / f"{name}.json").read_text())]
DETECTING = [name for name in NAMES if "detections" in json.loads((GOLDEN / f"{name}.json").read_text())]
# Another order of summation changes the last digits of float32: of a layer's largest value …
OUTPUT = 1e-5
# … of a probability or coordinate …
DETECTION = 1e-5
# … and of the largest change of a tensor, which is a difference of two weights that are nearly the same.
CHANGE = 1e-3
COST = 1e-4
IMAGE = (500, 333)  # (width, height) that Darknet was told for its detections
NOT_ALEXEYS = {"deconvolutional", "l2norm", "logistic"}  # kinds of pjreddie's program alone
NOT_IN_INFERENCE = {"contrastive"}  # its output exists in training alone


def read(name: str, folder: Path) -> tuple[dict[str, Any], Network]:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    return case, recipe_network(GOLDEN / f"{name}.cfg", case, folder)


def difference(ours: NDArray[Any], golden: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(ours - golden).max() / max(np.abs(golden).max(), 1e-12))


def images_of(network: Network, values: NDArray[np.float32]) -> torch.Tensor:
    shape = network.input_shape
    return torch.from_numpy(values).view(1, *(shape[:3] if shape.c else (-1,)))


def test_every_kind_of_layer_has_darknets_numbers() -> None:
    kinds = {layer.kind for name in NAMES for layer in Network(parse_cfg(GOLDEN / f"{name}.cfg")).layers}
    missing = {kind.kind for kind in KINDS.values() if not kind.own} - kinds - NOT_ALEXEYS - NOT_IN_INFERENCE
    assert not missing, f"put {missing} into a cfg of tests/golden, and run its make.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_layers_output_is_darknets(name: str, tmp_path: Path) -> None:
    case, network = read(name, tmp_path)
    for values, rows in zip(recipe_inputs(case), case["layers"], strict=True):
        outputs = network.features(images_of(network, values), range(len(network.layers)))
        for index, row in enumerate(rows):
            if network.layers[index].kind != "cost":  # Darknet runs it only with a ground truth
                worst = difference(digest(outputs[index].numpy()), np.array(row))
                assert worst <= OUTPUT, f"layer {index} ({network.layers[index].kind}): {worst:.1e}"


@pytest.mark.parametrize("name", DETECTING)
def test_detections_are_darknets(name: str, tmp_path: Path) -> None:
    case, network = read(name, tmp_path)
    raws = network(images_of(network, recipe_inputs(case)[0]))
    for golden in case["detections"]:
        ours = detections(network, raws, golden)
        expected = np.array(golden["rows"])
        assert abs(len(ours) - golden["count"]) <= golden["count"] // 1000  # a value at a threshold
        np.testing.assert_allclose(ours[: len(expected)], expected, rtol=DETECTION, atol=DETECTION)


def detections(network: Network, raws: list[torch.Tensor], setting: dict[str, Any]) -> NDArray[np.float64]:
    """Rows class, prob, x, y, w, h of each box and class that is left, the likeliest first."""
    rows = []
    for head, raw in zip(network.head_layers(), raws, strict=True):
        found = head.decode(raw, setting["thresh"], network.size)
        xywh = found.xywh
        if setting["letter"] and head.corrected:
            xywh = from_letterbox(xywh, torch.zeros(len(xywh), dtype=torch.int64), [IMAGE], network.size)
        if not head.corrected:  # Darknet gives the boxes of [detection] in pixels
            xywh = xywh * torch.tensor([*IMAGE, *IMAGE])
        box, label = (found.probs > 0).nonzero(as_tuple=True)
        rows.append(torch.cat((label[:, None], found.probs[box, label][:, None], xywh[box]), 1))
    result = torch.cat(rows)
    if setting["nms"]:
        result = result[nms(result[:, 2:], result[:, 1], result[:, 0].long(), setting["nms"])]
    values = result.double().numpy()
    return values[np.lexsort((values[:, 2], values[:, 0], -values[:, 1]))]


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_is_darknets(name: str, tmp_path: Path) -> None:
    case, network = read(name, tmp_path)
    before = {key: tensor.clone() for key, tensor in stored(network)}
    trainer = Trainer(network.requires_grad_(True))
    costs = [trainer.accumulate(images, truths).cost for images, truths in recipe_batches(network, case["seed"])]
    trainer.update()
    np.testing.assert_allclose(costs, case["costs"], rtol=COST)
    for key, tensor in stored(network):
        worst = difference(digest((tensor - before[key]).numpy()), np.array(case["changes"][key]))
        assert worst <= CHANGE, f"{key}: {worst:.1e}"


def stored(network: Network) -> list[tuple[str, torch.Tensor]]:
    return [
        (f"{layer.index}.{stored.name}", stored.tensor.detach())
        for layer in network.layers
        for stored in layer.stored()
    ]
