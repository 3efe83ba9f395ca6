"""Arguments of Python calls, checked: a wrong one gets a sentence that says what to write."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from darknet_py.errors import DarknetError


def whole(name: str, value: Any) -> int:
    """A whole number from 1 on.

    Raises:
        DarknetError: it is something else.
    """
    if not isinstance(value, Integral) or value < 1:
        raise DarknetError(f"{name}={value!r}: write a whole number, 1 or more")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        DarknetError: it is something else.
    """
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise DarknetError(f"{name}={value!r}: write a number from 0 to 1")
    return float(value)


def width_and_height(value: Any) -> tuple[int, int]:
    """The size of a network's input, pixels.

    Raises:
        DarknetError: it is something else.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise DarknetError(f"size={value!r}: write (width, height) in pixels, e.g. size=(416, 416)")
    return whole("width in size", value[0]), whole("height in size", value[1])
