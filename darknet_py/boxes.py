"""Box arithmetic for heads, losses and suppression: the IoU family and NMS in Darknet's forms (Darknet: box.c).

Boxes are (…, 4) float tensors: centre x, centre y, width, height, all in the same unit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DIOU_EXPONENT = 0.6  # box.c:box_diou raises the distance term to this power, the paper does not
BLOCK = 2048  # candidates compared with each other at once; limits memory, changes no result
PAIRS = 1 << 20  # pairs of candidates measured at once; likewise
MAX_PAIRS = 1 << 25  # of which a list is made, 16 bytes each
SPARSE = 256  # up to this many pairs per candidate it is faster to measure only pairs of the same group


def corners(xywh: Tensor) -> Tensor:
    """(…, 4) centre and size → left, top, right, bottom."""
    half = xywh[..., 2:] / 2
    return torch.cat((xywh[..., :2] - half, xywh[..., :2] + half), -1)


def centres(corners: Tensor) -> Tensor:
    """(…, 4) left, top, right, bottom → centre and size."""
    low, high = corners.split(2, -1)
    return torch.cat(((low + high) / 2, high - low), -1)


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes that broadcast against each other."""
    ca, cb = corners(a), corners(b)
    sides = torch.minimum(ca[..., 2:], cb[..., 2:]) - torch.maximum(ca[..., :2], cb[..., :2])
    overlap = torch.where((sides < 0).any(-1), 0.0, sides[..., 0] * sides[..., 1])
    return overlap, a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - overlap


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (…), 0..1; 0 where the intersection or the union is 0."""
    overlap, union = _areas(a, b)
    return torch.where((overlap == 0) | (union == 0), 0.0, overlap / union)


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """(…, 2): width and height of the smallest box around both."""
    ca, cb = corners(a), corners(b)
    return torch.maximum(ca[..., 2:], cb[..., 2:]) - torch.minimum(ca[..., :2], cb[..., :2])


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019): IoU - (hull - union) / hull."""
    hull = _hull(a, b).prod(-1)
    _, union = _areas(a, b)
    return torch.where(hull == 0, iou(a, b), iou(a, b) - (hull - union) / hull)


def _distance(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of the centres, squared diagonal of the hull."""
    return ((a[..., :2] - b[..., :2]) ** 2).sum(-1), (_hull(a, b) ** 2).sum(-1)


def diou(a: Tensor, b: Tensor, exponent: float = DIOU_EXPONENT) -> Tensor:
    """Distance IoU (Zheng et al., 2019): IoU - (d/c)^exponent, d and c the squared distance and diagonal.

    Darknet's box_diou has the exponent 0.6, its box_diounms the cfg's `beta_nms`; the paper's is 1.
    """
    distance, diagonal = _distance(a, b)
    return torch.where(diagonal == 0, iou(a, b), iou(a, b) - (distance / diagonal) ** exponent)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU (Zheng et al., 2019) of predictions `a` and truths `b`: the distance term without an exponent, and a
    term for the aspect ratios."""
    distance, diagonal = _distance(a, b)
    overlap = iou(a, b)
    v = 4 / math.pi**2 * (torch.atan(b[..., 2] / b[..., 3]) - torch.atan(a[..., 2] / a[..., 3])) ** 2
    alpha = v / (1 - overlap + v + 1e-6)
    return torch.where(diagonal == 0, overlap, overlap - (distance / diagonal + alpha * v))


def nms(
    xywh: Tensor, scores: Tensor, groups: Tensor, thresh: float, kind: str = "default", beta: float = 0.6
) -> Tensor:
    """Greedy non-maximum suppression: in each group, a box goes if it overlaps a better box that stays too much.

    Args:
        xywh: (m, 4). scores: (m,). groups: (m,) int64; boxes of different groups (class, image) are not compared.
        thresh: maximum overlap of a pair. kind: how it is measured: "default" and "cornersnms" by IoU, "greedynms" by
            Darknet's DIoU (exponent 0.6), "diounms" by DIoU with the exponent `beta`.

    Returns:
        (m,) bool, which boxes stay. Of equal scores the first counts as better, as in Darknet with a stable sort.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    xywh, groups = xywh[order], groups[order]
    following = torch.searchsorted(groups, groups, right=True) - torch.arange(1, len(groups) + 1, device=groups.device)
    pairs = int(following.sum())
    if pairs <= min(SPARSE * len(groups), MAX_PAIRS):
        alive = _greedy_pairs(*_clashing_pairs(xywh, following, pairs, thresh, kind, beta), len(groups))
    else:
        alive = torch.ones(len(order), dtype=torch.bool, device=xywh.device)
        for start in range(0, len(order), BLOCK):
            block = slice(start, start + BLOCK)
            clash = _clashes(xywh[block], groups[block], xywh[block], groups[block], thresh, kind, beta)
            alive[block] = _greedy(clash.triu(1), alive[block])
            _suppress_later(alive, xywh, groups, start, thresh, kind, beta)
    survives = torch.empty_like(alive)
    survives[order] = alive
    return survives


def _clashing_pairs(
    xywh: Tensor, following: Tensor, pairs: int, thresh: float, kind: str, beta: float
) -> tuple[Tensor, Tensor]:
    """The pairs of the same group that overlap too much: (p,) int64 of the better boxes, (p,) of the worse ones.

    Args:
        xywh: (m, 4), group by group, the best first. following: (m,), how many boxes of its group come after each;
            their sum is `pairs`.
    """
    before = following.cumsum(0) - following
    firsts, seconds = [following[:0]], [following[:0]]
    for start in range(0, pairs, PAIRS):
        pair = torch.arange(start, min(start + PAIRS, pairs), device=xywh.device)
        first = torch.searchsorted(before, pair, right=True) - 1
        second = first + 1 + pair - before[first]
        clash = overlap_by(xywh[first], xywh[second], kind, beta) > thresh
        firsts.append(first[clash])
        seconds.append(second[clash])
    return torch.cat(firsts), torch.cat(seconds)


def _greedy_pairs(first: Tensor, second: Tensor, count: int) -> Tensor:
    """`_greedy` with the clashes as a list of pairs: (count,) bool."""
    kept = torch.ones(count, dtype=torch.bool, device=first.device)
    while True:
        again = torch.ones_like(kept)
        again[second[kept[first]]] = False
        if torch.equal(again, kept):
            return kept
        kept = again


def overlap_by(a: Tensor, b: Tensor, kind: str, beta: float) -> Tensor:
    """The overlap of boxes that broadcast against each other, (…), as the kind of suppression measures it."""
    if kind == "greedynms":
        return diou(a, b)
    return diou(a, b, beta) if kind == "diounms" else iou(a, b)


def _clashes(a: Tensor, a_groups: Tensor, b: Tensor, b_groups: Tensor, thresh: float, kind: str, beta: float) -> Tensor:
    """(len(a), len(b)) bool: same group and too much overlap."""
    overlap = overlap_by(a[:, None], b[None], kind, beta)
    return (overlap > thresh) & (a_groups[:, None] == b_groups[None])


def _greedy(clash: Tensor, alive: Tensor) -> Tensor:
    """Greedy suppression within a block: a box stays unless it clashes with an earlier box that stays.

    clash: (m, m) bool, upper triangular. The rounds settle the boxes from the best on: each makes at least one further
    link of each chain of clashes final, and a state that no longer changes is the greedy result. As chains are short, a
    few rounds suffice.
    """
    kept = alive
    weights = clash.to(torch.float32)
    while True:
        again = alive & ((kept.to(torch.float32) @ weights) == 0)
        if torch.equal(again, kept):
            return kept
        kept = again


def _suppress_later(
    alive: Tensor, xywh: Tensor, groups: Tensor, start: int, thresh: float, kind: str, beta: float
) -> None:
    """Suppresses boxes of later blocks: as boxes are sorted by group, only the block's last group goes on there."""
    end = min(start + BLOCK, len(alive))
    reach = int(torch.searchsorted(groups, groups[end - 1], right=True))
    if reach <= end:
        return
    same = (groups[start:end] == groups[end - 1]) & alive[start:end]
    winners = xywh[start:end][same]
    group = groups[start:end][same]
    for later in range(end, reach, BLOCK):
        part = slice(later, min(later + BLOCK, reach))
        alive[part] &= ~_clashes(winners, group, xywh[part], groups[part], thresh, kind, beta).any(0)


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root of the sum of the squared differences of x, y, w, h (box.c:box_rmse)."""
    return ((a - b) ** 2).sum(-1).sqrt()


MEASURES = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou}


def iou_gradient(pred: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Darknet's direction of improvement of a box, (…, 4) for centre x, y, width, height (box.c:dx_box_iou).

    It resembles the gradient of IoU, GIoU, DIoU or CIoU (`kind`), with peculiarities: width and height count twice, the
    distance terms have no exponent and some have the opposite sign, and the IoU's own term is left out where the boxes
    do not overlap.
    """
    p, t = corners(pred), corners(truth)
    p = torch.cat((torch.minimum(p[..., :2], p[..., 2:]), torch.maximum(p[..., :2], p[..., 2:])), -1)
    size, truth_size = p[..., 2:] - p[..., :2], t[..., 2:] - t[..., :2]
    overlap = torch.minimum(p[..., 2:], t[..., 2:]) - torch.maximum(p[..., :2], t[..., :2])
    inter = overlap.prod(-1, keepdim=True)
    union = size.prod(-1, keepdim=True) + truth_size.prod(-1, keepdim=True) - inter
    apart = (overlap <= 0).any(-1, keepdim=True)
    # derivatives by left, top (low) and right, bottom (high): an edge that moves changes the area by the other side
    other, other_overlap = size.flip(-1), overlap.flip(-1)
    inter_low = torch.where(p[..., :2] > t[..., :2], -other_overlap, 0.0)
    inter_high = torch.where(p[..., 2:] < t[..., 2:], other_overlap, 0.0)
    union_low, union_high = -other - inter_low, other - inter_high
    positive = union > 0
    low = torch.where(positive, (union * inter_low - inter * union_low) / union**2, 0.0)
    high = torch.where(positive, (union * inter_high - inter * union_high) / union**2, 0.0)
    if kind == "giou":
        low, high = _giou_gradient(p, t, union, union_low, union_high, apart, low, high)
    result = torch.cat((low + high, high - low), -1)
    if kind in ("diou", "ciou"):
        result = _distance_gradient(pred, truth, p, t, result, apart, inter / union, kind)
    return result


def _giou_gradient(
    p: Tensor, t: Tensor, union: Tensor, union_low: Tensor, union_high: Tensor, apart: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    sides = torch.maximum(p[..., 2:], t[..., 2:]) - torch.minimum(p[..., :2], t[..., :2])
    hull = sides.prod(-1, keepdim=True)
    hull_low = torch.where(p[..., :2] < t[..., :2], -sides.flip(-1), 0.0)
    hull_high = torch.where(p[..., 2:] > t[..., 2:], sides.flip(-1), 0.0)
    term_low = (hull * union_low - union * hull_low) / hull**2
    term_high = (hull * union_high - union * hull_high) / hull**2
    keep = torch.where(apart, 0.0, 1.0)
    defined = (hull > 0) | apart
    return torch.where(defined, low * keep + term_low, low), torch.where(defined, high * keep + term_high, high)


def _distance_gradient(
    pred: Tensor, truth: Tensor, p: Tensor, t: Tensor, gradient: Tensor, apart: Tensor, overlap: Tensor, kind: str
) -> Tensor:
    distance = ((pred[..., :2] - truth[..., :2]) ** 2).sum(-1, keepdim=True)
    sides = _hull(pred, truth)
    diagonal = (sides**2).sum(-1, keepdim=True)
    beyond_low, beyond_high = (p[..., :2] < t[..., :2]).float(), (p[..., 2:] > t[..., 2:]).float()
    by_centre, by_size = beyond_high - beyond_low, 0.5 * (beyond_high + beyond_low)
    centre = (2 * (truth[..., :2] - pred[..., :2]) * diagonal - 2 * sides * by_centre * distance) / diagonal**2
    size = 2 * sides * by_size * distance / diagonal**2
    if kind == "ciou":
        angle = torch.atan(truth[..., 2] / truth[..., 3]) - torch.atan(pred[..., 2] / pred[..., 3])
        v = 4 / math.pi**2 * angle**2
        alpha = v / (1 - overlap[..., 0] + v + 1e-6)
        by_proportion = 8 / math.pi**2 * angle * alpha
        size = size + torch.stack((by_proportion * pred[..., 3], -by_proportion * pred[..., 2]), -1)
    term = torch.cat((centre, size), -1)
    defined = (diagonal > 0) | apart
    return torch.where(defined, torch.where(apart, 0.0, gradient) + term, gradient)
