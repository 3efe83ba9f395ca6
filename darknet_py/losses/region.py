"""The loss of [region] (Darknet: region_layer.c): its deltas carry the logistic's derivative already."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.losses.assign.darknet import best_truths, read_truths, turns
from darknet_py.losses.loss import Context, Loss, full, squared_sum
from darknet_py.losses.yolo import FOCAL_ALPHA, one_hot

PRIOR_SEEN = 12800  # images in which every box is also drawn to its anchor …
PRIOR_SCALE = 0.01  # … this strongly
ONLY_CLASS = 100_000  # a truth at such coordinates has a class but no box (ImageNet pictures of YOLO9000)


class RegionLoss:
    """Everything is (boxes, entries) in Darknet's order: pictures, rows, columns, anchors."""

    def __init__(self, layer: Any, raw: Tensor, truths: Tensor, context: Context) -> None:
        self.layer, self.options, self.context = layer, layer.options, context
        self.anchors = layer.anchors  # cells
        self.grid = (raw.shape[3], raw.shape[2])
        self.cells = torch.tensor(self.grid, device=raw.device)
        count = len(self.anchors)
        self.shape = (raw.shape[0], raw.shape[2], raw.shape[3], count)
        self.out = layer.forward(full(raw)).flatten(1).unflatten(1, (-1, 5 + self.options.classes)).flatten(0, 1)
        self.delta = torch.zeros_like(self.out)
        self.truths = read_truths(truths, self.options.classes, self.layer.class_map)
        index = torch.arange(len(self.out), device=raw.device)
        self.anchor = index % count
        self.column = index // count % self.grid[0]
        self.row = index // (count * self.grid[0]) % self.grid[1]

    def pred(self, boxes: Tensor) -> Tensor:
        out = self.out[boxes]
        corner = torch.stack((self.column[boxes], self.row[boxes]), 1)
        sides = out[:, 2:4].exp() * self.anchors[self.anchor[boxes]] / self.cells
        return torch.cat(((corner + out[:, :2].sigmoid()) / self.cells, sides), 1)

    def box_delta(self, boxes: Tensor, truth: Tensor, scale: float) -> Tensor:
        out = self.out[boxes]
        corner = torch.stack((self.column[boxes], self.row[boxes]), 1)
        xy = out[:, :2].sigmoid()
        by_xy = (truth[:, :2] * self.cells - corner - xy) * xy * (1 - xy)
        by_wh = (truth[:, 2:] * self.cells / self.anchors[self.anchor[boxes]]).log() - out[:, 2:4]
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
            there = node >= 0
            current = node.clamp(min=0)
            siblings = (tree.group[None] == tree.group[current][:, None]) & there[:, None]
            truth = one_hot(current, out.shape[1]).float()
            delta = torch.where(siblings, factor * (truth - out), delta)
            node = torch.where(there, tree.parent[current], node)
        self.delta[boxes, 5:] = delta

    def objectness_delta(self, boxes: Tensor, goal: Tensor | float, scale: float) -> Tensor:
        objectness = self.out[boxes, 4]
        return scale * (goal - objectness) * objectness * (1 - objectness)

    def background(self, pictures: Tensor) -> None:
        options = self.options
        everywhere = torch.arange(len(self.out), device=self.out.device)
        pred = self.pred(everywhere)
        best, number = (value.flatten() for value in best_truths(pred.view(*self.shape, 4), self.truths))
        if options.classfix == -1:
            self.delta[:, 4] = self.objectness_delta(everywhere, best, options.noobject_scale)
        else:
            good = best > options.thresh
            self.delta[:, 4] = torch.where(good, 0.0, self.objectness_delta(everywhere, 0.0, options.noobject_scale))
            if options.classfix > 0 and good.any():
                boxes = good.nonzero().squeeze(1)
                image = boxes // (len(self.out) // self.shape[0])
                scale = options.class_scale * (
                    self.out[boxes, 4] if options.classfix == 2 else torch.ones_like(best[boxes])
                )
                self.class_delta(boxes, self.truths.classes[image, number[boxes]], scale)
        if self.context.seen < PRIOR_SEEN:
            corner = torch.stack((self.column, self.row), 1)
            prior = torch.cat(((corner + 0.5) / self.cells, self.anchors[self.anchor] / self.cells), 1)
            self.delta[:, :4] = self.box_delta(everywhere, prior, PRIOR_SCALE)
        self.delta.view(self.shape[0], -1, self.delta.shape[1])[~pictures] = 0

    def foreground(self, pictures: Tensor) -> Tensor:
        options = self.options
        image, number = (self.truths.valid & pictures[:, None]).nonzero(as_tuple=True)
        truth, labels = self.truths.xywh[image, number], self.truths.classes[image, number]
        cell = (truth[:, :2] * self.cells).long()
        column, row = cell[:, 0].clamp(0, self.grid[0] - 1), cell[:, 1].clamp(0, self.grid[1] - 1)
        first = ((image * self.grid[1] + row) * self.grid[0] + column) * len(self.anchors)
        boxes = first[:, None] + torch.arange(len(self.anchors), device=first.device)  # (k, anchors)
        sizes = self.pred(boxes.flatten())[:, 2:].view(*boxes.shape, 2)
        if options.bias_match:
            sizes = (self.anchors / self.cells).expand_as(sizes)
        here = torch.zeros_like(sizes)
        fit = iou(torch.cat((here, sizes), -1), torch.cat((torch.zeros_like(truth[:, :2]), truth[:, 2:]), 1)[:, None])
        best = torch.where(fit.amax(1) > 0, fit.argmax(1), 0)
        chosen = boxes.gather(1, best[:, None]).squeeze(1)
        overlaps = iou(self.pred(chosen), truth)
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
        out = self.out.view(self.shape[0], -1, self.out.shape[1])[image]
        paths = self.layer.tree.along_paths(out[..., 5:])
        likely = out[..., 4] * paths.gather(2, labels[:, None, None].expand(-1, paths.shape[1], 1)).squeeze(2)
        self.class_delta(image * out.shape[1] + likely.argmax(1), labels, float(self.options.class_scale))

    def result(self) -> Loss:
        without = self.boxless()
        pictures = ~without.any(1)
        self.background(pictures)
        self.only_classes(without)
        overlaps = self.foreground(pictures)
        delta = self.delta.view(*self.shape, -1).permute(0, 3, 4, 1, 2).flatten(1, 2)
        count = len(overlaps)
        return Loss(delta, squared_sum(delta), {"count": float(count), "iou": float(overlaps.sum()) / max(count, 1)})


def region_loss(layer: Any, raw: Tensor, truths: Tensor, context: Context) -> Loss:
    """raw: (n, anchors*(5+classes), h, w). truths: (n, max, 6) x, y, w, h, class, track."""
    with torch.no_grad():
        return RegionLoss(layer, raw, truths, context).result()
