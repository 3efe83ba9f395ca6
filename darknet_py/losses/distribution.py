"""Distances as distributions over whole numbers, in the losses of YOLOv6 and YOLOv8.

Distribution focal loss, Li et al., 2020 (https://arxiv.org/abs/2006.04388).
"""

from __future__ import annotations

import torch
from torch import Tensor

CLIP = 0.01  # distances stay this far below the last bin


def distribution_focal(logits: Tensor, centre: Tensor, corners: Tensor) -> Tensor:
    """Cross entropy of the distances from a cell's middle to a truth's sides: the targets are the two bins around a
    distance, by nearness. The mean over the sides, (p,).

    Args:
        logits: (p, 4*(reg_max+1)). centre: (p, 2). corners: (p, 4), of the truths; both in cells.
    """
    by_side = -logits.unflatten(-1, (4, -1)).log_softmax(-1)
    distances = torch.cat((centre - corners[:, :2], corners[:, 2:] - centre), -1)
    distances = distances.clamp(0, by_side.shape[-1] - 1 - CLIP)
    low = distances.long()
    near = torch.stack((low, low + 1), -1)
    share = torch.stack((low + 1 - distances, distances - low), -1)
    return (by_side.gather(-1, near) * share).sum(-1).mean(-1)
