"""Writes files so that no reader ever sees half of one: beside their target first, then renamed into place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to: renamed to `path` when the block succeeds, removed when it fails.

        with replacing("yolov3.weights") as temporary:
            temporary.write_bytes(data)

    The temporary name keeps the extension, as image and video writers choose their format by it.
    """
    temporary = beside(path)
    try:
        yield temporary
        os.replace(temporary, Path(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: str | os.PathLike[str]) -> Path:
    """The temporary name of a file that is being written."""
    target = Path(path)
    if not target.name:
        raise OSError(errno.EINVAL, "this is not a file name")
    return target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a whole file at once; text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
