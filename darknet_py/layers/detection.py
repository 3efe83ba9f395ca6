"""[detection], the head of YOLOv1 (Darknet: detection_layer.c).

Its input is flat: the classes of all cells, then the objectness of all boxes, then x, y, w, h of all boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from darknet_py.layers.channels import correction
from darknet_py.layers.head import Boxes, Head, HeadOptions
from darknet_py.layers.layer import Place, Shape
from darknet_py.layers.needs import BoxNeeds, CellGrid
from darknet_py.options import option


class Detection(Head, kinds=("detection",)):
    corrected: ClassVar[bool] = False  # Darknet leaves these boxes as they are, letterbox or not

    @dataclass(frozen=True, kw_only=True)
    class Options(HeadOptions):
        coords: int = option(1, "number of coordinates of a box", minimum=1)
        classes: int = option(1, "number of classes", minimum=0, maximum=1_000_000)
        num: int = option(1, "number of boxes per cell", minimum=1, maximum=100_000)
        side: int = option(7, "number of cells in a row, and in a column", minimum=1, maximum=65536)
        softmax: int = option(0, "1: class probabilities are the softmax of the values; 0: the values themselves")
        sqrt: int = option(0, "1: the network predicts the square roots of width and height")
        rescore: int = option(0, "1: the target of the objectness is the IoU", use="training")
        coord_scale: float = option(1.0, "multiplies the gradient of boxes", use="training")
        forced: int = option(0, "1: small objects train the second box of their cell, others the first", use="training")
        object_scale: float = option(
            1.0, "multiplies the gradient of the objectness where an object is", use="training"
        )
        noobject_scale: float = option(1.0, "multiplies the gradient of the objectness where none is", use="training")
        class_scale: float = option(1.0, "multiplies the gradient of classes", use="training")
        random: float = option(0.0, "1: in the first 64,000 images a random box of the cell is trained", use="training")
        reorg: int = option(0, "read by Darknet, used nowhere", use="none")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes = options.classes
        needed = options.side**2 * ((1 + options.coords) * options.num + options.classes)
        if place.input.count != needed:
            formula = (
                f"{options.side} x {options.side} cells x ({options.num} x (1+{options.coords}) + {options.classes})"
            )
            text = f"{place.before()} {place.input.count} values, {formula} = {needed} are needed"
            if place.input.count == place.input.c:
                text += correction(place, (needed,))
            place.fail(None, text)
        self.shape = Shape.flat(needed)
        if options.coords != 4:
            place.fail("coords", "a box has 4 coordinates; write coords=4")

    def needs(self) -> BoxNeeds:
        """Here `random` does not vary the network's size."""
        truths = CellGrid(self.options.side, self.classes)
        return replace(super().needs(), truth_format=truths, augmentation="darknet_cells", random=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) → (n, count); Darknet's gradient passes the softmax by."""
        x = x.flatten(1)
        if not self.options.softmax:
            return x
        classes = self.options.side**2 * self.classes
        cells = x[:, :classes].unflatten(1, (-1, self.classes)).softmax(2).flatten(1)
        return self.arithmetic.as_if(torch.cat((cells, x[:, classes:]), 1), x)

    def parts_of(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output (n, count) → classes (n, cells, classes), objectness (n, cells, num), xywh (n, cells, num, 4)."""
        cells, num = self.options.side**2, self.options.num
        classes, objectness, coordinates = values.split((cells * self.classes, cells * num, cells * num * 4), 1)
        return (
            classes.unflatten(1, (cells, -1)),
            objectness.unflatten(1, (cells, num)),
            coordinates.unflatten(1, (cells, num, 4)),
        )

    def boxes(self, raw: Tensor, size: tuple[int, int]) -> Boxes:
        side = self.options.side
        classes, objectness, coordinates = self.parts_of(self.forward(raw))
        cell = torch.arange(side**2, device=raw.device)
        centre = (coordinates[..., :2] + torch.stack((cell % side, cell // side), 1)[:, None]) / side
        sides = coordinates[..., 2:] ** 2 if self.options.sqrt else coordinates[..., 2:]
        classes = classes[:, :, None].expand(-1, -1, self.options.num, -1)
        return Boxes(torch.cat((centre, sides), -1).flatten(1, 2), objectness.flatten(1), classes.flatten(1, 2))

    def describe(self) -> dict[str, object]:
        options = self.options
        names = (
            "classes", "side", "coords", "softmax", "sqrt", "rescore", "forced", "coord_scale", "object_scale",
            "noobject_scale", "class_scale", "jitter",
        )  # fmt: skip
        return {"n": options.num, "max_boxes": options.max} | {name: getattr(options, name) for name in names}
