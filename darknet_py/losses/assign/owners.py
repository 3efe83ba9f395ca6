"""What the assigners of anchor-free heads share: a box is trained by one truth, or by none."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1e-9  # by which the middle of a cell lies inside a truth, pixels


def inside(centre: Tensor, corners: Tensor) -> Tensor:
    """Points (k, 2) and corners of boxes (n, t, 4), or (n, t, k, 4) where they differ from point to point → (n, t, k)
    bool: the point lies inside the box."""
    left, top, right, bottom = (corners if corners.ndim == 4 else corners[:, :, None]).unbind(-1)
    x, y = centre.unbind(-1)
    return (x - left > MARGIN) & (y - top > MARGIN) & (right - x > MARGIN) & (bottom - y > MARGIN)


def owners(claims: Tensor, preference: Tensor) -> Tensor:
    """(n, t, k) bool, the boxes that each truth claims → (n, k) int64, the truth that trains each box; -1: none.

    preference: (n, t, k). A box that several truths claim goes to the one that it prefers of all truths of the image,
    also one that has not claimed it.
    """
    if not claims.shape[1]:
        return claims.new_full((claims.shape[0], claims.shape[2]), -1, dtype=torch.int64)
    count = claims.sum(1)
    owner = torch.where(count > 1, preference.argmax(1), claims.int().argmax(1))
    return torch.where(count > 0, owner, -1)
