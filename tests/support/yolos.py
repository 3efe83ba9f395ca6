"""What the newer systems' own programs compute: `../shared/yolos`, beside the conformance kit."""

from __future__ import annotations

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
