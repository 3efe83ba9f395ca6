"""The stream of mini-batches for training, made by worker processes ahead of the network (data.c:load_threads).

    for batch in image_batches(dataset, network.net, network.needs(), mini_batch=8, seed=1):
        batch.images, batch.truths      # (8, 3, h, w) in 0..1; (8, max_truths, 6) x, y, w, h, class, track_id

The same seed gives the same batches, whatever the number of workers, and starting at mini-batch k gives what skipping k
would.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import torch
from torch.utils.data import DataLoader

from darknet_py.data.augment.lists import recipe_for
from darknet_py.data.augment.steps import Size
from darknet_py.data.dataset import Dataset
from darknet_py.data.samples import BatchRequest, ImageBatch, SampleMaker
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import ClassNeeds, Needs

MAX_WORKERS = 16
BATCHES_AHEAD = 2  # of each worker
LOOKED_AT = 200  # mini-batches, of which the largest must fit: their sizes vary with random=1 …
LOOKED_AT_EACH = 97  # … after some iterations of as many as 64 mini-batches
SHARED_MEMORY = Path("/dev/shm")  # Linux; a Docker container has 64 MB of it
Sizes: TypeAlias = Size | Callable[[int], Size] | None


def image_batches(
    dataset: Dataset,
    net: NetOptions,
    needs: Needs,
    *,
    mini_batch: int | Callable[[int], int],
    seed: int,
    start: int = 0,
    step: int = 1,
    workers: int | None = None,
    size: Sizes = None,
    sequence: Callable[[int], int] | None = None,
    plain: Callable[[int], bool] = lambda number: False,
) -> Iterator[ImageBatch]:
    """Mini-batches without end, augmented as the cfg says, of images drawn with replacement; where the cfg counts in
    `epochs`, of shuffled images, each once in an epoch (samples.py).

    Args:
        dataset: with truths. net: the network's [net].
        needs: what its last head, or its loss, is trained with (`Network.needs`).
        mini_batch: images at once, batch / subdivisions; or a function of the mini-batch's number.
        seed, start, step: of all that is random; the number of the first mini-batch, and from one to the next.
        workers: processes; 0: none, all is done when it is asked for; None: as many as there are cores, at most
            MAX_WORKERS.
        size: (width, height) of the network's input, if not the cfg's; or a function of the mini-batch's number. It is
            asked ahead of time, and must say the same for the same number.
        sequence: with track=1: the number of a mini-batch → that of the one which began its sequence; None: itself.
        plain: a mini-batch's number → whether its images are not blended with others.

    Raises:
        DarknetError: options that Darknet refuses together, or that are not built; no image has a label file; too few
            labels. While it runs: a lot of images in a row cannot be used. (An image that cannot be read, or the labels
            of which are malformed, is named in a warning, and another takes its place.)
    """
    if net.channels not in (1, 3, 4):
        raise DarknetError(f"[net] channels={net.channels}: an image file has 1, 3 or 4 channels")
    if isinstance(needs, ClassNeeds):
        _check_labels(dataset, needs)
    elif dataset.kind == "none":
        raise DarknetError(
            f"{dataset.source}: none of its {len(dataset)} images has a label file; "
            f"{dataset.label_file(0)} would be the first one's"
        )
    alone = replace(net, mosaic=0, mixup=0, cutmix=0, mixup_probability=0.0, paste_in_probability=0.0)
    usual = max(net.batch // net.subdivisions, 1) if callable(mini_batch) else mini_batch
    samples = SampleMaker(dataset, net, needs, recipe_for(net, needs), recipe_for(alone, needs), usual, seed)
    requests = _Requests(start, step, mini_batch, size or (net.width, net.height), sequence, plain)
    return _stream(samples, requests, workers)


def _check_labels(dataset: Dataset, needs: ClassNeeds) -> None:
    labels = dataset.labels or dataset.names
    if len(labels) < needs.classes or not needs.classes:
        raise DarknetError(
            f"{dataset.source}: {len(labels)} labels, but the network has {needs.classes} classes; "
            "write labels= in the .data file"
        )


@dataclass(frozen=True)
class _Requests:
    """The mini-batches from `start` on, without end."""

    start: int
    step: int
    mini_batch: int | Callable[[int], int]
    size: Size | Callable[[int], Size]
    sequence: Callable[[int], int] | None = None
    plain: Callable[[int], bool] = lambda number: False

    def __iter__(self) -> Iterator[BatchRequest]:
        for number in itertools.count(self.start, self.step):
            count = self.mini_batch(number) if callable(self.mini_batch) else self.mini_batch
            size = self.size(number) if callable(self.size) else self.size
            begin = self.sequence(number) if self.sequence else number
            yield BatchRequest(number, count, size, begin, self.plain(number))


def _check_shared_memory(requests: _Requests, channels: int, workers: int) -> None:
    """Workers hand their batches over in shared memory; where it is full they die or wait for ever."""
    if not workers or not SHARED_MEMORY.is_dir():
        return
    spread = replace(requests, step=requests.step * LOOKED_AT_EACH)
    pixels = (request.images * request.size[0] * request.size[1] for request in itertools.islice(spread, LOOKED_AT))
    needed = max(pixels) * channels * 4 * (workers * BATCHES_AHEAD + 1) * requests.step  # a step a process
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise DarknetError(
            f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, but the batches of {workers} workers take "
            f"{needed / 1e6:,.0f} MB; use fewer with --workers, or 0, or give it more (docker run --shm-size=2g)"
        )


def _stream(samples: SampleMaker, requests: _Requests, workers: int | None) -> Iterator[ImageBatch]:
    workers = default_workers() if workers is None else workers
    _check_shared_memory(requests, samples.net.channels, workers)
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # so that the global one is left alone
    )
    with _signals_kept():
        stream = _checked(iter(loader))
    atexit.register(_end, weakref.ref(stream))
    return stream


@contextmanager
def _signals_kept() -> Iterator[None]:
    """torch answers a dead worker with an exception wherever its parent happens to be; `next` notices it too, at most 5
    seconds later."""
    is_main = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGCHLD) if is_main else None
    yield
    if is_main and previous is not None:
        signal.signal(signal.SIGCHLD, previous)


def _end(reference: weakref.ref[Generator[ImageBatch, None, None]]) -> None:
    """At the end of Python, which would wait for workers that nobody ended."""
    if (stream := reference()) is not None:
        stream.close()


def default_workers() -> int:
    """As many as this process may use cores, at most MAX_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """A worker uses one core. Ctrl-C, and a request to end that went to all processes, are its parent's business: it
    may still need a batch to finish what it does. A second request is its parent's own."""
    cv2.setNumThreads(0)
    requests: list[int] = []

    def end(number: int, _: Any) -> None:
        if requests:
            os._exit(0)
        requests.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]


def _give_up(_: Exception, __: object) -> None:
    """A worker that cannot hand over a batch (/dev/shm is full) ends, or its parent would wait for ever."""
    os._exit(1)


def _checked(batches: Iterator[Any]) -> Generator[ImageBatch, None, None]:
    """The batches as they come, mistakes raised; a worker that died is one too."""
    try:
        for batch in batches:
            if isinstance(batch, DarknetError):
                raise batch
            yield batch
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, RuntimeError) and "worker" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise DarknetError(
            f"a worker process died ({reason}); memory, or shared memory (/dev/shm), may have run "
            "out; use fewer workers, or 0"
        ) from None
    finally:
        del batches  # the traceback would keep it, and with it its workers
