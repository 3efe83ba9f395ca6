"""[roi_head], the head of Faster R-CNN: for each region a class or background, and a box for each class.

It reads logits of background and classes, then four deltas for each of these, as [route] puts them together. This
project's own section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darknet_py.choices import NMS_KINDS
from darknet_py.devices import constant
from darknet_py.layers.head import Boxes, Candidates, Head, HeadOptions
from darknet_py.layers.layer import Place
from darknet_py.layers.regions import clipped, fractions_of, moved, regions_at
from darknet_py.layers.roi_sample import RoiSample
from darknet_py.options import option

MIN_SIDE = 0.01  # smaller boxes are dropped, pixels


class RoiHead(Head, kinds=("roi_head",)):
    own = True
    dense = False
    box_values = 4

    @dataclass(frozen=True, kw_only=True)
    class Options(HeadOptions):
        from_: int | None = option(None, "the [roi_sample] whose regions are read; negative: counted back from here")
        classes: int = option(20, "number of classes, without the background", minimum=1, maximum=1_000_000)
        delta_scales: tuple[float, float, float, float] = option(
            (10.0, 10.0, 5.0, 5.0),
            "factors of the deltas of x, y, width, height, as they are learned",
            minimum=1e-6,
            maximum=1000,
        )
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS[:3])
        beta_nms: float = option(0.6, "exponent of the distance term of diounms", minimum=0, maximum=100)

    @classmethod
    def sources(cls, options: Any, place: Place) -> tuple[int, ...]:
        if options.from_ is None:
            place.fail(None, "names no regions; write from= and the number of the [roi_sample]")
        return (place.index - 1, place.layer("from", options.from_))

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.nms_kind, self.beta_nms = options.classes, options.nms_kind, options.beta_nms
        self.convention = regions_at(place, self.source_indices[1], "from", RoiSample).convention
        logits = options.classes + 1
        self.set_input(place, (logits, 4 * logits), "classes", f"({options.classes} classes + 1) x (1+4)")
        if self.shape.count != self.shape.c:
            place.fail(
                None, f"{place.before()} {self.shape}; one value for each channel is needed, as [connected] gives"
            )

    def references(self) -> tuple[int, ...]:
        return self.source_indices[1:]

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:  # type: ignore[override]
        return x

    def values(self, raw: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(k, 5*(classes+1), 1, 1) → logits (k, 1+classes), the background's first, and deltas (k, 1+classes, 4)."""
        logits, deltas = raw[0].flatten(1).split((self.classes + 1, 4 * (self.classes + 1)), 1)
        return logits, deltas.unflatten(1, (-1, 4))

    def class_boxes(self, raw: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The probability (k, classes) and box (k, classes, 4; left, top, right, bottom) of each class in each region.

        raw: what the layer reads. size: (width, height) of the input, to which boxes are clipped; pixels.
        """
        logits, deltas = self.values(raw)
        boxes = moved(deltas[:, 1:], raw[1][:, None, 1:5], self.options.delta_scales, self.convention)
        return logits.softmax(1)[:, 1:], clipped(boxes, constant(size, boxes.device), self.convention)

    def boxes(self, raw: tuple[Tensor, Tensor], size: tuple[int, int]) -> Boxes:
        """k*classes boxes, those of all images one after the other: of a region one for each class."""
        probs, boxes = self.class_boxes(raw, size)
        xywh = fractions_of(boxes, size, self.convention).flatten(0, 1)
        return Boxes(xywh, torch.ones_like(xywh[:, 0]), torch.diag_embed(probs).flatten(0, 1))

    def decode(
        self, raw: tuple[Tensor, Tensor], thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        probs, boxes = self.class_boxes((raw[0].float(), raw[1].float()), size)
        large = (boxes[..., 2:] - boxes[..., :2] + self.convention.pixel >= MIN_SIDE).all(-1)
        region, class_id = (large & (probs > thresh)).nonzero(as_tuple=True)
        xywh, prob = fractions_of(boxes[region, class_id], size, self.convention), probs[region, class_id]
        spread = prob.new_zeros((len(prob), self.classes)).scatter(1, class_id[:, None], prob[:, None])
        return Candidates(raw[1][region, 0].long(), xywh, torch.ones_like(prob), spread)

    def describe(self) -> dict[str, object]:
        names = ("classes", "delta_scales", "nms_kind", "beta_nms")
        return {name: getattr(self.options, name) for name in names} | {"max_boxes": self.options.max}
