"""The forms of results that changed with OpenCV 4.5.4: flat arrays and tuples since, columns and lists before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

columns = False
"""True: the forms of OpenCV up to 4.5.3, ids as (n, 1), and lists. `install(columns=True)` sets it."""


def column(values: NDArray[Any]) -> NDArray[Any]:
    """(n,) as it is, or as (n, 1)."""
    return values.reshape(-1, 1) if columns else values


def names(values: Iterable[str]) -> Sequence[str]:
    return list(values) if columns else tuple(values)


def outputs(values: Iterable[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    return list(values) if columns else tuple(values)


@lru_cache
def warn_once(text: str) -> None:
    """Gives a warning the first time."""
    warnings.warn(text, stacklevel=4)
