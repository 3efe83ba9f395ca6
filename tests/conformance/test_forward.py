"""The forward pass gives the C program's numbers: every network of the kit, every layer of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import KIT, cases, needs_kit, read_json
from recipes import digest, recipe_inputs, recipe_network

from darknet_py.inference.deploy import deployed
from darknet_py.network import Network

# The kit's own advice, from a float32 replay with another summation order: heads agree to 4e-7 .. 6e-6 of their
# largest value, to 6e-5 in deep mish networks (yolov4-p5/p6), and to 5e-3 where activations grow to about 100
# (cspx-p7-mish).
TOLERANCE = 6e-5
LOOSER = {"cspx-p7-mish": 5e-3}


def compare(network: Network, case: dict[str, Any], golden: Any, tolerance: float, prefix: str = "") -> float:
    """The largest difference of a head, relative to its largest value; the digest of every layer must agree too.

    prefix: of the digests' names, for numbers that were written down beside others, to whom the whole outputs belong.
    """
    shape = (1, case["channels"], case["height"], case["width"]) if case["width"] else (1, -1)
    worst = 0.0
    for step, values in enumerate(recipe_inputs(case)):
        suffix = f"_step{step}" if case.get("steps", 1) > 1 else ""
        features = network.features(torch.from_numpy(values).view(shape), range(len(network.layers)))
        for key in golden.files:
            kind, _, rest = key.partition("_")
            if prefix or kind not in ("out", "raw") or not key.endswith(suffix):
                continue
            index = int(rest.split("_")[0]) - (kind == "raw")
            ours, theirs = features[index].numpy().reshape(-1), golden[key].reshape(-1)
            assert ours.shape == theirs.shape, key
            difference = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))
            worst = max(worst, difference)
            assert difference <= tolerance, f"{key}: {difference:.1e} of the largest value"
        for index, row in enumerate(golden[f"{prefix}digest{suffix}"]):
            if network.layers[index].kind == "cost":
                continue  # not run without truth: the kit's README
            ours = digest(features[index].numpy())
            difference = np.abs(ours - row).max() / max(np.abs(row).max(), 1e-12)
            assert difference <= tolerance, f"layer {index} ({network.layers[index].kind}): {difference:.1e}"
    return worst


def forward_case(folder: str, name: str, tmp_path: Path) -> float:
    case = read_json(folder, name)
    network = recipe_network(KIT / folder / f"{name}.cfg", case, tmp_path)
    if case.get("fused_batchnorm"):
        network = deployed(network)
        invert_packed_xnor(network)
    if folder == "forward_pjreddie":
        use_pjreddies_epsilon(network)
    return compare(network, case, np.load(KIT / folder / f"{name}.npz"), LOOSER.get(name, TOLERANCE))


def invert_packed_xnor(network: Network) -> None:
    """The kit's xnor networks were run through the C library with `gpu_index` at its initial 0, without a GPU.

    convolutional_layer.c:binary_align_weights then inverts the packed bits of layers with c % 32 == 0, for a GPU kernel
    that is absent; the program itself sets gpu_index to -1 first, and gives the sum with the opposite sign. So each
    such filter counts mismatches in place of matches, and the bits that fill up the last 64-bit word are subtracted
    though they do not match.
    """
    for layer in network.layers:
        if (
            layer.kind == "convolutional"
            and layer.xnor
            and layer.input.c % 32 == 0
            and layer.stride[0] == layer.stride[1]
        ):
            filling = -layer.weights[0].numel() % 64
            layer.biases -= 2 * filling * layer.weights.abs().mean((1, 2, 3))
            layer.weights.neg_()


def use_pjreddies_epsilon(network: Network) -> None:
    """pjreddie's CPU program divides by sqrt(variance) + 1e-6, all others by sqrt(variance + 1e-5).

    Another variance gives the same divisor.
    """
    for layer in network.layers:
        if getattr(layer, "rolling_variance", None) is not None:
            variance = layer.rolling_variance.double()
            layer.rolling_variance.copy_((variance.sqrt() + 1e-6) ** 2 - 1e-5)


@needs_kit
@pytest.mark.parametrize("name", cases("forward", "*.npz"))
def test_forward_is_darknets(name: str, tmp_path: Path) -> None:
    forward_case("forward", name, tmp_path)


@needs_kit
@pytest.mark.parametrize("name", cases("forward_pjreddie", "*.npz"))
def test_forward_is_pjreddies(name: str, tmp_path: Path) -> None:
    """The residual networks that AlexeyAB's program refuses, run by pjreddie's."""
    forward_case("forward_pjreddie", name, tmp_path)
