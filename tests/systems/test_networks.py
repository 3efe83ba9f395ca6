"""The cfgs of YOLOv5 to v8 and YOLOX, with weights under the original programs' names, give these programs' outputs."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recipes import digest
from torch import Tensor
from yolos import YOLOS, cfg_of, drawn_input, drawn_weights, files_of, needs_yolos, networks

import darknet_py
from darknet_py.layers import Boxes
from darknet_py.layers.anchor_free import AnchorFree
from darknet_py.network import Network
from darknet_py.training.batch_norm import Statistics
from darknet_py.training.derivatives import Training, set_arithmetic

pytestmark = needs_yolos
CONSTANT = re.compile(r"(^|\.)(proj|proj_conv\.weight|dfl\.conv\.weight)$")


@cache
def loaded(name: str, folder: Path) -> Network:
    """The network with the drawn weights, which came in as a user's would: from a file under the original names."""
    settings, _, keys = files_of(name)
    height, width = settings["input"][2:] if "input" in settings else (settings["height"], settings["width_px"])
    path = folder / "original.pt"
    torch.save(drawn_weights(settings, keys), path)
    return darknet_py.load(cfg_of(name), path, size=(width, height))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("original")


def expected_maps(arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What the heads read, (n, channels, h, w), from the first head to the last."""
    if "cls_0" in arrays:
        levels = range(sum(name.startswith("cls_") for name in arrays))
        return [np.concatenate((arrays[f"reg_{k}"], arrays[f"cls_{k}"]), 1) for k in levels]
    maps = [values for name, values in arrays.items() if name.startswith("raw_")]
    if maps[0].ndim == 5:  # (n, anchors, h, w, values)
        return [np.moveaxis(values, 4, 2).reshape(len(values), -1, *values.shape[2:4]) for values in maps]
    return [values[None] for values in maps]


def expected_boxes(arrays: dict[str, NDArray[Any]], classes: int) -> NDArray[Any]:
    """(n, boxes, 5 + classes): centre and size in pixels, objectness, classes."""
    decoded = arrays["decoded"]
    if len(decoded) == 4 + classes:  # (4 + classes, boxes): there is no objectness
        decoded = np.insert(decoded.T, 4, 1, 1)
    return decoded if decoded.ndim == 3 else decoded[None]


def original_order(boxes: Boxes, anchors: Tensor | None, size: tuple[int, int]) -> Tensor:
    """A head's boxes as `expected_boxes` has them; the original programs list them by anchor, then by cell."""
    sides = torch.tensor((*size, *size))
    rows = torch.cat((boxes.xywh * sides, boxes.objectness[..., None], boxes.classes), -1)
    return rows.unflatten(1, (-1, 1 if anchors is None else len(anchors))).transpose(1, 2).flatten(1, 2)


def assert_close(actual: Tensor, wanted: NDArray[Any], tolerance: float, *, of_max: bool = True) -> None:
    """tolerance: relative to the largest value, or to each value, at least 1."""
    scale = np.abs(wanted).max() if of_max else np.maximum(1, np.abs(wanted))
    assert actual.shape == wanted.shape
    assert (np.abs(actual.numpy() - wanted) / scale).max() <= tolerance


def maps_of(network: Network, name: str) -> list[Tensor]:
    """What the heads read of the drawn picture, in the precision of the network."""
    picture = drawn_input(files_of(name)[0]["seed"], (1, 3, network.size[1], network.size[0]))
    with torch.no_grad():
        return network(picture.to(next(network.parameters()).dtype))


@pytest.mark.parametrize("name", networks())
def test_maps_are_those_of_the_original_program(name: str, folder: Path) -> None:
    _, arrays, _ = files_of(name)
    for actual, wanted in zip(maps_of(loaded(name, folder), name), expected_maps(arrays), strict=True):
        assert_close(actual, wanted, 1e-5)


@pytest.mark.parametrize("name", networks())
def test_maps_and_boxes_differ_by_the_rounding_of_the_original_program_alone(name: str, folder: Path) -> None:
    _, arrays, _ = files_of(name)
    network = deepcopy(loaded(name, folder)).double()
    raw = maps_of(network, name)
    for actual, wanted in zip(raw, expected_maps(arrays), strict=True):
        assert_close(actual, wanted, 3e-6)
    if "decoded" in arrays:
        boxes = [
            original_order(head.boxes(values, network.size), head.anchors, network.size)
            for head, values in zip(network.head_layers(), raw, strict=True)
        ]
        assert_close(torch.cat(boxes, 1), expected_boxes(arrays, network.classes), 6.2e-5, of_max=False)


@pytest.mark.parametrize("name", networks())
def test_parameters_are_as_many_as_in_the_original_program(name: str, folder: Path) -> None:
    """Besides the constants that some programs count, too: the bins of a distribution."""
    settings, _, keys = files_of(name)
    bins = sum(int(np.prod([int(n) for n in row["shape"].split("x")])) for row in keys if CONSTANT.search(row["key"]))
    counted = settings.get("parameters", settings.get("n_params"))
    assert sum(parameter.numel() for parameter in loaded(name, folder).parameters()) == counted - bins


def outputs_in_training(network: Network, images: Tensor) -> dict[str, Tensor]:
    """What the heads read, auxiliary ones last, under the names of the arrays; renews the rolling statistics."""
    network.train()
    set_arithmetic(network, Training(Statistics(exact=True), 1))
    heads = sorted((layer for layer in network.layers if layer.head), key=lambda layer: layer.auxiliary)
    with torch.no_grad():
        outputs = network.run(images, [layer.source_indices[0] for layer in heads])
    raw = [outputs[layer.source_indices[0]] for layer in heads]
    if isinstance(heads[0], AnchorFree):  # YOLOv6's classes and boxes, of all cells
        levels = [head.values(values) for head, values in zip(heads, raw, strict=True)]
        box, classes = (torch.cat([level[k] for level in levels], 1) for k in (0, 2))
        return {"train_scores": classes.sigmoid(), "train_distances": box}
    leads = len(network.heads)
    names = [f"train_raw_{k}" if k < leads else f"train_aux_raw_{k - leads}" for k in range(len(heads))]
    shaped = (
        values.unflatten(1, (len(head.anchors), -1)).movedim(2, 4) for head, values in zip(heads, raw, strict=True)
    )
    return dict(zip(names, shaped, strict=True))


@pytest.mark.parametrize("name", [name for name in networks() if (YOLOS / name / "meta.json").is_file()])
def test_training_normalises_by_the_mini_batch_and_renews_the_statistics(name: str, folder: Path) -> None:
    """To the rounding of float32, which statistics of few values amplify: as far as it moves this program's outputs."""
    settings, arrays, _ = files_of(name)
    images = drawn_input(settings["train_input_seed"], tuple(settings["train_input"]))
    network = deepcopy(loaded(name, folder)).double()
    rounded = outputs_in_training(deepcopy(loaded(name, folder)), images)
    for key, exact in outputs_in_training(network, images.double()).items():
        rounding = float((rounded[key] - exact).abs().max() / exact.abs().max())
        assert rounding < 1e-3
        assert_close(exact, arrays[key], 2 * rounding)
    after = statistics_of(network)
    for key, wanted in zip(settings["running_keys"], arrays["running_after"], strict=True):
        np.testing.assert_allclose(digest(after[key].numpy()), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def statistics_of(network: Network) -> dict[str, Tensor]:
    """The rolling statistics by the original program's names; those of a layer by all names that it may have."""
    found = {}
    for layer in (layer for layer in network.layers if getattr(layer, "rolling_mean", None) is not None):
        for block in (f"{layer.options.key}.bn", f"{layer.options.key}.1", layer.options.key):
            found |= {f"{block}.running_mean": layer.rolling_mean, f"{block}.running_var": layer.rolling_variance}
    return found
