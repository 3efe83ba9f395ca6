"""Weights, inputs and ground truth that are made from a seed, so that only what Darknet computes needs to be stored.

The conformance kit (`kit.py`) and `tests/golden` were made with them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.cfg import parse_cfg
from darknet_py.layers.needs import BoxNeeds
from darknet_py.network import Network
from darknet_py.weights import load_weights

GAIN = {"linear": 1.0, "logistic": 1.0, "tanh": 1.0, "swish": 2.0}
TRUTHS_PER_IMAGE = 3


def digest(array: NDArray[Any]) -> NDArray[np.float64]:
    """20 numbers that stand for an array: mean, standard deviation, minimum, maximum, 16 samples."""
    flat = array.reshape(-1).astype(np.float64)
    samples = flat[[k * (flat.size - 1) // 15 for k in range(16)]]
    return np.concatenate([[flat.mean(), flat.std(), flat.min(), flat.max()], samples])


def recipe_weights(network: Network, seed: int) -> Iterator[NDArray[np.float32]]:
    """The values of the .weights file, tensor after tensor, each (floats,) float32."""
    rng = np.random.Generator(np.random.PCG64(seed))
    layers = network.layers
    for index, layer in enumerate(layers):
        biases = 0
        for stored in layer.stored():
            count, name = stored.tensor.numel(), stored.name.split(".")[-1]
            if layer.kind == "shortcut":
                values = 0.5 + rng.random(count)
            elif layer.kind == "implicit":
                values = 1.0 + 0.1 * rng.standard_normal(count)
            elif name == "biases":
                biases, values = count, 0.05 * rng.standard_normal(count)
            elif name == "scales":
                values = 1.0 + 0.1 * rng.standard_normal(count)
            elif name == "rolling_mean":
                values = 0.1 * rng.standard_normal(count)
            elif name == "rolling_variance":
                values = 0.5 + rng.random(count)
            else:
                gain = 1.0
                if layer.kind in ("convolutional", "connected", "local"):
                    gain = GAIN.get(layer.options.activation, 2.0)
                    if index + 1 < len(layers) and layers[index + 1].kind == "shortcut":
                        gain = 0.2
                values = rng.standard_normal(count)
                values *= np.sqrt(gain / (count // biases))
            yield values.astype("<f4")


def write_recipe(network: Network, seed: int, path: Path) -> str:
    """Writes the .weights file → its sha256."""
    sha256 = hashlib.sha256()
    with path.open("wb") as file:
        for values in chain([struct.pack("<3iq", 0, 2, 5, 0)], recipe_weights(network, seed)):
            sha256.update(values)
            file.write(values)
    return sha256.hexdigest()


def recipe_network(cfg: Path, case: dict[str, Any], folder: Path) -> Network:
    """The network of a case, with weights made from its `seed` and read from a file as a user's would be."""
    network, path = Network(parse_cfg(cfg)), folder / "recipe.weights"
    assert write_recipe(network, case["seed"], path) == case["weights_sha256"], (
        "these are not the weights that Darknet's numbers were computed with"
    )
    load_weights(network, path)
    path.unlink()
    return network.requires_grad_(False).eval()


def recipe_inputs(case: dict[str, Any]) -> list[NDArray[np.float32]]:
    """The inputs of each step: (1, inputs) float32."""
    rng = np.random.Generator(np.random.PCG64(case["seed"] + 1000003))
    return [rng.random(case["inputs"]).astype(np.float32)[None] for _ in range(case.get("steps", 1))]


def recipe_batches(network: Network, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The mini-batches of one iteration: images (n, c, h, w) in 0..1, and ground truth in the form of the loss."""
    rng = np.random.Generator(np.random.PCG64(seed + 2000003))
    net, needs = network.net, network.needs()
    assert needs is not None
    count = net.batch // net.subdivisions
    for _ in range(net.subdivisions):
        images = rng.random((count, *network.input_shape[:3])).astype(np.float32)
        if isinstance(needs, BoxNeeds):
            truths = [needs.truth_format(_boxes(rng, needs.classes)) for _ in range(count)]
        else:
            truths = list(np.eye(needs.classes, dtype=np.float32)[rng.integers(needs.classes, size=count)])
        yield torch.from_numpy(images), torch.from_numpy(np.stack(truths))


def _boxes(rng: np.random.Generator, classes: int) -> NDArray[np.float32]:
    """(TRUTHS_PER_IMAGE, 6) rows x, y, w, h, class, track_id."""
    centre, size = rng.uniform(0.2, 0.8, (TRUTHS_PER_IMAGE, 2)), rng.uniform(0.1, 0.6, (TRUTHS_PER_IMAGE, 2))
    labels = rng.integers(classes, size=(TRUTHS_PER_IMAGE, 1))
    return np.concatenate((centre, size, labels, np.zeros_like(labels)), 1).astype(np.float32)
