"""Several processes that train as one network: torchrun starts them, each works through its share of an iteration's mini-batches.

    torchrun --nproc-per-node 2 -m darknet_py.train data/obj.data cfg/yolov3.cfg

An iteration's mini-batches are dealt out like cards, so that gradients, rates and rolling statistics are those of one process.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from darknet_py.errors import CfgWarning, DarknetError

PATIENCE = timedelta(hours=12)  # the others wait while the first process evaluates
BUCKET = 16_000_000  # values that are sent at once


@dataclass(frozen=True)
class World:
    """This process among those that train together. rank: its number; the first, 0, writes the files and evaluates."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, values: list[float]) -> list[float]:
        """The sums of these numbers over all processes."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=_device())
        _all_reduce(shared)
        return [float(value) for value in shared]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes its sum over all processes, the same bits everywhere."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            _all_reduce(flat)
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))


@contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """Joins the other processes, where torchrun started this one; gives its place among them, and its device (cuda: a GPU of its own)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    if "RANK" not in os.environ:
        raise DarknetError(
            f"WORLD_SIZE={size} says that several processes train, but there is no RANK; start them with torchrun"
        )
    if device.startswith("cuda:"):
        raise DarknetError(f"--device {device}: with torchrun each process has a GPU of its own; write --device cuda")
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda and local >= torch.cuda.device_count():
        raise DarknetError(
            f"process {local} has no GPU of its own: there are {torch.cuda.device_count()}; start so many processes"
        )
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    if rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # the first process speaks for all
        warnings.simplefilter("ignore", CfgWarning)
    try:
        yield World(rank, size), f"cuda:{local}" if cuda else device
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _all_reduce(values: Tensor) -> None:
    try:
        dist.all_reduce(values)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DarknetError(
            f"another of the processes that train together is gone ({str(error).splitlines()[0][:100]})"
        ) from None


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
