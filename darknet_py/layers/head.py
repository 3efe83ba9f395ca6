"""What detection heads have in common: their boxes, the decoding of these, and the data they are trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.channels import correction
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.layers.needs import BoxList, BoxNeeds
from darknet_py.names import named_text, stripped_lines
from darknet_py.options import option
from darknet_py.text import shortened, whole_number

FLT_MAX = 3.4028234663852886e38
MAX_ANCHORS = 100_000


@dataclass(frozen=True, kw_only=True)
class HeadOptions(LayerOptions):
    """What all heads read for their training images."""

    max: int = option(200, "maximum number of truths per image", minimum=1, maximum=100_000, use="training")
    jitter: float = option(
        0.2, "random cropping, by up to this fraction of the image's size", minimum=0, maximum=1, use="training"
    )
    resize: float = option(1.0, "random zoom, by up to this factor", minimum=0.01, maximum=100, use="training")
    random: float = option(
        0.0, "1: the input size varies during training by up to 1.4; another value: by up to this factor",
        minimum=0, maximum=10, use="training",
    )  # fmt: skip


class Boxes(NamedTuple):
    """Boxes of a head, computed from its raw output: differentiable, and traceable by torch.export.

    xywh: (…, 4), centre and size as fractions of the network's input. objectness: (…,). classes: (…, classes), the
    probability of each class, given an object. For all boxes of a batch, … is (n, k), in Darknet's order: cells by row,
    then anchors.
    """

    xywh: Tensor
    objectness: Tensor
    classes: Tensor


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression, in Darknet's order (images, then cells by row, then anchors).

    image: (m,) int64, which image of the batch. xywh: (m, 4), centre and size as fractions of the network's input.
    objectness: (m,). probs: (m, classes), objectness times class probability; 0 where it does not exceed the threshold.
    """

    image: Tensor
    xywh: Tensor
    objectness: Tensor
    probs: Tensor


class Head(Layer):
    """A layer that gives boxes: `boxes` computes all of them, `decode` those over a threshold.

    Both read the head's raw output, what `network(x)` gives for it. A kind defines `boxes` and `needs` (and `forward`,
    if Darknet's l.output differs from the head's input); decoding, losses, evaluation and export use these. `nms_kind`
    and `beta_nms` are the defaults of suppression.
    """

    head: ClassVar[bool] = True
    corrected: ClassVar[bool] = True  # boxes in a letterboxed input are mapped back to the image
    nms_kind: str = "default"
    beta_nms: float = 0.6
    has_tree: bool = False  # the classes are a tree (YOLO9000); a class map selects those to report
    dense: bool = True  # candidates are the boxes of `boxes` whose objectness * class exceeds the threshold
    box_values: ClassVar[int] = 5  # values of a box besides its classes: 4 coordinates and an objectness
    lead: int | None = None  # index of the head that an auxiliary head helps to train
    classes: int
    anchors: Tensor | None  # (anchors, 2) widths and heights, in the unit of `anchor_unit`; None: there are none
    class_map: Tensor | None  # (m,) int64, the head's class of each class of the labels (option `map`), for training

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.register_buffer("anchors", None, persistent=False)
        self.register_buffer("class_map", None, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Boxes are decoded in float32, whatever the network's number format: anchors keep theirs."""
        exact = {name: buffer for name, buffer in self.named_buffers(recurse=False) if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return x

    def boxes(self, raw: Any, size: tuple[int, int]) -> Boxes:
        """All boxes of a batch.

        Args:
            raw: (n, …), what `network(x)` gives for this head; a tuple if it reads several layers.
            size: (width, height) of the network's input, pixels.
        """
        raise NotImplementedError

    def decode(self, raw: Any, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None) -> Candidates:
        """The boxes with a class probability over a threshold.

        Args:
            raw, size: see `boxes`.
            thresh: what probabilities (in yolo heads, the objectness too) must exceed.
            class_map: (m,) int64, the tree classes to report, for heads with a tree.
        """
        boxes = self.boxes(in_float32(raw), size)
        probs = boxes.objectness[..., None] * boxes.classes
        image, box = (probs > thresh).any(-1).nonzero(as_tuple=True)
        return self.scored(image, Boxes(*(column[image, box] for column in boxes)), thresh, class_map)

    def scored(self, image: Tensor, boxes: Boxes, thresh: float, class_map: Tensor | None) -> Candidates:
        """Boxes (…) and their images (…), as candidates."""
        probs = boxes.objectness[..., None] * boxes.classes
        return Candidates(image, boxes.xywh, boxes.objectness, probs * (probs > thresh))

    def every(self, raw: Any, thresh: float, size: tuple[int, int]) -> Candidates:
        """All boxes of a `dense` head as candidates, (n, k): what `decode` leaves out has no probability."""
        boxes = self.boxes(in_float32(raw), size)
        return self.scored(torch.zeros_like(boxes.objectness, dtype=torch.long), boxes, thresh, None)

    def anchor_unit(self, size: tuple[int, int]) -> tuple[float, float]:
        """The factors from fractions of the image to the unit of the anchors. size: of the input, pixels."""
        return size

    def needs(self) -> BoxNeeds:
        """Of heads with `HeadOptions`."""
        options = self.options
        return BoxNeeds(
            self.classes,
            options.max,
            BoxList(options.max),
            jitter=options.jitter,
            resize=options.resize,
            random=options.random,
        )

    def read_map(self, place: Place, name: str) -> None:
        """Reads the file that the option `map` names: line k is the head's class for the labels' class k."""
        if not name or (text := named_text(place.cfg, name, "map of classes")) is None:
            return
        lines = stripped_lines(text)
        numbers = [whole_number(line) for line in lines]
        for line, number in zip(lines, numbers, strict=True):
            if number is None or number >= self.classes:
                place.fail("map", f"{name}: '{shortened(line)}' is not a class from 0 to {self.classes - 1}")
        self.class_map = torch.tensor(numbers)

    def set_lead(self, place: Place) -> None:
        """Makes the head auxiliary if the option `aux_of` names the head that it helps to train."""
        if self.options.aux_of is None:
            return
        lead = place.earlier[place.layer("aux_of", self.options.aux_of)]
        if not isinstance(lead, type(self)) or lead.auxiliary or lead.classes != self.classes:
            text = f"layer {lead.index} ([{lead.kind}]) is not a [{self.kind}] of {self.classes} classes"
            place.fail("aux_of", f"{text} and not auxiliary itself; name the head that this one helps to train")
        self.auxiliary, self.lead = True, lead.index

    def set_input(self, place: Place, channels: int | Sequence[int], key: str, needed: str) -> None:
        """Sets `shape` to the input's, which must have this number of channels; the error says what to write.

        channels: several numbers: the parts that the cfg may compute in a layer each and join by [route]. key: the
        option at which an error is reported. needed: the channels as a formula, for the message.
        """
        self.shape = place.image()
        parts = (channels,) if isinstance(channels, int) else channels
        if self.shape.c != sum(parts):
            text = f"{place.before()} {self.shape.c} channels, {needed} = {sum(parts)} are needed"
            place.fail(key if place.section.get(key) else None, text + correction(place, parts))


def read_anchors(place: Place, anchors: tuple[float, ...], num: int, mask: tuple[int, ...]) -> Tensor:
    """(masked anchors, 2) widths and heights; Darknet has `num` pairs, with values of 0.5 if the list is too short."""
    needed = max(num, *mask, 0) + 1 if mask and max(mask) >= num else num
    if needed > num:
        place.warn(
            "mask",
            f"there is no anchor {needed - 1} (num={num}); Darknet reads past the end of its list; write num={needed}",
        )
    if needed > MAX_ANCHORS:
        place.fail("mask" if mask else "num", f"{needed} anchors are too many; {MAX_ANCHORS} is the limit")
    if len(anchors) > 2 * needed:
        place.warn("anchors", f"{len(anchors)} values, Darknet uses the first {2 * needed}, as num={num}")
    values = list(anchors[: 2 * needed])
    if len(values) < 2 * needed:
        place.warn("anchors", f"{len(values)} values for {needed} anchors; Darknet uses 0.5 for the missing ones")
        values += [0.5] * (2 * needed - len(values))
    pairs = torch.tensor(values).view(-1, 2)
    return pairs[list(mask)] if mask else pairs


class GridHead(Head):
    """A head with boxes for each anchor in each cell of a map: [yolo], [Gaussian_yolo], [region].

    Each anchor has a block of channels, `entries` of them.
    """

    anchors: Tensor

    def values(self, raw: Tensor) -> Tensor:
        """(n, anchors*entries, h, w) → (n, h*w*anchors, entries), box by box; a view of a channels-last tensor."""
        return raw.permute(0, 2, 3, 1).unflatten(3, (len(self.anchors), -1)).flatten(1, 3)

    def raw_of(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of `values`: (n, h*w*anchors, entries) → (n, anchors*entries, h, w). grid: (width, height)."""
        return values.unflatten(1, (grid[1], grid[0], len(self.anchors))).flatten(3).permute(0, 3, 1, 2)

    def place_of(self, box: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Numbers of boxes (…,) → column and row of their cells (…, 2), widths and heights of their anchors (…, 2)."""
        count, width = len(self.anchors), grid[0]
        cell = box // count
        row = cell // width
        return torch.stack((cell - row * width, row), -1), self.anchors[box % count]

    def boxes_at(self, values: Tensor, box: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Boxes:
        """The boxes of the numbers `box` (…,) from their `values` (…, entries): the formula of the head's boxes.

        grid: (width, height) of the map, cells. size: (width, height) of the network's input, pixels.
        """
        raise NotImplementedError

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        values, grid = self.values(raw), (raw.shape[3], raw.shape[2])
        return self.boxes_at(values, torch.arange(values.shape[1], device=raw.device), grid, size)

    def likely(self, values: Tensor, thresh: float) -> Tensor:
        """(n, k, entries) → (n, k) bool: which boxes may have a class over the threshold; `decode` skips the others."""
        raise NotImplementedError

    def decode(
        self, raw: Tensor, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        values = self.values(raw)
        image, box = self.likely(values, thresh).nonzero(as_tuple=True)
        boxes = self.boxes_at(values[image, box].float(), box, (raw.shape[3], raw.shape[2]), size)
        return self.scored(image, boxes, thresh, class_map)

    def every(self, raw: Tensor, thresh: float, size: tuple[int, int]) -> Candidates:
        found = super().every(raw, thresh, size)
        return found._replace(probs=found.probs * self.likely(self.values(raw), thresh)[..., None])


def in_float32(raw: Any) -> Any:
    """What a head reads: a tensor, or a tuple if it reads several layers."""
    return raw.float() if isinstance(raw, Tensor) else tuple(part.float() for part in raw)


def stretched(xy: Tensor, scale_x_y: float) -> Tensor:
    """A centre's position in its cell, 0..1, stretched about the middle of the cell (option scale_x_y)."""
    return xy if scale_x_y == 1 else xy * scale_x_y - 0.5 * (scale_x_y - 1)


def pixels(size: tuple[int, int], like: Tensor) -> Tensor:
    """(width, height) as a tensor (2,) on the device of `like`."""
    return constant(size, like.device)
