"""Files that no reader ever meets half written: they are made beside their place and renamed into it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """An indented JSON file."""
    write_file(path, json_text(value, indent=1) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON with the letters of any language as they are; the bytes of a file name that is not UTF-8 are escaped."""
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def fresh_folder(parent: Path, prefix: str) -> Path:
    """Creates `runs/detect-1`, or the next number that is free."""
    number = 1
    while True:
        folder = parent / f"{prefix}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
