"""The loss of [detection], YOLOv1's head (Darknet: detection_layer.c)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.boxes import iou, rmse
from darknet_py.losses.loss import Delta, Loss, State, by_layer, counts_of, full, squared_sum

RANDOM_SEEN = 64_000  # images in which `random` picks the box to train
SMALL = 0.1  # area below which `forced` trains a cell's second box
FAR = 20.0  # the worst that a root mean square difference can be


def detection_delta(layer: Any, raw: Tensor, truths: Tensor, state: State) -> Delta:
    """raw: (n, count). truths: (n, side*side*(1+classes+4)): of each cell, whether an object is here, its classes, x
    and y in the cell, w and h as fractions of the image."""
    options = layer.options
    side, num, classes = options.side, options.num, options.classes
    out = layer.forward(full(raw))
    delta = torch.zeros_like(out)
    labels, scales, coordinates = layer.parts_of(out)
    d_labels, d_scales, d_coordinates = layer.parts_of(delta)  # views of delta
    cells = truths.flatten(1).unflatten(1, (side**2, 1 + classes + 4))
    has_object, truth_classes, truth = cells[..., 0] != 0, cells[..., 1 : 1 + classes], cells[..., 1 + classes :]
    d_scales.copy_(options.noobject_scale * (0 - scales))
    d_labels.copy_(torch.where(has_object[..., None], options.class_scale * (truth_classes - labels), 0.0))

    predicted = layer.boxes(full(raw), state.size).xywh.unflatten(1, (side**2, num))
    cell = torch.arange(side**2, device=raw.device)
    corner = torch.stack((cell % side, cell // side), 1)
    placed = torch.cat(((truth[..., :2] + corner) / side, truth[..., 2:]), -1)[:, :, None]
    overlap, difference = iou(predicted, placed), rmse(predicted, placed)  # (n, cells, num)
    nearest = torch.where(difference.amin(2) < FAR, difference.argmin(2), 0)
    best = torch.where(overlap.amax(2) > 0, overlap.argmax(2), nearest)
    if options.forced:
        best = (truth[..., 2] * truth[..., 3] < SMALL).long().clamp(max=num - 1)
    if options.random and state.seen < RANDOM_SEEN:
        best = torch.randint(0, num, best.shape, device=best.device)

    image, cell = has_object.nonzero(as_tuple=True)
    box = best[image, cell]
    chosen, goal = coordinates[image, cell, box], truth[image, cell]
    overlaps = overlap[image, cell, box]
    wanted = overlaps if options.rescore else torch.ones_like(overlaps)
    d_scales[image, cell, box] = options.object_scale * (wanted - scales[image, cell, box])
    target = torch.cat((goal[:, :2], goal[:, 2:].sqrt()), 1) if options.sqrt else goal
    d_coordinates[image, cell, box] = options.coord_scale * (target - chosen)
    return Delta(delta.view_as(raw), squared_sum(delta), counts_of(overlaps))


DETECTION = Loss(
    by_layer(detection_delta),
    frozenset({"rescore", "coord_scale", "forced", "object_scale", "noobject_scale", "class_scale", "random"}),
)
