"""[anchor_free], the head of YOLOX, YOLOv6 and YOLOv8: one box in each cell of a map, without anchors.

Channels: the box, the objectness if there is one, the classes; all before the logistic function. An auxiliary head may
have anchors (YOLOv6): then the boxes of all anchors come first, then their classes. This project's own section: the C
program has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.choices import NMS_KINDS
from darknet_py.layers.head import Boxes, Head, HeadOptions, pixels, read_anchors
from darknet_py.layers.layer import Place
from darknet_py.options import MAX_PIXELS, MAX_WEIGHT, option

COORDS = ("ltrb", "xywh")
MAX_REG = 1000
FORMS = {"yolox": ("xywh", 1), "yolov8": ("ltrb", 0), "yolov6": ("ltrb", 0)}  # coords and objectness that losses train
IOU_LOSSES = ("iou", "giou", "diou", "ciou", "siou")
ALIKE = (
    "classes",
    "reg_max",
    "objectness",
    "loss",
    "assigner",
    "iou_loss",
    "box_weight",
    "objectness_weight",
    "class_weight",
    "dfl_weight",
    "atss_epochs",
)


class AnchorFree(Head, kinds=("anchor_free",)):
    own = True

    @dataclass(frozen=True, kw_only=True)
    class Options(HeadOptions):
        classes: int = option(20, "number of classes", minimum=1, maximum=1_000_000)
        coords: str = option(
            "ltrb",
            "ltrb: distances from the middle of the cell to the box's sides, cells (YOLOv6, YOLOv8); xywh: the centre "
            "from the cell's corner, cells, and the logarithms of width and height in cells (YOLOX)",
            choices=COORDS,
        )
        reg_max: int = option(
            0,
            "of ltrb: largest distance, cells; each distance is the mean of a distribution over 0 to reg_max, "
            "reg_max+1 logits (YOLOv6: 16, YOLOv8: 15); 0: the distances themselves",
            minimum=0,
            maximum=MAX_REG,
        )
        objectness: int = option(0, "1: boxes have an objectness (YOLOX)")
        anchors: tuple[float, ...] = option(
            (),
            "widths and heights, pixels of the network's input: a cell has a box for each of them, whose centre is "
            "measured from the middle of the cell, cells, and which is (2 logistic(w))^2 times as wide as its anchor "
            "(YOLOv6's anchor-aided branch, an auxiliary head)",
            minimum=0,
            maximum=MAX_PIXELS,
        )
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS[:3])
        beta_nms: float = option(0.6, "exponent of the distance term of diounms", minimum=0, maximum=100)
        aux_of: int | None = option(
            None,
            "the head exists in training alone and helps to train this one, a layer before it (negative: counted back)",
            use="training",
        )
        loss: str | None = option(
            None,
            "the loss: yolox, yolov8, yolov6 (docs/TRAINING.md); default: yolox with an objectness, else yolov8",
            use="training",
        )
        assigner: str | None = option(
            None,
            "which boxes a truth trains; yolox: simota, simota_0.3 (of the releases to 0.3.0); yolov8: task_aligned, "
            "task_aligned_8.4 (of release 8.4.190); default: the first of these",
            use="training",
        )
        iou_loss: str | None = option(
            None, "loss of the boxes; default: iou (yolox), ciou (yolov8), giou (yolov6)", choices=IOU_LOSSES,
            use="training",
        )  # fmt: skip
        box_weight: float | None = option(
            None,
            "multiplies the loss of boxes; default: the system's own weight",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
        )
        objectness_weight: float | None = option(
            None, "multiplies the loss of the objectness, likewise", minimum=0, maximum=MAX_WEIGHT, use="training"
        )
        class_weight: float | None = option(
            None, "multiplies the loss of classes, likewise", minimum=0, maximum=MAX_WEIGHT, use="training"
        )
        dfl_weight: float | None = option(
            None,
            "multiplies the loss of the distributions (reg_max), likewise",
            minimum=0,
            maximum=MAX_WEIGHT,
            use="training",
        )
        atss_epochs: int = option(
            0, "number of epochs at the start in which ATSS assigns the truths; then task alignment (yolov6)",
            minimum=0, use="training",
        )  # fmt: skip

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.nms_kind, self.beta_nms = options.classes, options.nms_kind, options.beta_nms
        if (options.reg_max or options.anchors) and options.coords != "ltrb":
            name = "reg_max" if options.reg_max else "anchors"
            place.fail(name, f"coords={options.coords} is another form of boxes; write coords=ltrb, or no {name}")
        self.set_lead(place)
        coords, objectness = form = FORMS.get(self.loss_name, (options.coords, options.objectness))
        if form != (options.coords, options.objectness):
            name = "loss" if options.loss else "objectness" if options.objectness else "coords"
            text = f"{self.loss_name} trains boxes of another form"
            place.fail(name, f"{text}; write coords={coords} and objectness={objectness}, or another loss")
        self._set_anchors(place)
        self._check_alike(place)
        count, one_objectness = self.boxes_in_cell, (1,) if options.objectness else ()
        bins = f"4 x ({options.reg_max}+1)" if options.reg_max else "4"
        needed = f"{bins}{' + 1 objectness' if options.objectness else ''} + {options.classes}"
        needed = f"{count} anchors x ({needed})" if options.anchors else needed
        parts = (4 * (options.reg_max + 1), *one_objectness, options.classes)
        self.set_input(place, [count * part for part in parts], "classes", needed)

    def _set_anchors(self, place: Place) -> None:
        options = self.options
        if not options.anchors:
            return
        if options.reg_max or options.objectness:
            text = "boxes with anchors have no distribution and no objectness; write no reg_max, no objectness"
            place.fail("anchors", text)
        if len(options.anchors) % 2:
            place.fail("anchors", f"{len(options.anchors)} values; write a width and a height for each anchor")
        self.anchors = read_anchors(place, options.anchors, len(options.anchors) // 2, ())
        self.stride = place.net.width / place.image().w

    def _check_alike(self, place: Place) -> None:
        """Heads that train together have the same options where their loss needs it."""
        for other in place.earlier:
            if isinstance(other, AnchorFree) and other.auxiliary == self.auxiliary:
                for name in ALIKE:
                    value = getattr(other.options, name)
                    if getattr(self.options, name) != value:
                        place.fail(
                            name, f"layer {other.index} has {value}, and they are trained together; write equal values"
                        )

    @property
    def boxes_in_cell(self) -> int:
        return len(self.options.anchors) // 2 or 1

    @property
    def box_values(self) -> int:  # type: ignore[override]
        return 4 * (self.options.reg_max + 1) + bool(self.options.objectness)

    def values(self, raw: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """(n, entries, h, w) → (n, k, …): the box, the objectness (n, k; None: there is none) and the classes, as
        logits; cells by row, k = h*w, or, with anchors, all cells of the first anchor, then of the next."""
        count, has_objectness = self.boxes_in_cell, bool(self.options.objectness)
        parts = raw.split([count * (self.box_values - has_objectness), count * has_objectness, count * self.classes], 1)
        box, objectness, classes = (
            part.unflatten(1, (count, part.shape[1] // count)).flatten(3).transpose(2, 3).flatten(1, 2)
            for part in parts
        )
        return box, objectness[..., 0] if has_objectness else None, classes

    def distances(self, box: Tensor) -> Tensor:
        """(…, 4 or 4*(reg_max+1)) → (…, 4): left, top, right, bottom, cells.

        The mean of a distribution: Generalized Focal Loss, Li et al., 2020.
        """
        if not self.options.reg_max:
            return box
        bins = torch.arange(self.options.reg_max + 1, device=box.device, dtype=box.dtype)
        return box.unflatten(-1, (4, -1)).softmax(-1) @ bins

    def cells(self, box: Tensor, grid: tuple[int, int]) -> Tensor:
        """What `values` gives of the boxes → (n, k, 4): centre and size, cells. grid: (width, height) of the map."""
        corner = corners_of_cells(grid, box)
        if self.anchors is not None:
            sides = (self.anchors / self.stride).repeat_interleave(len(corner), 0)
            centre = corner.repeat(self.boxes_in_cell, 1) + 0.5 + box[..., :2]
            return torch.cat((centre, (2 * box[..., 2:].sigmoid()) ** 2 * sides), -1)
        if self.options.coords == "xywh":
            return torch.cat((box[..., :2] + corner, box[..., 2:].exp()), -1)
        low, high = self.distances(box).split(2, -1)
        return torch.cat((corner + 0.5 + (high - low) / 2, low + high), -1)

    def corners(self, box: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same boxes → (n, k, 4): left, top, right, bottom, cells."""
        if self.options.coords == "ltrb" and self.anchors is None:
            low, high = self.distances(box).split(2, -1)
            middle = corners_of_cells(grid, box) + 0.5
            return torch.cat((middle - low, middle + high), -1)
        centre, sides = self.cells(box, grid).split(2, -1)
        low = centre - sides / 2
        return torch.cat((low, low + sides), -1)

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        """raw: (n, box + objectness + classes, h, w)."""
        grid = (raw.shape[3], raw.shape[2])
        box, objectness, classes = self.values(raw)
        xywh = self.cells(box, grid) / pixels(grid, raw).repeat(2)
        probs = classes.sigmoid()
        return Boxes(xywh, torch.ones_like(probs[..., 0]) if objectness is None else objectness.sigmoid(), probs)

    @property
    def loss_name(self) -> str:
        return self.options.loss or ("yolox" if self.options.objectness else "yolov8")

    def describe(self) -> dict[str, object]:
        names = ("classes", "coords", "reg_max", "objectness", "nms_kind", "beta_nms")
        return {name: getattr(self.options, name) for name in names} | {"max_boxes": self.options.max}


def corners_of_cells(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(h*w, 2): column and row of each cell, row by row, of the dtype and device of `like`."""
    columns, rows = (torch.arange(count, device=like.device, dtype=like.dtype) for count in grid)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
