"""Distributed training: torchrun starts the processes, and each takes its share of an iteration's mini-batches.

    torchrun --nproc-per-node 2 -m darknet_py.train data/obj.data cfg/yolov3.cfg

Process r of n takes mini-batches r, r + n, r + 2n …; gradients, learning rates and rolling statistics are those of a
single process that takes all of them.
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

TIMEOUT = timedelta(hours=12)  # the other processes wait while the first one evaluates
BUCKET_SIZE = 16_000_000  # maximum number of values that are sent at once


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    rank: its number, from 0; the first one writes the files and evaluates. size: how many processes there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, values: list[float]) -> list[float]:
        """The sum of each of these numbers over all processes."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=_device())
        _all_reduce(shared)
        return [float(value) for value in shared]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, bit for bit the same in each of them."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            _all_reduce(flat)
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))


@contextmanager
def join_processes(device: str) -> Iterator[tuple[World, str]]:
    """Joins the other processes, if torchrun started this one, until the block ends.

    Returns:
        This process among them, and its device: for "cuda" a GPU of its own.

    Raises:
        DarknetError: it was not torchrun that set WORLD_SIZE, a single GPU is named, or there are too few GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    if "RANK" not in os.environ:
        raise DarknetError(f"the environment has WORLD_SIZE={size} but no RANK; start several processes with torchrun")
    if device.startswith("cuda:"):
        raise DarknetError(f"--device {device}: with torchrun each process uses its own GPU; write --device cuda")
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda and local >= torch.cuda.device_count():
        raise DarknetError(
            f"no GPU is left for process {local}: there are {torch.cuda.device_count()}; start that many processes"
        )
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    if rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # only the first one prints
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
            f"another process of this training run has ended ({str(error).splitlines()[0][:100]})"
        ) from None


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of at most BUCKET_SIZE values (a larger tensor: alone)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > BUCKET_SIZE:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
