"""Exceptions as OpenCV's clients expect them: `cv2.error` with `code`, `err`, `func` and `msg`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from darknet_py.errors import DarknetError

UNSPECIFIED, BAD_ARGUMENT, BAD_SIZE, NOT_FOUND, PARSING, NOT_IMPLEMENTED, ASSERTION = (
    -2,
    -5,
    -201,
    -204,
    -212,
    -213,
    -215,
)
WORDS = {
    UNSPECIFIED: "Unspecified error",
    BAD_ARGUMENT: "Bad argument",
    BAD_SIZE: "Incorrect size of input array",
    NOT_FOUND: "Requested object was not found",
    PARSING: "Parsing error",
    NOT_IMPLEMENTED: "The function/feature is not implemented",
    ASSERTION: "Assertion failed",
}
"""OpenCV's error codes, and its words for them."""


class Cv2Error(cv2.error, DarknetError):
    """What calls of the stand-in raise; `except cv2.error`, `except Exception` and `except DarknetError` catch it.

    code: OpenCV's number. err: the sentence. func: the call. msg: all of it, as `str` gives it.
    """

    def __init__(self, code: int, err: str, func: str) -> None:
        self.code, self.err, self.func, self.file, self.line = code, err, func, "", -1
        self.msg = f"darknet_py: error: ({code}:{WORDS[code]}) {err} in function '{func}'"
        super().__init__(self.msg)


@contextmanager
def as_cv2(code: int, func: str) -> Iterator[None]:
    """A DarknetError in the block becomes a Cv2Error of that code."""
    try:
        yield
    except Cv2Error:
        raise
    except DarknetError as error:
        raise Cv2Error(code, str(error), func) from error
