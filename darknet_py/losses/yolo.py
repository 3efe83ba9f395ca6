"""The loss of [yolo] (Darknet: yolo_layer.c:process_batch, delta_yolo_box, delta_yolo_class)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.boxes import MEASURES, iou_gradient
from darknet_py.layers.head import FLT_MAX
from darknet_py.losses.assign.darknet import Truths, assigned_boxes, best_truths, read_truths, turns
from darknet_py.losses.loss import Context, Loss, full, squared_sum

CLASS_MATCH = 0.25  # a box counts as detected where any class is likelier
FOCAL_ALPHA = 0.5


class YoloLoss:
    """Deltas of a yolo head. Everything is (boxes, entries): the head's boxes of all pictures in one list.

    `numbers` is how many entries a box has before its objectness.
    """

    numbers = 4

    def __init__(self, layer: Any, raw: Tensor, truths: Tensor, context: Context) -> None:
        self.layer, self.options = layer, layer.options
        self.reject = context.reject
        self.input_size = context.size
        self.size = torch.tensor(context.size, device=raw.device)
        self.device = raw.device
        self.grid = (raw.shape[3], raw.shape[2])
        anchors = len(layer.anchors)
        self.shape = (raw.shape[0], anchors, raw.shape[2], raw.shape[3])
        out = layer.forward(full(raw)).unflatten(1, (anchors, -1)).permute(0, 1, 3, 4, 2)
        self.out = out.reshape(-1, out.shape[-1])
        self.delta = torch.zeros_like(self.out)
        self.truths = self.read(truths)
        self.multipliers = class_multipliers(self.options, self.device)
        index = torch.arange(len(self.out), device=self.device)
        self.column = index % self.grid[0]
        self.row = index // self.grid[0] % self.grid[1]
        self.mask_anchor = layer.anchors[index // (self.grid[0] * self.grid[1]) % anchors]  # (boxes, 2), pixels
        self.image = index // (anchors * self.grid[0] * self.grid[1])

    def read(self, truths: Tensor) -> Truths:
        return read_truths(truths, self.options.classes, self.layer.class_map)

    # the numbers of a box, in the head's own form

    def pred(self, cells: Tensor) -> Tensor:
        """Boxes of these cells as (k, 4), relative to the network's input."""
        out, grid = self.out[cells], torch.tensor(self.grid, device=self.device)
        centre = (torch.stack((self.column[cells], self.row[cells]), 1) + out[:, :2]) / grid
        wh = out[:, 2:4]
        sides = (wh * wh * 4 if self.options.new_coords else wh.exp()) * self.mask_anchor[cells] / self.size
        return torch.cat((centre, sides), 1)

    def target(self, cells: Tensor, truth: Tensor, point: Tensor | None = None) -> Tensor:
        """(k, 4): what x, y, w, h should be. `point`: what lies in the cell, if not the centre."""
        grid = torch.tensor(self.grid, device=self.device)
        centre = truth[:, :2] if point is None else point
        xy = centre * grid - torch.stack((self.column[cells], self.row[cells]), 1)
        ratio = truth[:, 2:] * self.size / self.mask_anchor[cells]
        wh = (ratio / 4).sqrt() if getattr(self.options, "new_coords", 0) else ratio.log()
        return torch.cat((xy, wh), 1)

    def box_delta(self, cells: Tensor, truth: Tensor, normalizer: Tensor) -> Tensor:
        """(k, numbers) for boxes `cells` that should be `truth` (k, 4); `normalizer` (k, 1)."""
        if self.options.iou_loss == "mse":
            scale = 2 - truth[:, 2:3] * truth[:, 3:4]
            return scale * (self.target(cells, truth) - self.out[cells, :4]) * normalizer
        gradient = iou_gradient(whole(self.pred(cells)), truth, self.options.iou_loss)
        if not self.options.new_coords:
            gradient = torch.cat((gradient[:, :2], gradient[:, 2:] * self.out[cells, 2:4].exp()), 1)
        return limited(gradient * normalizer, self.options.max_delta)

    # objectness and classes

    @property
    def objectness(self) -> Tensor:
        return self.out[:, self.numbers]

    def class_delta(self, cells: Tensor, labels: Tensor) -> None:
        """Pulls these boxes (each once) to their class; a box that has this class already keeps its other classes' deltas."""
        first = self.numbers + 1
        out, delta = self.out[cells, first:], self.delta[cells, first:]
        fresh = truth_vectors(labels, out.shape[1], self.options.label_smooth_eps) - out
        if getattr(self.options, "focal_loss", 0):
            likely = out.gather(1, labels[:, None]) + 1e-15
            focal = -(1 - likely) * (2 * likely * likely.log() + likely - 1)
            fresh = (truth_vectors(labels, out.shape[1], 0.0) - out) * FOCAL_ALPHA * focal
        again = self.again(delta, labels)
        own = truth_vectors(labels, out.shape[1], self.options.label_smooth_eps) - out
        refreshed = torch.where(one_hot(labels, out.shape[1]), own, delta)
        fresh, refreshed = (torch.where(value.isfinite(), value, delta) for value in (fresh, refreshed))
        if self.multipliers is not None:
            factor = torch.where(one_hot(labels, out.shape[1]), self.multipliers[labels][:, None], 1.0)
            normalizer = torch.where(one_hot(labels, out.shape[1]), self.options.cls_normalizer, 1.0)
            focal_loss = bool(getattr(self.options, "focal_loss", 0))
            fresh, refreshed = fresh if focal_loss else fresh * factor * normalizer, refreshed * factor
        self.delta[cells, first:] = torch.where(again[:, None], refreshed, fresh)

    def again(self, delta: Tensor, labels: Tensor) -> Tensor:
        return delta.gather(1, labels[:, None]).squeeze(1) != 0

    def multiplier(self, labels: Tensor) -> Tensor:
        return torch.ones_like(labels, dtype=self.out.dtype) if self.multipliers is None else self.multipliers[labels]

    def background(self) -> None:
        """Every box should be nothing, but those that overlap a truth well; those that overlap it very well should be it."""
        options, everywhere = self.options, torch.arange(len(self.out), device=self.device)
        self.out[:, self.numbers] = self.objectness.nan_to_num(0.0, 0.0, 0.0)
        self.delta[:, self.numbers] = options.obj_normalizer * -self.objectness
        if not self.truths.valid.any():
            return
        pred = self.pred(everywhere).view(*self.shape, 4)
        best, number = (value.flatten() for value in best_truths(pred, self.truths))
        match = torch.where((self.out[:, self.numbers + 1 :] > CLASS_MATCH).any(1), best, 0.0)
        self.ignore(match > options.ignore_thresh, match, number)
        positive = (best > options.truth_thresh).nonzero().squeeze(1)
        if len(positive):
            self.very_good(positive, best[positive], number[positive])

    def ignore(self, ignored: Tensor, match: Tensor, number: Tensor) -> None:
        delta = self.delta[:, self.numbers]
        if self.options.objectness_smooth:
            smooth = torch.maximum(delta, self.options.obj_normalizer * (match - self.objectness))
            self.delta[:, self.numbers] = torch.where(ignored, smooth, delta)
        else:
            self.delta[:, self.numbers] = torch.where(ignored, 0.0, delta)

    def very_good(self, cells: Tensor, best: Tensor, number: Tensor) -> None:
        options = self.options
        image = self.image[cells]
        labels, truth = self.truths.classes[image, number], self.truths.xywh[image, number]
        goal = best * best if options.objectness_smooth else torch.ones_like(best)
        self.delta[cells, self.numbers] = options.obj_normalizer * (goal - self.objectness[cells])
        self.class_delta(cells, labels)
        multiplier = self.multiplier(labels)
        if options.objectness_smooth:
            entry = self.numbers + 1 + labels
            self.delta[cells, entry] = multiplier * (goal - self.out[cells, entry])
        self.delta[cells, : self.numbers] += self.box_delta(
            cells, truth, (options.iou_normalizer * multiplier)[:, None]
        )

    def points(self) -> Tensor:
        """(n, t, 2): what must lie in the cell that a truth trains."""
        return self.truths.xywh[..., :2]

    def foreground(self) -> tuple[Tensor, Tensor]:
        """Every assigned box should be its truth. Returns the IoU and GIoU of each assignment."""
        options = self.options
        assigned = assigned_boxes(self.layer, self.truths, self.grid, self.input_size, points=self.points())
        cells = assigned.cells(self.shape)
        labels, truth = (
            self.truths.classes[assigned.image, assigned.truth],
            self.truths.xywh[assigned.image, assigned.truth],
        )
        multiplier = self.multiplier(labels)
        pred = self.pred(cells)
        measures = MEASURES["iou"](pred, truth), MEASURES["giou"](pred, truth)
        goal = multiplier * options.obj_normalizer * (1 - self.objectness[cells])
        boxes = self.box_delta(cells, truth, (options.iou_normalizer * multiplier)[:, None])
        for turn in turns(cells):
            where = cells[turn]
            self.delta[where, : self.numbers] += boxes[turn]
            now = self.delta[where, self.numbers]
            self.delta[where, self.numbers] = (
                torch.where(now == 0, goal[turn], now) if self.keeps_objectness() else goal[turn]
            )
            self.class_delta(where, labels[turn])
        return measures

    def keeps_objectness(self) -> bool:
        """With objectness_smooth a box whose objectness has a delta already keeps it."""
        return bool(self.options.objectness_smooth)

    def averages(self) -> bool:
        return bool(self.options.iou_thresh < 1)

    def average(self) -> None:
        """A box that several truths pull gets their mean: divided by the number of classes it is pulled to."""
        count = (self.delta[:, self.numbers + 1 :] > 0).sum(1).clamp(min=1)
        trained = self.delta[:, self.numbers] != 0
        self.delta[:, : self.numbers] /= torch.where(trained, count, 1)[:, None]

    def cost(self, overlaps: Tensor, giou: Tensor) -> Tensor:
        options = self.options
        if options.iou_loss == "mse" or not options.show_details:
            return squared_sum(self.delta)
        mean = (1 - (giou if options.iou_loss == "giou" else overlaps)).sum() / max(len(overlaps), 1)
        return options.iou_normalizer * mean + options.obj_normalizer * squared_sum(self.delta[:, self.numbers :])

    def result(self) -> Loss:
        self.background()
        overlaps, giou = self.foreground()
        if self.averages():
            self.average()
        self.delta = self.reject(self.delta, self.delta.shape[1])
        delta = self.delta.view(*self.shape, -1).permute(0, 1, 4, 2, 3).flatten(1, 2)
        count = len(overlaps)
        details = {"count": float(count), "iou": float(overlaps.sum()) / max(count, 1)}
        return Loss(delta, self.cost(overlaps, giou), details)


def yolo_loss(layer: Any, raw: Tensor, truths: Tensor, context: Context) -> Loss:
    """raw: (n, anchors*(5+classes), h, w), what `network(x)` gives for the head. truths: (n, max, 6) x, y, w, h, class, track."""
    with torch.no_grad():
        return YoloLoss(layer, raw, truths, context).result()


def class_multipliers(options: Any, device: torch.device) -> Tensor | None:
    """(classes,): how much more a rare class counts, by `counters_per_class`."""
    if not options.counters_per_class:
        return None
    counters = torch.tensor(options.counters_per_class, device=device).clamp(min=1).float()
    return (counters.max() / counters).clamp(max=options.max_delta)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).bool()


def truth_vectors(labels: Tensor, classes: int, smooth: float) -> Tensor:
    """(k, classes): 1 for the class, 0 for the others; moved inwards by label smoothing."""
    truth = one_hot(labels, classes).float()
    return truth * (1 - smooth) + 0.5 * smooth if smooth else truth


def whole(pred: Tensor) -> Tensor:
    """Sides of 0 count as 1 where a gradient divides by them."""
    return torch.cat((pred[:, :2], torch.where(pred[:, 2:] == 0, 1.0, pred[:, 2:])), 1)


def limited(delta: Tensor, most: float) -> Tensor:
    """What is not finite becomes 0, the rest is clipped to max_delta."""
    delta = delta.nan_to_num(0.0, 0.0, 0.0)
    return delta if most >= FLT_MAX else delta.clamp(-most, most)
