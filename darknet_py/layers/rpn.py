"""[rpn], a region proposal network's layer (Faster R-CNN, Ren et al., 2015): where in the image there may be objects.

It reads a map with the anchors' logits and then their deltas, as [route] puts them together. This project's own
section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.boxes import nms
from darknet_py.devices import constant
from darknet_py.layers.channels import correction
from darknet_py.layers.head import MAX_ANCHORS
from darknet_py.layers.layer import LayerOptions, Place, Shape
from darknet_py.layers.regions import (
    CONVENTIONS,
    Convention,
    Regions,
    cell_anchors,
    check_thresholds,
    clipped,
    fractions_of,
    moved,
    number_in_image,
    shifted,
)
from darknet_py.options import MAX_PIXELS, MAX_WEIGHT, option

SCALES = (1.0, 1.0, 1.0, 1.0)  # of the deltas


class Choice(NamedTuple):
    """Which boxes become proposals. before, after: the most boxes that go into suppression and come out of it, 0: all.
    nms: the overlap above which the less likely box is suppressed. min_size: smallest side, pixels. least: smallest
    logit."""

    before: int
    after: int
    nms: float
    min_size: float
    least: float


class Rpn(Regions, kinds=("rpn",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        sizes: tuple[float, ...] = option(
            (128.0, 256.0, 512.0),
            "sides of the anchors, pixels: of a square of the same area",
            minimum=1,
            maximum=MAX_PIXELS,
        )
        ratios: tuple[float, ...] = option(
            (0.5, 1.0, 2.0), "height / width of the anchors", minimum=0.001, maximum=1000
        )
        stride: int = option(
            0,
            "pixels from cell to cell; 0: the input's size divided by the map's, rounded down",
            minimum=0,
            maximum=MAX_PIXELS,
        )
        convention: str = option(
            "torchvision",
            "torchvision: an objectness for each anchor; classical (py-faster-rcnn): background and object for each, "
            "and boxes include their last pixel",
            choices=tuple(CONVENTIONS),
        )
        pre_nms: int = option(6000, "most boxes before suppression; 0: all", minimum=0)
        post_nms: int = option(300, "most proposals for each image", minimum=1, maximum=MAX_ANCHORS)
        train_pre_nms: int = option(12000, "pre_nms in training", minimum=0, use="training")
        train_post_nms: int = option(2000, "post_nms in training", minimum=1, maximum=MAX_ANCHORS, use="training")
        nms: float = option(
            0.7, "the overlap above which the less likely of two boxes is suppressed", minimum=0, maximum=1
        )
        min_size: float = option(0.001, "smallest side of a proposal, pixels", minimum=0, maximum=MAX_PIXELS)
        thresh: float = option(0.0, "smallest probability of a proposal", minimum=0, maximum=1)
        samples: int = option(256, "anchors of each image that are trained", minimum=1, use="training")
        positives: float = option(
            0.5, "largest part of these that is trained to be objects", minimum=0, maximum=1, use="training"
        )
        truth_thresh: float = option(
            0.7,
            "anchors whose IoU with a truth is as large are trained to be objects",
            minimum=0.01,
            maximum=1,
            use="training",
        )
        ignore_thresh: float = option(
            0.3,
            "anchors whose IoU with all truths is smaller are trained to be background",
            minimum=0,
            maximum=1,
            use="training",
        )
        border: int | None = option(
            None,
            "how far an anchor may reach beyond the image to be trained, pixels; default: as far as it does "
            "(torchvision), or 0 (classical)",
            minimum=0,
            maximum=MAX_PIXELS,
            use="training",
        )
        clobber: int = option(
            0, "1: the best anchor of a truth is background too where its IoU says so", use="training"
        )
        positive_weight: float | None = option(
            None,
            "weight of all trained boxes together; default: each weighs the same as an anchor in the objectness",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
        )

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        return (place.index - 1, -1)  # the input, for its size

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        check_thresholds(place, options.truth_thresh, options.ignore_thresh)
        self.convention = CONVENTIONS[options.convention]
        self.anchors = len(options.sizes) * len(options.ratios)
        if self.anchors > MAX_ANCHORS:
            place.fail("sizes", f"{self.anchors} anchors are too many; {MAX_ANCHORS} is the limit")
        parts = [self.anchors * count for count in (self.convention.logits, 4)]
        self._check_map(place)
        if place.image().c != sum(parts):
            logits = "an objectness" if self.convention.logits == 1 else "background and object"
            needed = f"{self.anchors} anchors x ({self.convention.logits}+4) = {sum(parts)} are needed"
            text = f"{needed}: of all anchors {logits}, then four deltas"
            text += correction(place, parts) or "; put the two maps together with [route]"
            place.fail(None, f"{place.before()} {place.input.c} channels, {text}")
        self.shape = Shape.flat(5)._replace(rows=options.post_nms, regions=place.index)

    def _check_map(self, place: Place) -> None:
        shape, net = place.image(), place.net
        if not shape.of_whole_images:
            place.fail(None, f"{place.before()} a part of the image for each region; it reads a map of the whole image")
        if shape.w > net.width or shape.h > net.height:
            text = f"{place.before()} {shape.w} x {shape.h} cells, more than the input has pixels, {net.width} x "
            place.fail(None, f"{text}{net.height}, so anchors of many cells would be the same; it reads a smaller map")

    def values(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(n, anchors*(logits+4), h, w) → logits of an object (n, h*w*anchors), deltas (n, h*w*anchors, 4)."""
        logits, deltas = maps.split((self.convention.logits * self.anchors, 4 * self.anchors), 1)
        if self.convention.logits == 2:
            background, logits = logits.chunk(2, 1)
            logits = logits - background
        deltas = deltas.unflatten(1, (self.anchors, 4)).permute(0, 3, 4, 1, 2)
        return logits.permute(0, 2, 3, 1).flatten(1), deltas.flatten(1, 3)

    def anchors_of(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(h*w*anchors, 4): of all cells. size: (width, height) of the input, pixels."""
        options, grid = self.options, (maps.shape[3], maps.shape[2])
        stride = (options.stride or size[0] // grid[0], options.stride or size[1] // grid[1])
        first = cell_anchors(options.sizes, options.ratios, stride[0], self.convention)
        return shifted(first.to(maps.device, non_blocking=True), grid, stride)

    def choice(self) -> Choice:
        """Of training or of inference, whichever the layer is set to."""
        options = self.options
        counts = (options.pre_nms, options.post_nms)
        if self.training:
            counts = (options.train_pre_nms, options.train_post_nms)
        return Choice(*counts, options.nms, options.min_size, float(torch.logit(torch.tensor(options.thresh))))

    @torch.no_grad()
    def forward(self, maps: Tensor, images: Tensor) -> Tensor:
        """(n, anchors*(logits+4), h, w), (n, channels, height, width) → regions (k, 5), without gradient."""
        size = (images.shape[3], images.shape[2])
        logits, deltas = self.values(maps.float())
        boxes = moved(deltas, self.anchors_of(maps, size), SCALES, self.convention)
        return propose(logits, boxes, constant([size], maps.device), self.choice(), self.convention)[0]


def propose(
    logits: Tensor, boxes: Tensor, sizes: Tensor, choice: Choice, convention: Convention
) -> tuple[Tensor, Tensor]:
    """The proposals of each image, the most likely first.

    Args:
        logits: (n, k). boxes: (n, k, 4), pixels. sizes: (n, 2), or (1, 2) for all: width and height to which an
            image's boxes are clipped, pixels.

    Returns:
        Regions (m, 5) and their logits (m,).
    """
    boxes = clipped(boxes, sizes[:, None], convention)
    large = (boxes[..., 2:] - boxes[..., :2] + convention.pixel >= choice.min_size).all(-1)
    ranked = logits if convention.best_first else torch.where(large, logits, -torch.inf)
    best = ranked.topk(min(choice.before or logits.shape[1], logits.shape[1]), 1)
    kept = large.gather(1, best.indices) & (best.values >= choice.least)
    image, rank = kept.nonzero(as_tuple=True)
    box, logit = boxes[image, best.indices[image, rank]], best.values[image, rank]
    alive = nms(fractions_of(box, (1, 1), convention), logit, image, choice.nms)
    image, box, logit = image[alive], box[alive], logit[alive]
    if choice.after:
        first = number_in_image(image, len(boxes)) < choice.after
        image, box, logit = image[first], box[first], logit[first]
    return torch.cat((image[:, None].to(box.dtype), box), 1), logit
