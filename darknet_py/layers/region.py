"""[region], the head of YOLOv2 and YOLO9000 (Darknet: region_layer.c).

Each anchor has a block of channels x, y, w, h, objectness, classes; anchors are in cells, not pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.head import Boxes, Candidates, GridHead, HeadOptions, pixels, read_anchors
from darknet_py.layers.layer import Place
from darknet_py.layers.softmax import read_tree
from darknet_py.options import option


class Region(GridHead, kinds=("region",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(HeadOptions):
        coords: int = option(4, "number of coordinates of a box", minimum=4, maximum=4)
        classes: int = option(20, "number of classes", minimum=0, maximum=1_000_000)
        num: int = option(1, "number of anchors", minimum=1, maximum=100_000)
        anchors: tuple[float, ...] = option((), "widths and heights of the anchors, cells")
        softmax: int = option(0, "1: class probabilities are the softmax of the values; 0: the values themselves")
        tree: str = option("", "file of a class tree: a softmax over the children of each node")
        map: str = option("", "file that maps the classes of the labels to those of the tree", use="training")
        classfix: int = option(0, "-1: boxes with an objectness below 0.5 have no class")
        background: int = option(0, "boxes without an objectness (pjreddie)", use="refused")
        log: int = option(0, "read by Darknet, used nowhere", use="none")
        sqrt: int = option(0, "read by Darknet, used nowhere", use="none")
        absolute: int = option(0, "read by Darknet, used nowhere", use="none")
        focal_loss: int = option(0, "1: focal loss for classes", use="training")
        rescore: int = option(0, "1: the target of the objectness is the IoU", use="training")
        thresh: float = option(
            0.5, "boxes whose IoU with a truth exceeds it get no gradient as background", use="training"
        )
        coord_scale: float = option(1.0, "multiplies the gradient of boxes", use="training")
        object_scale: float = option(
            1.0, "multiplies the gradient of the objectness where an object is", use="training"
        )
        noobject_scale: float = option(1.0, "multiplies the gradient of the objectness where none is", use="training")
        mask_scale: float = option(1.0, "multiplies the gradient of masks", use="untrained")
        class_scale: float = option(1.0, "multiplies the gradient of classes", use="training")
        bias_match: int = option(0, "1: truths are matched with anchors, 0: with predicted sizes", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes = options.classes
        self.read_map(place, options.map)
        self.anchors = read_anchors(place, options.anchors, options.num, ())
        needed = f"{options.num} anchors x ({options.classes}+{options.coords}+1)"
        self.set_input(place, options.num * (options.classes + options.coords + 1), "classes", needed)
        self.tree = read_tree(place, options.tree, options.classes) if options.tree else None
        self.has_tree = self.tree is not None
        self.dense = not self.has_tree and options.classfix != -1
        _check_limits(place)

    def anchor_unit(self, size: tuple[int, int]) -> tuple[float, float]:
        """Anchors are in cells of the map."""
        return self.shape.w, self.shape.h

    def forward(self, x: Tensor) -> Tensor:
        """(n, anchors*(5+classes), h, w) → the same shape, but with the values in Darknet's order, box by box.

        Objectness and classes are probabilities; Darknet's gradient passes these functions by.
        """
        entries = self.values(x)
        parts = (entries[..., :4], entries[..., 4:5].sigmoid(), self._probabilities(entries[..., 5:]))
        return self.arithmetic.as_if(torch.cat(parts, -1), entries).reshape(-1, *self.shape[:3])

    def _probabilities(self, logits: Tensor) -> Tensor:
        if self.tree is not None:
            return self.tree.softmax(logits)
        return logits.softmax(-1) if self.options.softmax else logits

    def boxes_at(self, values: Tensor, box: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Boxes:
        corner, anchor = self.place_of(box, grid)
        cells = pixels(grid, values)
        sides = values[..., 2:4].exp() * anchor / cells
        xywh = torch.cat(((corner + values[..., :2].sigmoid()) / cells, sides), -1)
        return Boxes(xywh, values[..., 4].sigmoid(), self._probabilities(values[..., 5:]))

    def likely(self, values: Tensor, thresh: float) -> Tensor:
        """Where probabilities are at most 1 (softmax), a box needs an objectness over the threshold."""
        if self.tree is not None or self.options.softmax:
            return self._counted(values[..., 4].float().sigmoid()) > thresh
        return torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device)

    def _counted(self, objectness: Tensor) -> Tensor:
        return objectness * (objectness >= 0.5) if self.options.classfix == -1 else objectness

    def scored(self, image: Tensor, boxes: Boxes, thresh: float, class_map: Tensor | None) -> Candidates:
        """Candidates have an objectness of 1, as in Darknet's suppression."""
        probs = self._scores(boxes.classes, self._counted(boxes.objectness)[..., None], thresh, class_map)
        return Candidates(image, boxes.xywh, torch.ones_like(boxes.objectness), probs)

    def _scores(self, probs: Tensor, scale: Tensor, thresh: float, class_map: Tensor | None) -> Tensor:
        if self.tree is None:
            probs = probs * scale
            return probs * (probs > thresh)
        probs = self.tree.along_paths(probs)
        if class_map is not None:
            probs = probs[:, class_map] * scale
            return probs * (probs > thresh)
        # region_layer.c:get_region_boxes: only the last class over 0.5 counts, not multiplied by the objectness
        sure = probs > 0.5
        last = sure & (sure.flip(1).cumsum(1).flip(1) == 1)
        return probs * last * (scale > thresh)

    def describe(self) -> dict[str, object]:
        options = self.options
        names = (
            "classes", "coords", "softmax", "rescore", "bias_match", "absolute", "classfix", "thresh", "coord_scale",
            "object_scale", "noobject_scale", "class_scale", "jitter", "random", "focal_loss", "log", "sqrt",
        )  # fmt: skip
        about = {"n": options.num, "anchors": list(options.anchors), "max_boxes": options.max}
        about |= {"has_tree": int(self.tree is not None), "has_map": int(bool(options.map))}
        return about | {name: getattr(options, name) for name in names}


def _check_limits(place: Place) -> None:
    """Refuses thresholds of an objectness that candidates do not carry."""
    net = place.cfg.sections[0]
    for name in ("objectness_thresh", "class_thresh"):
        if option := net.get(name):
            text = "boxes of a [region] are chosen by the product of objectness and class, as in Darknet; remove it"
            place.cfg.fail(net, option, text)
