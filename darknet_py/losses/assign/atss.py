"""Adaptive training sample selection: of the cells nearest to a truth, those train it whose anchors overlap it well for
this truth.

ATSS, Zhang et al., 2020 (https://arxiv.org/abs/1912.02424), as YOLOv6 begins its training with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from darknet_py.boxes import iou
from darknet_py.losses.assign.owners import owners

NEAREST = 9  # cells of each head
SIDE = 5  # of a cell's anchor, cells


def assign_atss(
    centre: Tensor, stride: Tensor, counts: Sequence[int], truths: Tensor, candidates: Tensor, valid: Tensor
) -> Tensor:
    """The truth that trains each box: (n, k) int64; -1: background.

    Args:
        centre, stride: (k, 2), middle and size of the boxes' cells, pixels. counts: how many of them each head has.
        truths: (n, t, 4), centre and size, pixels. candidates: (n, t, k) bool, the boxes whose cells lie in a truth.
        valid: (n, t) bool, which rows are truths.
    """
    if not truths.shape[1]:
        return owners(candidates, candidates)
    overlap = iou(truths[:, :, None], torch.cat((centre, SIDE * stride), -1))  # (n, t, k)
    distance = (truths[:, :, None, :2] - centre).square().sum(-1).sqrt()
    first, nearest = 0, []
    for part in distance.split(list(counts), -1):
        nearest.append(first + part.topk(min(NEAREST, part.shape[-1]), -1, largest=False).indices)
        first += part.shape[-1]
    near = torch.cat(nearest, -1)
    close = overlap.gather(-1, near)
    threshold = close.mean(-1, keepdim=True) + close.std(-1, keepdim=True)
    claims = torch.zeros_like(candidates).scatter_(2, near, close > threshold) & candidates & valid[..., None]
    return owners(claims, overlap)
