"""From a GPU's raw outputs to candidates on the CPU in one transfer, so that a batch waits for the device once.

How many boxes exceed the threshold is not known before the device has computed them. So the ROOM most probable ones of
each image are sent, and how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from darknet_py.layers import Candidates, Head

ROOM = 512
"""Boxes of an image that are sent. Full images have some 200 over the usual threshold."""
LEAST = 0.1
"""The threshold below which there are usually more, so that they are not sent in this way."""


class Gathered(NamedTuple):
    """What came in the transfer.

    candidates: on the CPU; of each image in the order of `Head.decode`. complete: whether no image had more than ROOM.
    finite: whether the sums of the raw outputs are finite; a sum may overflow.
    """

    candidates: Candidates
    complete: bool
    finite: bool


def gather(heads: Sequence[Head], raw: Sequence[Any], thresh: float, size: tuple[int, int]) -> Gathered:
    """The candidates of heads that are `dense`.

    Args:
        raw: what the network gives for each head, on any device. thresh, size: see `Head.decode`.
    """
    rows, counts, finite = packed(heads, raw, thresh, size)
    sent = torch.cat((rows.flatten(), counts, finite[None])).cpu()  # the one wait
    values, found, sums = sent.split((rows.numel(), len(counts), 1))
    image, row = (torch.arange(rows.shape[1]) < found[:, None]).nonzero(as_tuple=True)
    xywh, objectness, probs = values.view(rows.shape)[image, row].split((4, 1, rows.shape[2] - 5), 1)
    candidates = Candidates(image, xywh, objectness[:, 0], probs)
    return Gathered(candidates, bool((found <= rows.shape[1]).all()), bool(sums))


def packed(
    heads: Sequence[Head], raw: Sequence[Any], thresh: float, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """What is sent, computed without a wait for the device, all float32: (n, room, 5 + classes) centre, size,
    objectness and probabilities of boxes, first those with a class over the threshold, in their order; (n,) how many
    these were, also where there was no room for them; () 1 if `finite_sums`."""
    each = [head.every(one, thresh, size) for head, one in zip(heads, raw, strict=True)]
    _, xywh, objectness, probs = (torch.cat(columns, 1) for columns in zip(*each, strict=True))
    best = F.pad(probs, (0, 1)).amax(2)  # there may be no class
    likely = best > thresh
    number = torch.where(likely, best, -1).topk(min(ROOM, best.shape[1]), 1).indices
    place = torch.where(likely.gather(1, number), number, best.shape[1])  # the unlikely ones come last
    number = number.gather(1, place.argsort(1))[..., None]
    columns = (xywh, objectness[..., None], probs)
    rows = torch.cat([column.gather(1, number.expand(-1, -1, column.shape[2])) for column in columns], 2)
    return rows, likely.sum(1).to(rows.dtype), finite_sums(raw).to(rows.dtype)


def finite_sums(raw: Sequence[Any]) -> Tensor:
    """() bool, on the device: whether the outputs' sums are finite."""
    return torch.stack([part.float().sum() for part in parts_of(raw)]).isfinite().all()


def parts_of(raw: Sequence[Any]) -> list[Tensor]:
    """All tensors of what the network gives for its heads."""
    return [part for one in raw for part in (one if isinstance(one, tuple) else (one,))]
