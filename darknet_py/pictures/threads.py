"""Images read, and results written, by threads while the network runs: what detection and evaluation share."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from darknet_py.errors import ImageError

T = TypeVar("T")
MAX_THREADS = 8


def read_ahead(paths: Iterable[str], read: Callable[[str], T], ahead: int) -> Iterator[tuple[str, T | ImageError]]:
    """(path, `read(path)`) of each path in order; an image that cannot be read is yielded as its ImageError.

    Args:
        read: called in threads. ahead: how many images are read, or being read, before they are taken.
    """
    rest = iter(paths)
    waiting: deque[tuple[str, Future[T]]] = deque()
    pool = ThreadPoolExecutor(min(os.cpu_count() or 2, MAX_THREADS))
    try:
        while True:
            for path in islice(rest, ahead - len(waiting)):
                waiting.append((path, pool.submit(read, path)))
            if not waiting:
                return
            path, future = waiting.popleft()
            try:
                content: T | ImageError = future.result()
            except ImageError as error:
                content = error
            yield path, content
    finally:
        pool.shutdown(cancel_futures=True)


class Behind(Generic[T]):
    """Calls a function in a thread, in order, while the caller goes on; an exception is raised at a later call or at
    the end."""

    def __init__(self, function: Callable[..., T], most: int) -> None:
        """most: calls that may wait; more make the caller wait."""
        self._function, self._most = function, most
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[T]] = deque()

    def call(self, *arguments: object) -> Future[T]:
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._function, *arguments))
        return self._waiting[-1]

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().result()
        except Exception:
            if kind is None:
                raise
        finally:
            self._pool.shutdown(cancel_futures=True)


def batched(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Lists of up to `count` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch
