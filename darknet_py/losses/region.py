"""The loss of [region] (Darknet: region_layer.c): its deltas carry the logistic's derivative already."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.devices import constant
from darknet_py.losses.assign.darknet import turns
from darknet_py.losses.assign.level import best_truths
from darknet_py.losses.loss import Delta, Loss, State, by_layer, counts_of, full, squared_sum
from darknet_py.losses.truths import as_truths, one_hot
from darknet_py.losses.yolo import FOCAL_ALPHA

PRIOR_SEEN = 12800  # images in which every box is also drawn to its anchor …
PRIOR_SCALE = 0.01  # … this strongly
ONLY_CLASS = 100_000  # a truth at such coordinates has a class but no box (ImageNet images of YOLO9000)


class RegionDelta:
    """Everything is (boxes, entries) in Darknet's order: images, rows, columns, anchors."""

    def __init__(self, layer: Any, raw: Tensor, truths: Tensor, state: State) -> None:
        self.layer, self.options, self.state = layer, layer.options, state
        self.grid = (raw.shape[3], raw.shape[2])
        self.cells = constant(self.grid, raw.device)
        values = layer.values(full(raw))
        self.images, self.count = values.shape[:2]
        numbers = torch.arange(self.count, device=raw.device)
        found = layer.boxes_at(values, numbers, self.grid, state.size)
        self.predicted = found.xywh.flatten(0, 1)
        self.out = torch.cat((values[..., :4], found.objectness[..., None], found.classes), -1).flatten(0, 1)
        self.delta = torch.zeros_like(self.out)
        self.truths = as_truths(truths, self.options.classes, layer.class_map)
        corner, anchor = layer.place_of(numbers, self.grid)
        self.corner, self.anchor = corner.repeat(self.images, 1), anchor.repeat(self.images, 1)  # of every box; cells

    def box_delta(self, boxes: Tensor, truth: Tensor, scale: float) -> Tensor:
        out = self.out[boxes]
        xy = out[:, :2].sigmoid()
        by_xy = (truth[:, :2] * self.cells - self.corner[boxes] - xy) * xy * (1 - xy)
        by_wh = (truth[:, 2:] * self.cells / self.anchor[boxes]).log() - out[:, 2:4]
        return scale * torch.cat((by_xy, by_wh), 1)

    def class_delta(self, boxes: Tensor, labels: Tensor, scale: Tensor | float) -> None:
        out = self.out[boxes, 5:]
        factor = scale if isinstance(scale, float) else scale[:, None]
        if self.layer.tree is not None:
            self._tree_delta(boxes, labels, factor)
            return
        delta = factor * (one_hot(labels, out.shape[1]).float() - out)
        if self.options.focal_loss:
            likely = out.gather(1, labels[:, None]) + 1e-15
            delta = delta * FOCAL_ALPHA * -(1 - likely) * (2 * likely * likely.log() + likely - 1)
        self.delta[boxes, 5:] = delta

    def _tree_delta(self, boxes: Tensor, labels: Tensor, factor: Tensor | float) -> None:
        """From the class up to the root: at each step the siblings go down and the ancestor up."""
        tree, out = self.layer.tree, self.out[boxes, 5:]
        delta, node = self.delta[boxes, 5:], labels.clone()
        for _ in range(tree.depth + 1):
            on_path = node >= 0
            current = node.clamp(min=0)
            siblings = (tree.group[None] == tree.group[current][:, None]) & on_path[:, None]
            truth = one_hot(current, out.shape[1]).float()
            delta = torch.where(siblings, factor * (truth - out), delta)
            node = torch.where(on_path, tree.parent[current], node)
        self.delta[boxes, 5:] = delta

    def objectness_delta(self, boxes: Tensor, goal: Tensor | float, scale: float) -> Tensor:
        objectness = self.out[boxes, 4]
        return scale * (goal - objectness) * objectness * (1 - objectness)

    def background(self, images: Tensor) -> None:
        options = self.options
        everywhere = torch.arange(len(self.out), device=self.out.device)
        predicted = self.predicted.unflatten(0, (self.images, self.count))
        best, number = (value.flatten() for value in best_truths(predicted, self.truths))
        if options.classfix == -1:
            self.delta[:, 4] = self.objectness_delta(everywhere, best, options.noobject_scale)
        else:
            good = best > options.thresh
            self.delta[:, 4] = torch.where(good, 0.0, self.objectness_delta(everywhere, 0.0, options.noobject_scale))
            if options.classfix > 0 and good.any():
                boxes = good.nonzero().squeeze(1)
                image = boxes // self.count
                scale = options.class_scale * (
                    self.out[boxes, 4] if options.classfix == 2 else torch.ones_like(best[boxes])
                )
                self.class_delta(boxes, self.truths.classes[image, number[boxes]], scale)
        if self.state.seen < PRIOR_SEEN:
            prior = torch.cat(((self.corner + 0.5) / self.cells, self.anchor / self.cells), 1)
            self.delta[:, :4] = self.box_delta(everywhere, prior, PRIOR_SCALE)
        self.delta.view(self.images, self.count, -1)[~images] = 0

    def foreground(self, images: Tensor) -> Tensor:
        options = self.options
        image, number = (self.truths.valid & images[:, None]).nonzero(as_tuple=True)
        truth, labels = self.truths.xywh[image, number], self.truths.classes[image, number]
        cell = (truth[:, :2] * self.cells).long()
        column, row = cell[:, 0].clamp(0, self.grid[0] - 1), cell[:, 1].clamp(0, self.grid[1] - 1)
        first = ((image * self.grid[1] + row) * self.grid[0] + column) * len(self.layer.anchors)
        boxes = first[:, None] + torch.arange(len(self.layer.anchors), device=first.device)  # (k, anchors)
        sizes = self.predicted[boxes.flatten(), 2:].view(*boxes.shape, 2)
        if options.bias_match:
            sizes = (self.layer.anchors / self.cells).expand_as(sizes)
        here = torch.zeros_like(sizes)
        fit = iou(torch.cat((here, sizes), -1), torch.cat((torch.zeros_like(truth[:, :2]), truth[:, 2:]), 1)[:, None])
        best = torch.where(fit.amax(1) > 0, fit.argmax(1), 0)
        chosen = boxes.gather(1, best[:, None]).squeeze(1)
        overlaps = iou(self.predicted[chosen], truth)
        goal: Tensor = overlaps if options.rescore else torch.ones_like(overlaps)
        coordinates = self.box_delta(chosen, truth, options.coord_scale)
        objectness = self.objectness_delta(chosen, goal, options.object_scale)
        for turn in turns(chosen):
            self.delta[chosen[turn], :4] = coordinates[turn]
            self.delta[chosen[turn], 4] = objectness[turn]
            self.class_delta(chosen[turn], labels[turn], float(options.class_scale))
        return overlaps

    def boxless(self) -> Tensor:
        """(n, t) bool: truths that have a class but no box, where the head has a tree."""
        without = self.truths.valid & (self.truths.xywh[..., :2] > ONLY_CLASS).all(-1)
        return without & (self.layer.tree is not None)

    def only_classes(self, without: Tensor) -> None:
        """Pictures with a boxless truth train the classes of their likeliest box, and nothing else."""
        image = without.any(1).nonzero().squeeze(1)
        if not len(image):
            return
        labels = self.truths.classes[image, without[image].long().argmax(1)]
        out = self.out.view(self.images, self.count, -1)[image]
        paths = self.layer.tree.along_paths(out[..., 5:])
        likely = out[..., 4] * paths.gather(2, labels[:, None, None].expand(-1, paths.shape[1], 1)).squeeze(2)
        self.class_delta(image * out.shape[1] + likely.argmax(1), labels, float(self.options.class_scale))

    def result(self) -> Delta:
        without = self.boxless()
        images = ~without.any(1)
        self.background(images)
        self.only_classes(without)
        overlaps = self.foreground(images)
        delta = self.layer.raw_of(self.delta.view(self.images, self.count, -1), self.grid)
        return Delta(delta, squared_sum(self.delta), counts_of(overlaps))


def region_delta(layer: Any, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """raw: (n, anchors*(5+classes), h, w). truths: (n, max, 6) x, y, w, h, class, track."""
    return RegionDelta(layer, raw, truths, state).result()


REGION = Loss(
    by_layer(region_delta),
    frozenset(
        {
            "focal_loss",
            "rescore",
            "thresh",
            "coord_scale",
            "object_scale",
            "noobject_scale",
            "class_scale",
            "bias_match",
        }
    ),
)
