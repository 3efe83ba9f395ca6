"""What the detection heads have in common: the options of Darknet's detectors, and the candidates that decoding gives."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from darknet_py.cfg import shortened
from darknet_py.layers.layer import Layer, Place
from darknet_py.layers.needs import BoxList, BoxNeeds
from darknet_py.names import read_lines

FLT_MAX = 3.4028234663852886e38
MOST_ANCHORS = 100_000
NMS_KINDS = ("default", "greedynms", "diounms", "cornersnms")


class Boxes(NamedTuple):
    """Boxes of a head, as formulas of its raw output: differentiable, and traceable by torch.export.

    xywh: (…, 4), centre and size as fractions of the network's input. objectness: (…,). classes: (…, classes), the probability of
    each class where there is an object. For all boxes of a batch … is (n, k), in Darknet's order: cells by row, then anchors.
    """

    xywh: Tensor
    objectness: Tensor
    classes: Tensor


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression, in Darknet's order (images, then heads, then cells by row, then anchors).

    image: (m,) int64, which image of the batch. xywh: (m, 4), centre and size as fractions of the network's input.
    objectness: (m,). probs: (m, classes), objectness times class probability; 0 where it does not exceed the threshold.
    """

    image: Tensor
    xywh: Tensor
    objectness: Tensor
    probs: Tensor


class Head(Layer):
    """A layer that makes boxes. `network(x)` gives what it reads (its raw output), `boxes` all its boxes, `decode` the likely ones.

    A kind defines `boxes` and `needs` (and `forward`, if Darknet's l.output is something else than what it reads); decoding, losses,
    evaluation and export use these. `nms_kind` and `beta_nms` say how `detector test` suppresses its boxes.
    """

    head: ClassVar[bool] = True
    corrected: ClassVar[bool] = True  # boxes are moved back from a letterboxed input to the image
    nms_kind: str = "default"
    beta_nms: float = 0.6
    has_tree: bool = False  # the classes are a hierarchy (YOLO9000), of which a class map picks those to report
    box_values: ClassVar[int] = 5  # what each box has beside its classes: 4 coordinates and an objectness
    classes: int
    anchors: (
        Tensor | None
    )  # (boxes of a cell, 2) widths and heights, in the unit of `anchor_unit`; None: the head has none
    class_map: Tensor | None  # (m,) the head's class for each of the labels', by the option `map`; training needs it

    def __init__(self, options: Any, place: Place) -> None:
        super().__init__(options, place)
        self.register_buffer("anchors", None, persistent=False)
        self.register_buffer("class_map", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def boxes(self, raw: Any, size: tuple[int, int]) -> Boxes:
        """All boxes of a batch.

        Args:
            raw: (n, …), what `network(x)` gives for this head; a tuple where it reads several layers.
            size: (width, height) of the network's input, pixels.
        """
        raise NotImplementedError

    def decode(self, raw: Any, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None) -> Candidates:
        """The boxes with a class over a threshold.

        Args:
            raw, size: see `boxes`.
            thresh: probabilities must exceed it (and the objectness, in yolo heads).
            class_map: (m,) int64, the tree classes to report, for heads with a tree.
        """
        found = self.boxes(raw.float() if isinstance(raw, Tensor) else tuple(part.float() for part in raw), size)
        probs = found.objectness[..., None] * found.classes
        image, box = (probs > thresh).any(-1).nonzero(as_tuple=True)
        chosen = probs[image, box]
        return Candidates(image, found.xywh[image, box], found.objectness[image, box], chosen * (chosen > thresh))

    def anchor_unit(self, size: tuple[int, int]) -> tuple[float, float]:
        """What a box's (width, height) as fractions of the image are multiplied by to be compared with anchors. size: of the input."""
        return size

    def needs(self) -> BoxNeeds:
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
        """The file that the option `map` names: a class of the head per line, for the labels' classes in their order."""
        if not name or (path := place.cfg.find_file(name)) is None:
            return
        lines = read_lines(path, "map of classes")
        wrong = next((line for line in lines if not line.isdigit() or int(line) >= self.classes), None)
        if wrong is not None:
            place.fail("map", f"{path}: '{shortened(wrong)}' is none of the classes 0 to {self.classes - 1}")
        self.class_map = torch.tensor([int(line) for line in lines])

    def set_input(self, place: Place, channels: int, key: str, needed: str) -> None:
        """Checks the channels that the head reads; the message says which `filters` to write."""
        self.shape = place.image()
        if self.shape.c == channels:
            return
        before = place.earlier[-1] if place.earlier else None
        text = f"{place.before()} {self.shape.c} channels, {needed} = {channels} are needed"
        if before is not None and before.kind == "convolutional":
            section = place.cfg.sections[self.index]  # the section before: [net] is sections[0]
            filters = section.get("filters")
            text += f"; set filters={channels} at line {filters.line if filters else section.line}"
        place.fail(key if place.section.get(key) else None, text)


def read_anchors(place: Place, anchors: tuple[float, ...], num: int, mask: tuple[int, ...]) -> Tensor:
    """(masked anchors, 2) widths and heights; Darknet keeps `num` pairs, and takes 0.5 where the list is too short."""
    needed = max(num, *mask, 0) + 1 if mask and max(mask) >= num else num
    if needed > num:
        place.warn(
            "mask",
            f"there is no anchor {needed - 1}, as num={num}; Darknet reads past the end of its list; write num={needed}",
        )
    if needed > MOST_ANCHORS:
        place.fail("mask" if mask else "num", f"{needed} anchors are too many; {MOST_ANCHORS} is the limit")
    if len(anchors) > 2 * needed:
        place.warn("anchors", f"{len(anchors)} values, Darknet takes the first {2 * needed}, as num={num}")
    values = list(anchors[: 2 * needed])
    if len(values) < 2 * needed:
        place.warn("anchors", f"{len(values)} values for {needed} anchors; Darknet takes 0.5 for each that is missing")
        values += [0.5] * (2 * needed - len(values))
    pairs = torch.tensor(values).view(-1, 2)
    return pairs[list(mask)] if mask else pairs


class GridHead(Head):
    """A head whose boxes are anchors in the cells of a map: each anchor has a block of channels. [yolo], [Gaussian_yolo], [region]."""

    anchors: Tensor

    def values(self, raw: Tensor) -> Tensor:
        """(n, anchors*entries, h, w) → (n, h*w*anchors, entries), box by box; a view where channels are innermost in memory."""
        return raw.permute(0, 2, 3, 1).unflatten(3, (len(self.anchors), -1)).flatten(1, 3)

    def raw_of(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """`values` undone: (n, h*w*anchors, entries) → (n, anchors*entries, h, w); grid: (width, height) of the map."""
        return values.unflatten(1, (grid[1], grid[0], len(self.anchors))).flatten(3).permute(0, 3, 1, 2)

    def place_of(self, box: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Numbers of boxes (…,) → column and row of their cells (…, 2), and their anchors' sizes (…, 2)."""
        count, width = len(self.anchors), grid[0]
        corner = torch.stack((box // count % width, box // (count * width)), -1)
        return corner, self.anchors[box % count]

    def boxes_at(self, values: Tensor, box: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Boxes:
        """The boxes with the numbers `box` (…,) of what `values` has for them (…, entries). The one formula of the head's boxes."""
        raise NotImplementedError

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        values, grid = self.values(raw), (raw.shape[3], raw.shape[2])
        return self.boxes_at(values, torch.arange(values.shape[1], device=raw.device), grid, size)

    def likely(self, values: Tensor, thresh: float) -> Tensor:
        """(n, k, entries) → (n, k) bool: boxes that may have a class over the threshold; `decode` looks at no others."""
        raise NotImplementedError

    def decode(
        self, raw: Tensor, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        values = self.values(raw)
        image, box = self.likely(values, thresh).nonzero(as_tuple=True)
        found = self.boxes_at(values[image, box].float(), box, (raw.shape[3], raw.shape[2]), size)
        return self.scored(image, found, thresh, class_map)

    def scored(self, image: Tensor, found: Boxes, thresh: float, class_map: Tensor | None) -> Candidates:
        """Boxes (m,) of these images, as candidates."""
        probs = found.objectness[:, None] * found.classes
        return Candidates(image, found.xywh, found.objectness, probs * (probs > thresh))


def stretched(xy: Tensor, scale_x_y: float) -> Tensor:
    """The centre's place in its cell, 0..1, stretched about the middle (scale_x_y)."""
    return xy if scale_x_y == 1 else xy * scale_x_y - 0.5 * (scale_x_y - 1)


def pixels(size: tuple[int, int], like: Tensor) -> Tensor:
    """A (width, height) as a tensor, beside another."""
    return torch.tensor(size, device=like.device)
