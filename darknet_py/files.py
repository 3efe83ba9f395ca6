"""Files: where one that a cfg or a list names is, and how one is written so that no reader ever meets half of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

Exists: TypeAlias = Callable[[Path], bool]


def folders_around(path: str | os.PathLike[str]) -> list[Path]:
    """Where a file that the file `path` names may be: in the current folder, from which Darknet opens it, or in the
    folder of `path` or one of those around it, as cfgs say `tree=data/9k.tree` and lie in `cfg/`."""
    return [Path(), *Path(path).resolve().parents[:4]]


def base_folder(names: Iterable[str], folders: Iterable[Path], exists: Exists = os.path.exists) -> Path | None:
    """The folder from which relative names start: of the first name that is found at all, the first folder that has
    it."""
    folders = list(folders)
    return next((folder for name in names for folder in folders if exists(folder / name)), None)


def locate(name: str, folders: Iterable[Path], exists: Exists = os.path.exists) -> Path | None:
    """A file by its name, in the first of the folders that has it; None if none has."""
    folder = base_folder([name], folders, exists)
    return None if folder is None else folder / name


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
    """Writes a whole file at once; text as UTF-8, with the bytes of another encoding that `text.decoded` has kept."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)


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


def remove_empty(folder: Path) -> None:
    """Removes a fresh folder into which nothing was written, and its parent if that is empty then."""
    for one in (folder, folder.parent):
        try:
            one.rmdir()
        except OSError:
            return
