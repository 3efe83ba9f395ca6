"""[anchor_free], the head of YOLOX, YOLOv6 and YOLOv8: one box in each cell of a map, without anchors.

Channels: the box, the objectness if there is one, the classes; all before the logistic function. This project's own
section: the C program has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.head import NMS_KINDS, Boxes, Head, pixels
from darknet_py.layers.layer import LayerOptions, Place
from darknet_py.layers.needs import BoxList, BoxNeeds
from darknet_py.options import option

COORDS = ("ltrb", "xywh")
MAX_REG = 1000


class AnchorFree(Head, kinds=("anchor_free",)):
    own = True

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
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
        nms_kind: str = option("default", "kind of non-maximum suppression", choices=NMS_KINDS[:3])
        beta_nms: float = option(0.6, "exponent of the distance term of diounms")
        aux_of: int | None = option(
            None,
            "the head exists in training alone and helps to train this one, a layer before it (negative: counted back)",
            use="training",
        )
        max: int = option(200, "maximum number of truths per image", minimum=1, use="training")
        jitter: float = option(
            0.2, "random cropping, by up to this fraction of the image's size", use="training", own=True
        )
        resize: float = option(1.0, "random zoom, by up to this factor", use="training")
        random: float = option(
            0.0, "1: the input size varies during training by up to 1.4; another value: by up to this factor",
            use="training",
        )  # fmt: skip

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes, self.nms_kind, self.beta_nms = options.classes, options.nms_kind, options.beta_nms
        if options.reg_max and options.coords != "ltrb":
            place.fail("reg_max", f"coords={options.coords} has no distances; write coords=ltrb or reg_max=0")
        self.set_lead(place)
        bins = f"4 x ({options.reg_max}+1)" if options.reg_max else "4"
        extra = " + 1 objectness" if options.objectness else ""
        self.set_input(place, self.box_values + options.classes, "classes", f"{bins}{extra} + {options.classes}")

    @property
    def box_values(self) -> int:  # type: ignore[override]
        return 4 * (self.options.reg_max + 1) + bool(self.options.objectness)

    def needs(self) -> BoxNeeds:
        options = self.options
        return BoxNeeds(
            self.classes, options.max, BoxList(options.max),
            jitter=options.jitter, resize=options.resize, random=options.random,
        )  # fmt: skip

    def values(self, raw: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """(n, entries, h, w) → (n, h*w, …): the box, the objectness (n, h*w; None: there is none) and the classes, as
        logits; cells by row."""
        box, rest = raw.flatten(2).transpose(1, 2).tensor_split((self.box_values - bool(self.options.objectness),), -1)
        return (box, rest[..., 0], rest[..., 1:]) if self.options.objectness else (box, None, rest)

    def distances(self, box: Tensor) -> Tensor:
        """(…, 4 or 4*(reg_max+1)) → (…, 4): left, top, right, bottom, cells.

        The mean of a distribution: Generalized Focal Loss, Li et al., 2020.
        """
        if not self.options.reg_max:
            return box
        bins = torch.arange(self.options.reg_max + 1, device=box.device, dtype=box.dtype)
        return box.unflatten(-1, (4, -1)).softmax(-1) @ bins

    def cells(self, box: Tensor, grid: tuple[int, int]) -> Tensor:
        """What `values` gives of the boxes → (n, h*w, 4): centre and size, cells. grid: (width, height) of the map."""
        corner = corners_of_cells(grid, box)
        if self.options.coords == "xywh":
            return torch.cat((box[..., :2] + corner, box[..., 2:].exp()), -1)
        low, high = self.distances(box).split(2, -1)
        return torch.cat((corner + 0.5 + (high - low) / 2, low + high), -1)

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        """raw: (n, box + objectness + classes, h, w)."""
        grid = (raw.shape[3], raw.shape[2])
        box, objectness, classes = self.values(raw)
        xywh = self.cells(box, grid) / pixels(grid, raw).repeat(2)
        probs = classes.sigmoid()
        return Boxes(xywh, torch.ones_like(probs[..., 0]) if objectness is None else objectness.sigmoid(), probs)

    def describe(self) -> dict[str, object]:
        names = ("classes", "coords", "reg_max", "objectness", "nms_kind", "beta_nms")
        return {name: getattr(self.options, name) for name in names} | {"max_boxes": self.options.max}


def corners_of_cells(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(h*w, 2): column and row of each cell, row by row, of the dtype and device of `like`."""
    columns, rows = (torch.arange(count, device=like.device, dtype=like.dtype) for count in grid)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
