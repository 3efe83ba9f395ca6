"""Cases of losses that other programs computed: what a loss is given here, and heads without a network around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from darknet_py.cfg import parse_text
from darknet_py.losses import Output, State
from darknet_py.network import Network


class LossCase(NamedTuple):
    """about: what the file says of the case. values: its arrays. outputs, rows, state: what the loss is given. leaves:
    the stored maps that the outputs are made of, with gradients."""

    about: dict[str, Any]
    values: dict[str, Any]
    outputs: list[Output]
    leaves: Sequence[Tensor]
    rows: Tensor
    state: State


def truth_rows(targets: Tensor, images: int) -> Tensor:
    """(m, 6) image, class, x, y, w, h → (images, most + 1, 6), Darknet's rows."""
    rows = torch.zeros(images, len(targets) + 1, 6)
    for image in range(images):
        own = targets[targets[:, 0] == image]
        rows[image, : len(own), :4] = own[:, 2:]
        rows[image, : len(own), 4] = own[:, 1]
    return rows


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


def hyper_weights(hyp: Mapping[str, float], classes: int, size: tuple[int, int], heads: int) -> dict[str, float]:
    """The options of [yolo] with which YOLOv5's or YOLOv7's loss has these weights: it scales them for other classes,
    sizes (width, height) and numbers of heads than 80, 640 and 3, as the original programs do before the loss."""
    share = 3 / heads
    return {
        "box_weight": hyp["box"] / share,
        "objectness_weight": hyp["obj"] / share / (max(size) / 640) ** 2,
        "class_weight": hyp["cls"] / share * 80 / classes,
    }
