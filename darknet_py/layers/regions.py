"""Regions: boxes that a network proposes and then looks at one by one ([rpn], [roi_sample], [roi_pool], [roi_head]).

Here boxes are left, top, right, bottom, in pixels of the network's input. Two programs set the conventions:
torchvision, and py-faster-rcnn ("classical"), in which a box includes its last pixel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.boxes import corners
from darknet_py.devices import constant
from darknet_py.layers.layer import Layer, Place


class Convention(NamedTuple):
    """What differs between the two programs.

    pixel: what a box is wider than right - left. logits: of an anchor: 1: objectness; 2: background and object. most:
    the largest logarithm by which a side may grow. best_first: the best boxes are chosen before small ones are removed.
    anywhere: anchors that reach beyond the image are trained. beta: where the loss of a [roi_head]'s boxes goes from
    squares to absolute values. deviations: of the weights of the classes and the boxes before training; None: as
    PyTorch's.
    """

    pixel: int
    logits: int
    most: float
    best_first: bool
    anywhere: bool
    beta: float
    deviations: tuple[float, float] | None


CONVENTIONS = {
    "torchvision": Convention(0, 1, math.log(1000 / 16), best_first=True, anywhere=True, beta=1 / 9, deviations=None),
    "classical": Convention(1, 2, math.inf, best_first=False, anywhere=False, beta=1.0, deviations=(0.01, 0.001)),
}


class Regions(Layer):
    """A layer that gives regions: rows (k, 5 or more) of the image's number in the batch and the box, image by image.

    There are at most `shape.rows` for each image.
    """

    own = True
    own_rows = True
    one_graph = False
    convention: Convention


def regions_at(place: Place, index: int, key: str | None, kind: type[Regions] = Regions) -> Regions:
    """The layer of this number, which must give regions: one of this kind."""
    layer = place.earlier[index] if index >= 0 else None
    if isinstance(layer, kind):
        return layer
    found = "the network's input" if layer is None else f"layer {index} ([{layer.kind}])"
    known = "[roi_sample]" if kind is not Regions else "[rpn] or [roi_sample], which give regions"
    numbers = " or ".join(str(one.index) for one in place.earlier if isinstance(one, kind))
    advice = f"name layer {numbers}" if numbers and key else "put one before this section"
    place.fail(key, f"{found} is no {known}; {advice}")


def check_thresholds(place: Place, truth_thresh: float, ignore_thresh: float) -> None:
    """No overlap with a truth makes a box both an object and background."""
    if ignore_thresh > truth_thresh:
        key = "ignore_thresh" if place.section.get("ignore_thresh") else "truth_thresh"
        text = f"objects are boxes of an IoU from {truth_thresh:g} on, background those below {ignore_thresh:g}"
        place.fail(key, f"{text}; write ignore_thresh={truth_thresh:g} or less")


@functools.cache
def cell_anchors(sizes: tuple[float, ...], ratios: tuple[float, ...], stride: int, convention: Convention) -> Tensor:
    """(ratios*sizes, 4) on the CPU: the anchors of the first cell; of each ratio (height / width) all sizes (side of a
    square of the same area, pixels). The same tensor each time: it must not be changed.

    torchvision rounds half the sides, and the middle is the cell's corner; py-faster-rcnn rounds the sides of an anchor
    as large as a cell, multiplies these, and the middle is the cell's.
    """
    size, ratio = (torch.tensor(numbers, dtype=torch.float64, device="cpu") for numbers in (sizes, ratios))
    ratio = ratio[:, None]
    if convention.pixel:
        width = (stride**2 / ratio).sqrt().round()
        sides = torch.stack(torch.broadcast_tensors(width * size / stride, (width * ratio).round() * size / stride), -1)
    else:
        root = ratio.float().sqrt()  # in float32, as half sides that end in .5 are rounded
        halves = torch.stack(((1 / root) * size.float(), root * size.float()), -1) / 2
        sides = 2 * halves.round().double()
    middle, half = convention.pixel * (stride - 1) / 2, (sides.flatten(0, 1) - convention.pixel) / 2
    return torch.cat((middle - half, middle + half), 1).float()


def shifted(anchors: Tensor, grid: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """(a, 4) of the first cell → (h*w*a, 4) of all cells, by row. grid, stride: (width, height), cells and pixels."""
    columns, rows = (
        torch.arange(count, device=anchors.device) * step for count, step in zip(grid, stride, strict=True)
    )
    corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
    return (corner.repeat(1, 2)[:, None] + anchors).flatten(0, 1)


def _sides(boxes: Tensor, convention: Convention) -> tuple[Tensor, Tensor]:
    """Middles and sides of boxes (…, 4), pixels; (…, 2) each."""
    sides = boxes[..., 2:] - boxes[..., :2] + convention.pixel
    return boxes[..., :2] + 0.5 * sides, sides


def moved(deltas: Tensor, boxes: Tensor, scales: Sequence[float], convention: Convention) -> Tensor:
    """Boxes (…, 4), moved by what a network gives: x, y in units of the box, logarithms of the sides; times `scales`.

    Girshick et al., 2014 (R-CNN), appendix C.
    """
    middle, sides = _sides(boxes, convention)
    by_place, by_size = (deltas / constant(scales, deltas.device, deltas.dtype)).split(2, -1)
    middle, half = by_place * sides + middle, 0.5 * by_size.clamp(max=convention.most).exp() * sides
    return torch.cat((middle - half, middle + half), -1)


def deltas_to(target: Tensor, boxes: Tensor, scales: Sequence[float], convention: Convention) -> Tensor:
    """The inverse of `moved`: what moves the boxes to these targets, (…, 4)."""
    (middle, sides), (aim, size) = _sides(boxes, convention), _sides(target, convention)
    return torch.cat(((aim - middle) / sides, (size / sides).log()), -1) * constant(scales, boxes.device, boxes.dtype)


def clipped(boxes: Tensor, sizes: Tensor, convention: Convention) -> Tensor:
    """Boxes (…, 4) within their images. sizes: (…, 2) width and height, pixels."""
    return torch.minimum(boxes.clamp(min=0), (sizes - convention.pixel).repeat_interleave(2, -1)[..., [0, 2, 1, 3]])


def fractions_of(boxes: Tensor, size: tuple[int, int], convention: Convention) -> Tensor:
    """(…, 4) → centre, width, height, as fractions of the input (width, height)."""
    return torch.cat(_sides(boxes, convention), -1) / constant(size, boxes.device, boxes.dtype).repeat(2)


def pixels_of(xywh: Tensor, size: tuple[int, int], convention: Convention) -> Tensor:
    """The inverse of `fractions_of`: left, top, right, bottom, pixels of the input (width, height)."""
    low, high = corners(xywh * constant(size, xywh.device, xywh.dtype).repeat(2)).split(2, -1)
    return torch.cat((low, high - convention.pixel), -1)


def number_in_image(image: Tensor, images: int) -> Tensor:
    """The place of each row among those of its image, from 0: (k,). image: (k,), the rows' images, of 0 to images-1."""
    same = image[:, None] == torch.arange(images, device=image.device)
    return same.cumsum(0).gather(1, image[:, None]).squeeze(1) - 1
