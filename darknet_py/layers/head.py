"""What the detection heads have in common: the options of Darknet's detectors, and the candidates that decoding gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from darknet_py.cfg import shortened
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.layers.needs import BoxList, BoxNeeds
from darknet_py.names import read_lines
from darknet_py.options import option

FLT_MAX = 3.4028234663852886e38
MOST_ANCHORS = 100_000
NMS_KINDS = ("default", "greedynms", "diounms", "cornersnms")


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression, in Darknet's order (pictures, then heads, then cells by row, then anchors).

    image: (m,) int64, which picture of the batch. xywh: (m, 4), centre and size relative to the network's input.
    objectness: (m,). probs: (m, classes), objectness times class probability; 0 where it does not exceed the threshold.
    """

    image: Tensor
    xywh: Tensor
    objectness: Tensor
    probs: Tensor


class Head(Layer):
    """A layer that makes boxes. `network(x)` gives what it reads, `features` what its `forward` makes of that, `decode` the boxes.

    Every head has `classes`; `nms_kind` and `beta_nms` say how `detector test` suppresses its boxes.
    """

    head: ClassVar[bool] = True
    corrected: ClassVar[bool] = True  # boxes are moved back from a letterboxed input to the picture
    nms_kind: str = "default"
    beta_nms: float = 0.6
    has_tree: bool = False  # the classes are a hierarchy (YOLO9000), of which a class map picks those to report
    box_values: ClassVar[int] = 5  # what each box has beside its classes: 4 coordinates and an objectness
    classes: int
    anchors: (
        Tensor | None
    )  # (boxes of a cell, 2) widths and heights, in the unit of `anchor_unit`; None: the head has none
    class_map: Tensor | None  # (m,) the head's class for each of the labels', by the option `map`; training needs it

    def decode(
        self, raw: Tensor, thresh: float, size: tuple[int, int], *, class_map: Tensor | None = None
    ) -> Candidates:
        """Boxes of the head's raw input.

        Args:
            raw: (n, …), what `network(x)` gives for this head.
            thresh: probabilities must exceed it (and the objectness, in yolo heads).
            size: (width, height) of the network's input, pixels.
            class_map: (m,) int64, the tree classes to report, for heads with a tree.
        """
        raise NotImplementedError

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
        self.register_buffer("class_map", None, persistent=False)
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


@dataclass(frozen=True, kw_only=True)
class YoloOptions(LayerOptions):
    """What [yolo] and [Gaussian_yolo] both read (parser.c:parse_yolo, parse_gaussian_yolo)."""

    classes: int = option(20, "number of classes", least=0, most=1_000_000)
    num: int = option(1, "anchors in the list, all heads together", least=1, most=MOST_ANCHORS)
    mask: tuple[int, ...] = option((), "the anchors of this head, counted from 0; default: all", least=0)
    anchors: tuple[float, ...] = option((), "widths and heights of all anchors, pixels of the network's input")
    scale_x_y: float = option(1.0, "the centre's range in its cell is stretched by it about the middle")
    beta_nms: float = option(0.6, "exponent of the distance term of diounms")
    max: int = option(200, "most truths per picture", use="training")
    max_delta: float = option(FLT_MAX, "limits the gradient of a box", use="training")
    counters_per_class: tuple[int, ...] = option((), "pictures per class; rare classes count more", use="training")
    label_smooth_eps: float = option(0.0, "truth probabilities move from 0 and 1 by half of it", use="training")
    objectness_smooth: int = option(0, "1: the truth of the objectness is the IoU", use="training")
    iou_normalizer: float = option(0.75, "multiplies the gradient of boxes", use="training")
    obj_normalizer: float = option(1.0, "multiplies the gradient of the objectness", use="training")
    cls_normalizer: float = option(1.0, "multiplies the gradient of classes", use="training")
    delta_normalizer: float = option(1.0, "multiplies all gradients (GPU)", use="training")
    iou_loss: str = option(
        "mse", "loss of boxes", choices=("mse", "iou", "giou", "diou", "ciou"), otherwise="iou", use="training"
    )
    iou_thresh_kind: str = option(
        "iou", "measure for iou_thresh", choices=("iou", "giou", "diou", "ciou"), otherwise="iou", use="training"
    )
    jitter: float = option(0.2, "cropping varies by this part of the picture's size", use="training")
    resize: float = option(1.0, "zoom varies by up to this factor", use="training")
    ignore_thresh: float = option(
        0.5, "boxes with a better IoU to any truth are not punished for objectness", use="training"
    )
    truth_thresh: float = option(1.0, "boxes with a better IoU to a truth are trained to be it", use="training")
    iou_thresh: float = option(
        1.0, "all anchors with a better IoU to a truth are trained, not the best alone", use="training"
    )
    random: float = option(
        0.0, "1: the network's size varies while training; another value: by up to this factor", use="training"
    )
    map: str = option("", "file that maps the labels' classes to this head's", use="training")

    @property
    def masked(self) -> list[int]:
        """The numbers of this head's anchors."""
        return list(self.mask) or list(range(self.num))


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


def cells(raw: Tensor, anchors: int) -> Tensor:
    """(n, anchors*entries, h, w) → a view (n, h, w, anchors, entries): Darknet's order of boxes."""
    return raw.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2)
