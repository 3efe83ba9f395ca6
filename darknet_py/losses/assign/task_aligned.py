"""Task-aligned assignment: a truth trains the boxes that both classify and locate it best.

TOOD, Feng et al., 2021 (https://arxiv.org/abs/2108.07755), as YOLOv6 and YOLOv8 have it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darknet_py.losses.assign.owners import owners

EPS = 1e-9


def assign_task_aligned(
    probs: Tensor, overlaps: Tensor, candidates: Tensor, *, top: int, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """The truth that trains each box, and the score that the box is to give the truth's class.

    Args:
        probs: (n, t, k), the probability that box k gives the class of truth t. overlaps: (n, t, k), 0..1.
        candidates: (n, t, k) bool, the boxes that a truth may claim: their cells lie in it; none for empty rows.
        top: number of boxes that a truth claims, those of the largest probs^alpha * overlaps^beta.

    Returns:
        (n, k) int64, the number of the truth; -1: background. (n, k), the score: the best box of a truth gets its best
        overlap, the others in proportion; 0 for the background.
    """
    n, t, k = overlaps.shape
    if not t:
        return owners(candidates, overlaps), overlaps.new_zeros(n, k)
    metric = probs**alpha * overlaps**beta
    best = (metric * candidates).topk(min(top, k), -1).indices
    claims = torch.zeros_like(candidates).scatter_(2, best, True) & candidates
    owner = owners(claims, overlaps)
    owned = owner[:, None] == torch.arange(t, device=owner.device)[:, None]
    metric, overlaps = metric * owned, overlaps * owned
    score = metric * overlaps.amax(-1, keepdim=True) / (metric.amax(-1, keepdim=True) + EPS)
    return owner, score.amax(1)
