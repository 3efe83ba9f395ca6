"""What is written behind is written in order, all of it, and a failure is not lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest

from darknet_py.pictures.threads import Behind


def test_calls_are_made_in_order_in_another_thread() -> None:
    made: list[int] = []
    with Behind(lambda number: made.append(number) or threading.get_ident(), 2) as writer:
        results = [writer.call(number) for number in range(50)]
    assert made == list(range(50))
    assert {result.result() for result in results}.isdisjoint({threading.get_ident()})


def test_no_more_calls_wait_than_are_allowed() -> None:
    go = threading.Event()
    started = threading.Semaphore(0)
    with Behind(lambda: started.release() or go.wait(), 2) as writer:
        writer.call()
        writer.call()
        third = threading.Thread(target=writer.call)
        third.start()
        third.join(0.2)
        assert third.is_alive()
        go.set()
        third.join()


def full(number: int) -> None:
    if number == 3:
        raise OSError("disk full")


def write(numbers: Iterable[int], waiting: int) -> None:
    with Behind(full, waiting) as writer:
        for number in numbers:
            writer.call(number)


def test_a_failure_is_raised_at_a_later_call_or_at_the_end() -> None:
    with pytest.raises(OSError, match="disk full"):
        write(range(1000), waiting=1)
    with pytest.raises(OSError, match="disk full"):
        write([3], waiting=10)


def interrupted() -> Iterator[int]:
    yield 3
    raise KeyboardInterrupt


def test_the_callers_own_failure_comes_first() -> None:
    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), waiting=10)
