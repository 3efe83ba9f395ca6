"""From the heads' boxes to the objects in each image: out of the letterbox, and no overlaps.

`Detector`, evaluation and recall all end here (Darknet: network.c:get_network_boxes, box.c:do_nms_sort).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from darknet_py.boxes import centres, corners, nms
from darknet_py.detections import Detections
from darknet_py.devices import constant
from darknet_py.layers import Candidates
from darknet_py.layers.image_input import ImageOptions
from darknet_py.pictures.fit import DarknetFit, Fit
from darknet_py.pictures.resize import Size

LETTERBOX = DarknetFit(keeps_aspect=True)


class Suppression(NamedTuple):
    """How overlapping boxes are suppressed.

    thresh: the overlap, 0..1, above which the less confident of two boxes is suppressed; 0: no suppression.
    kind, beta: see `boxes.nms`. agnostic: boxes of different classes suppress each other too.
    pixels: overlap is measured in pixels of the image, not in fractions of it. It matters as Darknet's DIoU depends on
    the aspect ratio: `detector valid` has pixels, `detector test` and `map` have fractions.
    """

    thresh: float
    kind: str = "default"
    beta: float = 0.6
    agnostic: bool = False
    pixels: bool = False
    most: int | None = None


class Fitted(NamedTuple):
    """How a batch's images came into the network's input, (width, height) pixels."""

    fit: Fit
    network: Size


class Objects(NamedTuple):
    """Boxes of a batch that have one class each, in any order.

    image: (m,) int64, which image of the batch. class_id: (m,) int64. confidence: (m,) 0..1. xywh: (m, 4) centre and
    size, as fractions of the image.
    """

    image: Tensor
    class_id: Tensor
    confidence: Tensor
    xywh: Tensor


def postprocess(
    candidates: Candidates,
    sizes: Sequence[Size],
    names: Sequence[str],
    suppression: Suppression,
    fitted: Fitted | None,
    max_det: int | None = None,
) -> list[Detections]:
    """A batch's candidates → what is in each image, in the order of the candidates, each one's classes ascending.

    Args:
        candidates: of all heads; a probability of 0 means that a box is not of this class.
        sizes: (width, height) of each image, pixels. names: of the classes.
        fitted: how the images lie in the network's input; None: they were stretched.
        max_det: the most objects of an image, the most confident ones; None: all.
    """
    is_finite = candidates.xywh.isfinite().all(1)  # of broken weights, or an overflow; nobody can draw or write others
    box, class_id = ((candidates.probs > 0) & is_finite[:, None]).nonzero(as_tuple=True)
    image, xywh = candidates.image[box], candidates.xywh[box]
    if fitted is not None:
        xywh = from_letterbox(xywh, image, sizes, fitted.network, fitted.fit)
    objects = Objects(image, class_id, candidates.probs[box, class_id], xywh)
    found = most_confident(suppressed(objects, sizes, len(names), suppression), max_det)
    if fitted is not None and fitted.fit.clips:
        found = found._replace(xywh=centres(corners(found.xywh).clamp(0, 1)))
    return by_image(found, sizes, names)


def chosen(candidates: Candidates, net: ImageOptions, *, best: bool) -> Candidates:
    """The candidates that suppression is to see, as [net] says. best: each box counts for one class alone."""
    if net.objectness_thresh is not None or net.class_thresh is not None:
        objectness, probability = net.objectness_thresh or 0.0, net.class_thresh or 0.0
        candidates = probable_classes(candidates, objectness, probability, net.max_nms)
    return best_class(candidates) if best else candidates


def probable_classes(
    candidates: Candidates, objectness: float, probability: float, count: int | None = None
) -> Candidates:
    """Boxes by their objectness and their classes by the probabilities given an object, as MMDetection's YOLOv3 chooses
    them.

    Args:
        objectness: what a box needs at least. probability: what its classes must exceed.
        count: the most classes of boxes in an image, the most probable ones; None: all.
    """
    enough = candidates.objectness >= objectness
    image, xywh, objectnesses, probs = (column[enough] for column in candidates)
    classes = probs / objectnesses[:, None]
    box, class_id = (classes > probability).nonzero(as_tuple=True)
    if count is not None:
        kept = _highest(image[box], classes[box, class_id], count)
        box, class_id = box[kept], class_id[kept]
    only = torch.zeros_like(probs)
    only[box, class_id] = probs[box, class_id]
    return Candidates(image, xywh, objectnesses, only)


def best_class(candidates: Candidates) -> Candidates:
    """Each box with its most probable class alone; of equal ones the first."""
    best = candidates.probs.argmax(1, keepdim=True)
    only = torch.zeros_like(candidates.probs).scatter_(1, best, candidates.probs.gather(1, best))
    return candidates._replace(probs=only)


def most_confident(objects: Objects, count: int | None) -> Objects:
    """The `count` most confident objects of each image, in their order; None: all."""
    if count is None or not len(objects.image):
        return objects
    kept = _highest(objects.image, objects.confidence, count)
    return Objects(*(column[kept] for column in objects))


def _highest(image: Tensor, value: Tensor, count: int) -> Tensor:
    """Which of the values (m,) are among the `count` highest of their image (m,): their numbers, ascending."""
    order = value.argsort(descending=True, stable=True)
    order = order[image[order].argsort(stable=True)]
    image = image[order]
    rank = torch.arange(len(image), device=image.device) - torch.searchsorted(image, image)
    return order[rank < count].sort().values


def from_letterbox(xywh: Tensor, image: Tensor, sizes: Sequence[Size], network: Size, fit: Fit = LETTERBOX) -> Tensor:
    """Boxes relative to the network's input → relative to their images, not clipped (yolo_layer.c:correct_yolo_boxes).

    Args:
        xywh: (m, 4). image: (m,) int64, each box's image. sizes: (width, height) of the images, network: of the input,
            pixels. fit: how they came into it.
    """
    inner, bars = (
        torch.from_numpy(part).to(xywh.device, non_blocking=True)[image] for part in fit.fractions(sizes, network)
    )
    return torch.cat(((xywh[:, :2] - bars) / inner, xywh[:, 2:] / inner), 1)


def suppressed(objects: Objects, sizes: Sequence[Size], classes: int, how: Suppression) -> Objects:
    """The objects that survive, in their order."""
    objects = most_confident(objects, how.most)
    if not how.thresh:
        return objects
    image, class_id, confidence, xywh = objects
    group = image if how.agnostic else image * classes + class_id
    boxes = xywh * constant(sizes, xywh.device)[image].repeat(1, 2) if how.pixels else xywh
    kept = nms(boxes, confidence, group, how.thresh, how.kind, how.beta)
    return Objects(*(column[kept] for column in objects))


def by_image(objects: Objects, sizes: Sequence[Size], names: Sequence[str]) -> list[Detections]:
    """The objects of each image, in their order, as arrays."""
    order = objects.image.argsort(stable=True)
    image, class_id, confidence, xywh = (column[order].cpu().numpy() for column in objects)
    ends = np.searchsorted(image, np.arange(1, len(sizes)))
    class_ids, confidences, boxes = (np.split(column, ends) for column in (class_id, confidence, xywh))
    return [
        Detections(ids, scores, xywh, size, names)
        for ids, scores, xywh, size in zip(class_ids, confidences, boxes, sizes, strict=True)
    ]
