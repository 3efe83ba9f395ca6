"""Files that no reader ever meets half written: they are made beside their place and renamed into it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path to write to; renamed to `path` when the block ends well, removed when it does not.

        with replacing("yolov3.weights") as temporary:
            temporary.write_bytes(data)

    The temporary name keeps the ending, as writers of pictures and videos choose the format by it.
    """
    temporary = beside(path)
    try:
        yield temporary
        os.replace(temporary, Path(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: str | os.PathLike[str]) -> Path:
    """The temporary name of a file."""
    place = Path(path)
    if not place.name:
        raise OSError(errno.EINVAL, "this is no file name")
    return place.with_name(f".{place.stem}.{os.getpid()}.part{place.suffix}")


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """All of a file at once; text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
