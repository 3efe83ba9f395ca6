"""The losses of a two-stage network: of its proposals ([rpn]), and of the classes and boxes of regions ([roi_head]).

Ren et al., 2015 (Faster R-CNN). Means over what is drawn, so that a mini-batch weighs the same whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.regions import deltas_to
from darknet_py.layers.roi_head import RoiHead
from darknet_py.layers.rpn import SCALES, Rpn
from darknet_py.losses.assign.regions import Draw, Match, Objects, matched, objects_of, overlaps, random_order, sampled
from darknet_py.losses.loss import Loss, Output, Start, State, Value, full, sum_of

BETA = 1 / 9  # of the smooth L1 loss of proposals: py-faster-rcnn's sigma is 3


def rpn_loss(outputs: Sequence[Output], rows: Tensor, state: State, draw: Draw = random_order) -> Value:
    """rows: Darknet's. draw: which of the candidates are trained.

    The host waits for the device where it counts the truths and the anchors that are trained.
    """
    costs = [
        anchor_costs(layer, full(raw[0]), objects_of(rows, state.size, layer.convention), state.size, draw)
        for layer, raw in outputs
    ]
    return _sum(("objectness", "proposals"), costs)


def anchor_costs(
    layer: Rpn, maps: Tensor, objects: Objects, size: tuple[int, int], draw: Draw
) -> tuple[Tensor, Tensor]:
    """The losses of objectness and of boxes, scalars in the graph.

    maps: (n, anchors*(logits+4), h, w). size: (width, height) of the input, pixels.
    """
    logits, deltas = layer.values(maps)
    anchors = layer.anchors_of(maps, size)
    match, trained = drawn_anchors(layer, anchors, objects, size, draw)
    label = match.label.to(logits.dtype)
    objectness = F.binary_cross_entropy_with_logits(logits[trained], label[trained], reduction="sum")
    count = max(int(trained.sum()), 1)
    image, anchor = (trained & (match.label == 1)).nonzero(as_tuple=True)
    target = deltas_to(objects.boxes[image, match.truth[image, anchor]], anchors[anchor], SCALES, layer.convention)
    boxes = F.smooth_l1_loss(deltas[image, anchor], target.to(deltas.dtype), reduction="sum", beta=BETA)
    weight = layer.options.positive_weight
    return objectness / count, boxes / count if weight is None else boxes * weight / max(len(anchor), 1)


def drawn_anchors(
    layer: Rpn, anchors: Tensor, objects: Objects, size: tuple[int, int], draw: Draw
) -> tuple[Match, Tensor]:
    """What anchors (k, 4) are trained to be, and which ones are trained, (n, k) bool. size: of the input, pixels."""
    options, border = layer.options, layer.options.border
    overlap = overlaps(anchors, objects.boxes, layer.convention)
    if border is not None or not layer.convention.anywhere:
        border = border or 0
        limit = constant(size, anchors.device, anchors.dtype) + border
        counts = (anchors[:, :2] >= -border).all(1) & (anchors[:, 2:] < limit).all(1)
    else:
        counts = torch.ones_like(anchors[:, 0], dtype=torch.bool)
    overlap = torch.where(counts, overlap, -1.0)
    match = matched(overlap, objects.valid, options, best=True, clobber=bool(options.clobber))
    match = match._replace(label=torch.where(counts, match.label, -1))
    return match, sampled(match.label, options.samples, int(options.samples * options.positives), draw)


def roi_loss(outputs: Sequence[Output], rows: Tensor, state: State) -> Value:
    """rows: Darknet's. The host waits for the device where it counts the truths and the regions that are objects."""
    costs = [
        region_costs(layer, (full(raw[0]), raw[1]), objects_of(rows, state.size, layer.convention))
        for layer, raw in outputs
    ]
    return _sum(("classes", "boxes"), costs)


def region_costs(layer: RoiHead, raw: tuple[Tensor, Tensor], objects: Objects) -> tuple[Tensor, Tensor]:
    """The losses of classes and of boxes, scalars in the graph.

    raw: (k, 5*(classes+1), 1, 1), what the layer reads of each region, and the regions (k, 6) of [roi_sample].
    """
    regions, count = raw[1], max(len(raw[1]), 1)
    logits, deltas = layer.values(raw)
    image, truth = regions[:, 0].long(), regions[:, 5].long()
    label = torch.where(truth >= 0, objects.classes[image, truth] + 1, 0)
    classes = F.cross_entropy(logits, label, reduction="sum")
    region = (truth >= 0).nonzero().squeeze(1)
    aim = objects.boxes[image[region], truth[region]]
    target = deltas_to(aim, regions[region, 1:5], layer.options.delta_scales, layer.convention).to(deltas.dtype)
    boxes = F.smooth_l1_loss(deltas[region, label[region]], target, reduction="sum", beta=layer.convention.beta)
    return classes / count, boxes / count


def _sum(names: tuple[str, str], costs: Sequence[tuple[Tensor, Tensor]]) -> Value:
    """Of several layers, each with a cost for each of the names."""
    return sum_of({name: torch.stack(part).sum() for name, part in zip(names, zip(*costs, strict=True), strict=True)})


def start_proposals(layer: Rpn, stride: float) -> Start:
    """See `Loss.start`: both programs count the convolution before to the head."""
    zeros = torch.zeros(layer.input.c)
    return Start(zeros, deviations=zeros + 0.01, before=0.01)


def start_regions(head: RoiHead, stride: float) -> Start:
    """See `Loss.start`."""
    counts, deviations = (head.classes + 1, 4 * (head.classes + 1)), head.convention.deviations
    zeros = torch.zeros(sum(counts))
    if deviations is None:
        return Start(zeros, varied=zeros + 1)
    return Start(zeros, torch.cat([torch.full((count,), one) for count, one in zip(counts, deviations, strict=True)]))


RPN = Loss(
    rpn_loss,
    frozenset({"samples", "positives", "truth_thresh", "ignore_thresh", "border", "clobber", "positive_weight"}),
    mean=True,
    start=start_proposals,
)
ROI_HEAD = Loss(roi_loss, mean=True, start=start_regions)
