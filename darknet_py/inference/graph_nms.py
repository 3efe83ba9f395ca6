"""Suppression inside a graph, and the choice before and after it that [net] says (`postprocess`): Darknet's, said in
operators that ONNX has, for any number of images at once.

Boxes are (n, k, 4), centre and size; scores (n, k, classes), of which those that exceed `thresh` are candidates. What
survives is given as (m,) int64 each: images, classes, numbers of boxes; of an image and a class (agnostic: of an
image), the most confident first. `overlap` and `thresh` are (1,).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from darknet_py.boxes import overlap_by
from darknet_py.choices import IOU_KINDS
from darknet_py.layers import Candidates
from darknet_py.layers.image_input import ImageOptions
from darknet_py.postprocess import Objects, Suppression, chosen, most_confident, suppressed

Found = tuple[Tensor, Tensor, Tensor]  # images, classes, boxes
CANDIDATES = 2048
"""The most that `graph_nms` compares in an image: the most confident ones. As a box suppresses only less confident
ones, what survives among them is what survives among all."""


class Selector(NamedTuple):
    """From all boxes of a network to detections, rows (m, 7) of image, class, confidence, centre x and y, width and
    height; of an image and a class (agnostic: of an image), the most confident first.

    net: what says how. kind, beta: of suppression. agnostic: whether boxes of different classes suppress each other.
    Both functions read boxes (n, k, 4), objectness (n, k), classes (n, k, classes), overlap (1,), thresh (1,).
    """

    net: ImageOptions
    kind: str
    beta: float
    agnostic: bool

    def in_graph(self, boxes: Tensor, objectness: Tensor, classes: Tensor, overlap: Tensor, thresh: Tensor) -> Tensor:
        """By operators of ONNX."""
        scores = graph_chosen(objectness[..., None] * classes, objectness, classes, thresh, self.net)
        if self.kind in IOU_KINDS:
            found = operator_nms(boxes, scores, overlap, thresh, agnostic=self.agnostic)
        else:
            found = graph_nms(boxes, scores, overlap, thresh, self.kind, self.beta, agnostic=self.agnostic)
        if self.net.max_det is not None:
            found = graph_most_confident(found, scores, self.net.max_det)
        image, class_id, box = found
        return _rows(Objects(image, class_id, scores[image, box, class_id], boxes[image, box]))

    def as_detected(
        self, boxes: Tensor, objectness: Tensor, classes: Tensor, overlap: Tensor, thresh: Tensor
    ) -> Tensor:
        """As detection does it."""
        scores, count = objectness[..., None] * classes, classes.shape[2]
        image, box = (scores > thresh).any(2).nonzero(as_tuple=True)
        probs = torch.where(scores > thresh, scores, 0.0)[image, box]
        candidates = Candidates(image, boxes[image, box], objectness[image, box], probs)
        candidates = chosen(candidates, self.net, best=bool(self.net.best_class))
        box, class_id = candidates.probs.nonzero(as_tuple=True)
        confidence = candidates.probs[box, class_id]
        objects = Objects(candidates.image[box], class_id, confidence, candidates.xywh[box])
        how = Suppression(float(overlap), self.kind, self.beta, self.agnostic, most=self.net.max_nms)
        found = most_confident(suppressed(objects, [], count, how), self.net.max_det)
        order = found.confidence.argsort(descending=True, stable=True)
        group = found.image * count + (0 if self.agnostic else found.class_id)
        order = order[group[order].argsort(stable=True)]
        return _rows(Objects(*(column[order] for column in found)))


def _rows(found: Objects) -> Tensor:
    columns = torch.stack((found.image.float(), found.class_id.float(), found.confidence), 1)
    return torch.cat((columns, found.xywh), 1)


def graph_chosen(scores: Tensor, objectness: Tensor, classes: Tensor, thresh: Tensor, net: ImageOptions) -> Tensor:
    """`postprocess.chosen`, and the most confident ones that suppression is to see: the scores, 0 where left out.

    Args:
        objectness: (n, k). classes: (n, k, classes), the probabilities given an object; scores are their product.
    """
    scores = torch.where(scores > thresh, scores, 0.0)
    if net.objectness_thresh is not None or net.class_thresh is not None:
        enough = (objectness >= (net.objectness_thresh or 0.0))[..., None] & (classes > (net.class_thresh or 0.0))
        scores = torch.where(enough, scores, 0.0)
        scores = _highest(scores, torch.where(scores > 0, classes, 0.0), net.max_nms)
    if net.best_class:
        best = torch.arange(scores.shape[2], device=scores.device) == scores.argmax(2, keepdim=True)
        scores = torch.where(best, scores, 0.0)
    return _highest(scores, scores, net.max_nms)


def _highest(scores: Tensor, value: Tensor, count: int | None) -> Tensor:
    """The scores with the `count` highest values of each image, 0 elsewhere; None: all."""
    flat = value.flatten(1)
    if count is None or count >= flat.shape[1]:
        return scores
    kept = torch.zeros_like(flat).scatter(1, flat.topk(count).indices, 1.0)
    return scores * kept.reshape(scores.shape)


def graph_most_confident(found: Found, scores: Tensor, count: int) -> Found:
    """The `count` most confident of each image, in their order."""
    image, class_id, box = found
    order = scores[image, box, class_id].argsort(descending=True)
    own = image[order][:, None] == torch.arange(scores.shape[0], device=image.device)
    among = (own & (own.long().cumsum(0) <= count)).any(1)
    kept = torch.zeros_like(image).scatter(0, order, among.long()).nonzero()[:, 0]
    return image[kept], class_id[kept], box[kept]


def graph_nms(
    boxes: Tensor, scores: Tensor, overlap: Tensor, thresh: Tensor, kind: str, beta: float, *, agnostic: bool = False
) -> Found:
    """`boxes.nms` of the CANDIDATES most confident candidates of each image, by a table of pairs and a loop.

    The loop is that of `boxes._greedy`: rounds, until nothing changes. agnostic: boxes of different classes suppress
    each other too.
    """
    count, classes = scores.shape[1:]
    flat = torch.where(scores > thresh, scores, 0.0).flatten(1)
    most: int = (flat > 0).sum(1).max().clamp(1, min(CANDIDATES, classes * count)).item()  # type: ignore[assignment]
    torch._check(most >= 1)  # what the exporter cannot see
    torch._check(most <= classes * count)
    confidence, where = flat.topk(most)
    box, class_id = where // classes, where % classes
    xywh = boxes.gather(1, box[..., None].expand(-1, -1, 4))
    rank, candidate = torch.arange(most, device=boxes.device), confidence > 0
    group, groups = (torch.zeros_like(class_id), 1) if agnostic else (class_id, classes)
    comparable = (group[:, :, None] == group[:, None]) & (rank[:, None] < rank) & candidate[:, :, None]
    clash = (comparable & (overlap_by(xywh[:, :, None], xywh[:, None], kind, beta) > overlap)).float()

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        again = ((kept[:, None] @ clash)[:, 0] == 0).float()
        return again, (again != kept).any()

    start = (torch.ones_like(confidence), torch.ones((), dtype=torch.bool, device=boxes.device))
    kept, _ = while_loop(lambda _, changes: changes.clone(), settle, start)
    survives = (kept > 0) & candidate
    of_group = group[:, None] == torch.arange(groups, device=boxes.device)[:, None]
    image, _, place = (survives[:, None] & of_group).nonzero(as_tuple=True)
    return image, class_id[image, place], box[image, place]


def operator_nms(boxes: Tensor, scores: Tensor, overlap: Tensor, thresh: Tensor, *, agnostic: bool = False) -> Found:
    """By IoU, with ONNX's own operator, which OpenCV runs too; only in an export. It has no limit of candidates.

    agnostic: as for `graph_nms`, where `overlap` is below 1: a box then suppresses itself as one of a less probable
    class.
    """
    by_class = scores.amax(2)[:, None] if agnostic else scores.transpose(1, 2)
    found = torch.onnx.ops.symbolic(
        "NonMaxSuppression",
        (boxes, by_class, torch.full((1,), boxes.shape[1]), overlap, thresh),
        {"center_point_box": 1},
        dtype=torch.int64,
        shape=(2, 3),  # any number of rows, in truth, as the next line makes the exporter believe
        version=11,
    )
    image, class_id, box = found[(found[:, 0] >= 0).nonzero()[:, 0]].unbind(1)
    return image, scores.argmax(2)[image, box] if agnostic else class_id, box
