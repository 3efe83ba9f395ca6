"""What the newer systems' own programs compute: `../shared/yolos`, beside the conformance kit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import SHARED
from torch import Tensor

from darknet_py.cfg import parse_text
from darknet_py.network import Network

YOLOS = SHARED / "yolos"
needs_yolos = pytest.mark.skipif(not YOLOS.is_dir(), reason="the YOLOs' own numbers are not available")


@cache
def arrays(path: Path) -> dict[str, Any]:
    """The arrays of a .npz file, by name."""
    with np.load(path) as file:
        return dict(file)


def loss_cases(folder: str, pattern: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The files `pattern`.json of a folder, by name, with what they say; the arrays lie beside them."""
    paths = sorted((YOLOS / folder).glob(f"{pattern}.json"))
    return {path.stem: (path, json.loads(path.read_text())) for path in paths}


def anchor_free_heads(about: dict[str, Any], filters: int, options: str) -> list[Any]:
    """The [anchor_free] heads of a network, one for each of the `strides`.

    about: num_classes, height, width and strides. filters: the entries of a map. options: lines of the sections.
    """
    text = f"[net]\nwidth={about['width']}\nheight={about['height']}\nchannels=3\n"
    for stride in about["strides"]:
        text += "[route]\nlayers=0\n" if stride != about["strides"][0] else "[empty]\n"
        text += f"[convolutional]\nfilters={filters}\nsize={stride}\nstride={stride}\n"
        text += f"[anchor_free]\nclasses={about['num_classes']}\n{options}\n"
    return [layer for layer in Network(parse_text(text)).layers if layer.head]


def gradients_are_near(
    gradients: Sequence[Tensor], values: dict[str, Any], strides: Sequence[int], part: str, tolerance: float = 2e-5
) -> None:
    """Gradients of the maps are those of the arrays grad_PART_STRIDE, within a fraction of the largest of them."""
    expected = [torch.from_numpy(values[f"grad_{part}_{stride}"]) for stride in strides]
    atol = tolerance * max(float(gradient.abs().max()) for gradient in expected)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=atol)


def models(system: str) -> list[str]:
    """The networks of a system, as yolov6/yolov6n; one that is skipped where there is none."""
    return sorted(str(path.parent.relative_to(YOLOS)) for path in YOLOS.glob(f"{system}/*/keys.tsv")) or ["(no yolos)"]


def gain_of(gains: list[Any], key: str) -> float:
    return next((float(gain) for text, gain in gains if text in key), 1.0)


@cache
def weights_of(model: str) -> dict[str, Any]:
    """The drawn weights of YOLOv5, v6 and v7 by their keys: the recipe of yolov5-6-7.md, checked by its hash."""
    about = json.loads((YOLOS / model / "meta.json").read_text())
    rng = np.random.Generator(np.random.PCG64(about["seed"]))
    result = {}
    lines = (YOLOS / model / "keys.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line[0] not in "#n"]
    for _, key, shape_text, _, _, _, module, *_, drawn in rows:
        if drawn != "1":
            continue
        shape = [int(side) for side in shape_text.split("x")]
        count, leaf = int(np.prod(shape)), key.split(".")[-1]
        if module == "BatchNorm2d" and leaf == "weight":
            values = (1.0 + 0.1 * rng.standard_normal(count)) * gain_of(about["gains"]["bn"], key)
        elif module == "BatchNorm2d":
            values = {
                "bias": lambda n: 0.3 * rng.standard_normal(n),
                "running_mean": lambda n: 0.1 * rng.standard_normal(n),
                "running_var": lambda n: 0.5 + rng.random(n),
            }[leaf](count)
        elif leaf == "implicit":
            values = 0.1 * rng.standard_normal(count) + (1.0 if module == "ImplicitM" else 0.0)
        elif leaf == "alpha":
            values = 1.0 + 0.1 * rng.standard_normal(count)
        elif leaf == "bias":
            values = 0.05 * rng.standard_normal(count)
        else:
            fan = shape[0] if module == "ConvTranspose2d" else int(np.prod(shape[1:]))
            values = np.sqrt(gain_of(about["gains"]["conv"], key) / fan) * rng.standard_normal(count)
        result[key] = values.astype(np.float32).reshape(shape)
    body = b"".join(array.tobytes() for array in result.values())
    assert hashlib.sha256(body).hexdigest() == about["weights_sha256"]
    return result
