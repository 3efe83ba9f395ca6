"""The conformance kit: what Darknet's C program computes. Tests find its cases by listing its folders.

It lies under `../shared/kit` from the project's root, or where DARKNET_PY_SHARED points; without it these tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darknet_py.cfg import parse_cfg
from darknet_py.network import Network
from darknet_py.weights import load_weights

SHARED = Path(os.environ.get("DARKNET_PY_SHARED") or Path(__file__).resolve().parents[2] / "shared")
KIT = SHARED / "kit"
REALDATA = SHARED / "realdata"
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not here (set DARKNET_PY_SHARED)")
needs_realdata = pytest.mark.skipif(
    not REALDATA.is_dir(), reason="the real pictures are not here (set DARKNET_PY_SHARED)"
)

GAIN = {"linear": 1.0, "logistic": 1.0, "tanh": 1.0, "swish": 2.0}


def cases(folder: str, pattern: str) -> list[str]:
    """Names relative to kit/`folder`, without their ending; one skipped case where the kit is absent."""
    root = KIT / folder
    found = sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob(pattern)) if root.is_dir() else []
    return found or ["(no kit)"]


def read_json(folder: str, name: str) -> Any:
    return json.loads((KIT / folder / f"{name}.json").read_text())


def digest(array: np.ndarray) -> np.ndarray:
    """The kit's 20 numbers of an array: mean, deviation, extremes, 16 samples."""
    flat = array.reshape(-1).astype(np.float64)
    samples = flat[[k * (flat.size - 1) // 15 for k in range(16)]]
    return np.concatenate([[flat.mean(), flat.std(), flat.min(), flat.max()], samples])


def recipe_weights(network: Network, seed: int) -> Iterator[np.ndarray]:
    """The values of the file that the kit's deterministic recipe gives (kit/README.md), float32, tensor after tensor."""
    rng = np.random.Generator(np.random.PCG64(seed))
    layers = network.layers
    for k, layer in enumerate(layers):
        biases = 0
        for one in layer.stored():
            count, base = one.tensor.numel(), one.name.split(".")[-1]
            if layer.kind == "shortcut":
                values = 0.5 + rng.random(count)
            elif layer.kind == "implicit":
                values = 1.0 + 0.1 * rng.standard_normal(count)
            elif base == "biases":
                biases, values = count, 0.05 * rng.standard_normal(count)
            elif base == "scales":
                values = 1.0 + 0.1 * rng.standard_normal(count)
            elif base == "rolling_mean":
                values = 0.1 * rng.standard_normal(count)
            elif base == "rolling_variance":
                values = 0.5 + rng.random(count)
            else:
                gain = 1.0
                if layer.kind in ("convolutional", "connected", "local"):
                    gain = GAIN.get(layer.options.activation, 2.0)
                    if k + 1 < len(layers) and layers[k + 1].kind == "shortcut":
                        gain = 0.2
                values = rng.standard_normal(count)
                values *= np.sqrt(gain / (count // biases))
            yield values.astype("<f4")


def recipe_network(cfg: Path, case: dict[str, Any], folder: Path) -> Network:
    """The case's network with the recipe's weights, read from a file as a user's would be."""
    network = Network(parse_cfg(cfg))
    path, sha256 = folder / "recipe.weights", hashlib.sha256()
    with path.open("wb") as file:
        for part in chain([struct.pack("<3iq", 0, 2, 5, 0)], recipe_weights(network, case["seed"])):
            sha256.update(part)
            file.write(part)
    assert sha256.hexdigest() == case["weights_sha256"], "the recipe gives other weights than the kit had"
    load_weights(network, path)
    path.unlink()
    return network.requires_grad_(False).eval()


def recipe_inputs(case: dict[str, Any]) -> list[np.ndarray]:
    """The inputs of each step: (1, inputs) float32."""
    rng = np.random.Generator(np.random.PCG64(case["seed"] + 1000003))
    return [rng.random(case["inputs"]).astype(np.float32)[None] for _ in range(case.get("steps", 1))]
