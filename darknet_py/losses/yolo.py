"""The loss of [yolo] (Darknet: yolo_layer.c:process_batch, delta_yolo_box, delta_yolo_class)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darknet_py.boxes import MEASURES, iou_gradient
from darknet_py.devices import constant
from darknet_py.layers.head import FLT_MAX
from darknet_py.layers.yolo import Yolo, YoloFamily, YoloOptions
from darknet_py.losses.assign.darknet import READS as DARKNET_READS
from darknet_py.losses.assign.darknet import anchors_of_truths, turns
from darknet_py.losses.assign.level import best_truths, iou_thresh_of, level_of
from darknet_py.losses.loss import Delta, Loss, Refusal, State, by_layer, counts_of, full, squared_sum
from darknet_py.losses.truths import as_truths, one_hot, truth_vectors

CLASS_MATCH = 0.25  # a box counts as detected where any class is likelier
FOCAL_ALPHA = 0.5


class YoloDelta:
    """Deltas of a yolo head. Everything is (boxes, entries): the head's boxes of all images in one list, in Darknet's
    order.

    `numbers` is how many entries a box has before its objectness.
    """

    numbers = 4

    def __init__(self, layer: YoloFamily, raw: Tensor, truths: Tensor, state: State) -> None:
        self.layer, self.options, self.state = layer, layer.options, state
        self.device = raw.device
        self.size = constant(state.size, self.device)
        self.grid = (raw.shape[3], raw.shape[2])
        values = layer.values(full(raw))
        self.images, self.count = values.shape[:2]
        self.out = layer.values(layer.forward(full(raw))).flatten(0, 1).contiguous()
        self.delta = torch.zeros_like(self.out)
        self.truths = as_truths(truths, self.options.classes, layer.class_map)
        self.multipliers = class_multipliers(self.options, self.device)
        numbers = torch.arange(self.count, device=self.device)
        self.predicted = layer.boxes_at(values, numbers, self.grid, state.size).xywh  # (n, k, 4)
        self.corner, self.anchor = layer.place_of(numbers, self.grid)  # (k, 2) cells, (k, 2) pixels
        self.level = level_of(layer, self.predicted, values, self.grid, state.size)

    # the numbers of a box, in the head's own form

    def pred(self, cells: Tensor) -> Tensor:
        """Boxes of these cells as (k, 4), fractions of the network's input."""
        return self.predicted.flatten(0, 1)[cells]

    def target(self, cells: Tensor, truth: Tensor, point: Tensor | None = None) -> Tensor:
        """(k, 4): what x, y, w, h should be. `point`: what lies in the cell, if not the centre."""
        grid = constant(self.grid, self.device)
        centre = truth[:, :2] if point is None else point
        box = cells % self.count
        xy = centre * grid - self.corner[box]
        return torch.cat((xy, self.inverse(truth[:, 2:] * self.size / self.anchor[box])), 1)

    def inverse(self, ratio: Tensor) -> Tensor:
        """What w and h of a box so many times as large as its anchor are."""
        return (ratio / 4).sqrt() if self.options.new_coords else ratio.log()

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
    def focal(self) -> bool:
        return bool(self.options.focal_loss)

    @property
    def objectness(self) -> Tensor:
        return self.out[:, self.numbers]

    def class_delta(self, cells: Tensor, labels: Tensor) -> None:
        """Pulls these boxes (each once) to their class; a box that has this class already keeps its other classes'
        deltas."""
        first = self.numbers + 1
        out, delta = self.out[cells, first:], self.delta[cells, first:]
        fresh = truth_vectors(labels, out.shape[1], self.options.label_smooth_eps) - out
        if self.focal:
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
            fresh, refreshed = fresh if self.focal else fresh * factor * normalizer, refreshed * factor
        self.delta[cells, first:] = torch.where(again[:, None], refreshed, fresh)

    def again(self, delta: Tensor, labels: Tensor) -> Tensor:
        return delta.gather(1, labels[:, None]).squeeze(1) != 0

    def multiplier(self, labels: Tensor) -> Tensor:
        return torch.ones_like(labels, dtype=self.out.dtype) if self.multipliers is None else self.multipliers[labels]

    def background(self) -> None:
        """Every box should be nothing, but those that overlap a truth well; those that overlap it very well should be
        it."""
        options = self.options
        self.out[:, self.numbers] = self.objectness.nan_to_num(0.0, 0.0, 0.0)
        self.delta[:, self.numbers] = options.obj_normalizer * -self.objectness
        if not self.truths.valid.any():
            return
        best, number = (value.flatten() for value in best_truths(self.predicted, self.truths))
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
        image = cells // self.count
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
        assigned = anchors_of_truths(self.level, self.truths, points=self.points())
        cells = assigned.image * self.count + assigned.box
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
        return iou_thresh_of(self.options) < 1

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

    def result(self) -> Delta:
        self.background()
        overlaps, giou = self.foreground()
        if self.averages():
            self.average()
        state = self.state
        self.delta = state.rejection.apply(state.net, state.iteration, self.delta, self.delta.shape[1])
        cost = self.cost(overlaps, giou)
        delta = self.layer.raw_of(self.delta.unflatten(0, (self.images, self.count)), self.grid)
        return Delta(delta, cost, counts_of(overlaps))


def yolo_delta(layer: YoloFamily, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """raw: (n, anchors*(5+classes), h, w), what `network(x)` gives for the head. truths: (n, max, 6) x, y, w, h, class,
    track."""
    return YoloDelta(layer, raw, truths, state).result()


FAMILY_READS = DARKNET_READS | {
    "truth_thresh", "objectness_smooth", "label_smooth_eps", "counters_per_class", "max_delta", "iou_loss",
    "iou_normalizer", "obj_normalizer", "cls_normalizer",
    "badlabels_rejection_percentage", "num_sigmas_reject_badlabels", "equidistant_point",
}  # fmt: skip


def refusal(layers: Sequence[Yolo]) -> Refusal | None:
    """Darknet's deltas are those of probabilities where the head has new_coords=1."""
    text = "needs a loss of logits, not Darknet's; write loss=yolov5 or yolov7, or logistic=0"
    return next((Refusal(layer, "logistic", text) for layer in layers if layer.options.logistic), None)


YOLO = Loss(by_layer(yolo_delta), FAMILY_READS | {"focal_loss", "show_details"}, refusal=refusal)


def class_multipliers(options: YoloOptions, device: torch.device) -> Tensor | None:
    """(classes,): how much more a rare class counts, by `counters_per_class`."""
    if not options.counters_per_class:
        return None
    counters = constant(options.counters_per_class, device).clamp(min=1).float()
    return (counters.max() / counters).clamp(max=options.max_delta)


def whole(pred: Tensor) -> Tensor:
    """Sides of 0 count as 1 where a gradient divides by them."""
    return torch.cat((pred[:, :2], torch.where(pred[:, 2:] == 0, 1.0, pred[:, 2:])), 1)


def limited(delta: Tensor, most: float) -> Tensor:
    """What is not finite becomes 0, the rest is clipped to max_delta."""
    delta = delta.nan_to_num(0.0, 0.0, 0.0)
    return delta if most >= FLT_MAX else delta.clamp(-most, most)
