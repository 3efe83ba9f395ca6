"""Suppression inside a graph: Darknet's, said in operators that ONNX has, for any number of images at once.

Boxes are (n, k, 4), centre and size; scores (n, classes, k), of which those that exceed `thresh` are candidates. What
survives is given as (m,) int64 each: images, classes, numbers of boxes; of an image and a class, the most confident
first. `overlap` and `thresh` are (1,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from darknet_py.boxes import overlap_by

CANDIDATES = 2048
"""The most that `graph_nms` compares in an image: the most confident ones. As a box suppresses only less confident
ones, what survives among them is what survives among all."""


def graph_nms(
    boxes: Tensor, scores: Tensor, overlap: Tensor, thresh: Tensor, kind: str, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`boxes.nms` of the CANDIDATES most confident candidates of each image, by a table of pairs and a loop.

    The loop is that of `boxes._greedy`: rounds, until nothing changes.
    """
    classes, count = scores.shape[1:]
    flat = torch.where(scores > thresh, scores, 0.0).flatten(1)
    most: int = (flat > 0).sum(1).max().clamp(1, min(CANDIDATES, classes * count)).item()  # type: ignore[assignment]
    torch._check(most >= 1)  # what the exporter cannot see
    torch._check(most <= classes * count)
    confidence, where = flat.topk(most)
    class_id, box = where // count, where % count
    xywh = boxes.gather(1, box[..., None].expand(-1, -1, 4))
    rank, candidate = torch.arange(most, device=boxes.device), confidence > 0
    comparable = (class_id[:, :, None] == class_id[:, None]) & (rank[:, None] < rank) & candidate[:, :, None]
    clash = (comparable & (overlap_by(xywh[:, :, None], xywh[:, None], kind, beta) > overlap)).float()

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        again = ((kept[:, None] @ clash)[:, 0] == 0).float()
        return again, (again != kept).any()

    start = (torch.ones_like(confidence), torch.ones((), dtype=torch.bool, device=boxes.device))
    kept, _ = while_loop(lambda _, changes: changes.clone(), settle, start)
    survives = (kept > 0) & candidate
    of_class = class_id[:, None] == torch.arange(classes, device=boxes.device)[:, None]
    image, found, place = (survives[:, None] & of_class).nonzero(as_tuple=True)
    return image, found, box[image, place]


def operator_nms(boxes: Tensor, scores: Tensor, overlap: Tensor, thresh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By IoU, with ONNX's own operator, which OpenCV runs too; only in an export. It has no limit of candidates."""
    found = torch.onnx.ops.symbolic(
        "NonMaxSuppression",
        (boxes, scores, torch.full((1,), boxes.shape[1]), overlap, thresh),
        {"center_point_box": 1},
        dtype=torch.int64,
        shape=(boxes.shape[1], 3),  # any number, in truth
        version=11,
    )
    image, class_id, box = found.unbind(1)
    return image, class_id, box
