"""The loss of [detection], YOLOv1's head (Darknet: detection_layer.c)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darknet_py.boxes import iou, rmse
from darknet_py.losses.loss import Context, Loss, full, squared_sum

RANDOM_SEEN = 64_000  # images in which `random` picks the box to train
SMALL = 0.1  # area below which `forced` trains a cell's second box
FAR = 20.0  # the worst that a root mean square difference can be


def detection_loss(layer: Any, raw: Tensor, truths: Tensor, context: Context) -> Loss:
    """raw: (n, count). truths: (n, side*side*(1+classes+4)): of each cell, is an object here, its classes, x and y in the cell, w and h
    relative to the picture."""
    with torch.no_grad():
        return _loss(layer, raw, truths, context)


def _loss(layer: Any, raw: Tensor, truths: Tensor, context: Context) -> Loss:
    options = layer.options
    side, num, classes = options.side, options.num, options.classes
    out = layer.forward(full(raw))
    delta = torch.zeros_like(out)
    sizes = (side**2 * classes, side**2 * num, side**2 * num * 4)
    labels, scales, boxes = (part.unflatten(1, (side**2, -1)) for part in out.split(sizes, 1))
    d_labels, d_scales, d_boxes = (part.unflatten(1, (side**2, -1)) for part in delta.split(sizes, 1))  # views of delta
    cells = truths.flatten(1).unflatten(1, (side**2, 1 + classes + 4))
    there, truth_classes, truth = cells[..., 0] != 0, cells[..., 1 : 1 + classes], cells[..., 1 + classes :]
    d_scales.copy_(options.noobject_scale * (0 - scales))
    d_labels.copy_(torch.where(there[..., None], options.class_scale * (truth_classes - labels), 0.0))

    boxes = boxes.unflatten(2, (num, 4))
    pred = torch.cat((boxes[..., :2] / side, boxes[..., 2:] ** 2 if options.sqrt else boxes[..., 2:]), -1)
    placed = torch.cat((truth[..., :2] / side, truth[..., 2:]), -1)[:, :, None]
    overlap, difference = iou(pred, placed), rmse(pred, placed)  # (n, cells, num)
    nearest = torch.where(difference.amin(2) < FAR, difference.argmin(2), 0)
    best = torch.where(overlap.amax(2) > 0, overlap.argmax(2), nearest)
    if options.forced:
        best = (truth[..., 2] * truth[..., 3] < SMALL).long().clamp(max=num - 1)
    if options.random and context.seen < RANDOM_SEEN:
        best = torch.randint(0, num, best.shape, device=best.device)

    image, cell = there.nonzero(as_tuple=True)
    box = best[image, cell]
    chosen, goal = boxes[image, cell, box], truth[image, cell]
    overlaps = overlap[image, cell, box]
    wanted = overlaps if options.rescore else torch.ones_like(overlaps)
    d_scales[image, cell, box] = options.object_scale * (wanted - scales[image, cell, box])
    target = torch.cat((goal[:, :2], goal[:, 2:].sqrt()), 1) if options.sqrt else goal
    d_boxes.unflatten(2, (num, 4))[image, cell, box] = options.coord_scale * (target - chosen)
    count = len(overlaps)
    return Loss(
        delta.view_as(raw), squared_sum(delta), {"count": float(count), "iou": float(overlaps.sum()) / max(count, 1)}
    )
