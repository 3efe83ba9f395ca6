"""Files: where one that a cfg or a list names is, and how one is written so that no reader ever meets half of it."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from darknet_py.errors import DarknetError

if sys.platform != "win32":
    import fcntl

Exists: TypeAlias = Callable[[Path], bool]
MAX_BYTES = 1 << 31  # of a file that is read as a whole; COCO's largest annotations have 0.5 GB
MAX_STEM = 200  # bytes of a name, as most file systems allow 255 with what is added
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"  # process numbers of other machines mean nothing here


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


def open_file(path: str | os.PathLike[str]) -> io.FileIO:
    """Opens a regular file to be read. Devices and pipes, which may never end, are refused.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    try:
        # a pipe is opened without waiting for its writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "this is not a file name") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "a device or a pipe is not a file")
    return open(descriptor, "rb", buffering=0)


def read_file(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes")
        return file.readall()


@contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write to: renamed to `path` when the block succeeds, removed when it fails.

        with replacing("yolov3.weights") as temporary:
            temporary.write_bytes(data)

    The temporary name keeps the extension, as image and video writers choose their format by it. A link's target is
    replaced, not the link; into a device or a pipe, the content is copied.

    Args:
        sync: wait until the content is on the disk, for what a power cut must not take.

    Raises:
        OSError: it cannot be written; `filename` is the path, also where the system names the temporary one, or none
            (a full disk).
    """
    temporary = beside(path)
    _clear_parts(temporary.parent.absolute())
    try:
        yield temporary
        if sync:
            _to_disk(temporary)
        into_place(temporary, path)
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) == os.fspath(temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def into_place(temporary: Path, path: str | os.PathLike[str]) -> None:
    """Gives a finished file, which was written `beside` a path, its name."""
    target = Path(os.path.realpath(path))
    if _is_special(target):
        with temporary.open("rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        temporary.unlink()
    else:
        os.replace(temporary, target)


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, which a file must not replace."""
    return path.exists() and not path.is_file() and not path.is_dir()


def beside(path: str | os.PathLike[str]) -> Path:
    """The temporary name of a file that is being written."""
    if not Path(path).name:
        raise OSError(errno.EINVAL, "this is not a file name")
    target = Path(os.path.realpath(path))
    if _is_special(target):
        target = Path(tempfile.gettempdir()) / target.name
    stem = target.stem
    if len(os.fsencode(stem)) > MAX_STEM:  # the whole name must not be longer than file systems allow
        stem = f"{stem[:8]}-{hashlib.blake2b(os.fsencode(stem), digest_size=8).hexdigest()}"
    return target.with_name(f".{stem}.{MACHINE}-{os.getpid()}.part{target.suffix}")


def _to_disk(path: Path) -> None:
    """A file that got its name before its content would be empty after a power cut."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@functools.cache
def _clear_parts(folder: Path) -> None:
    """Removes what killed processes left behind, once for each folder."""
    for part in folder.glob(".*.part*") if os.name == "posix" else ():
        match = re.search(rf"\.{MACHINE}-(\d+)\.part(\.\w+)?$", part.name)
        if match and not _is_alive(int(match[1])):
            part.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


@contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Holds the lock file `path` while the block runs; on Windows, does nothing. The lock ends with its process,
    however that ends.

    Raises:
        DarknetError: another process holds it; `message`.
    """
    if sys.platform == "win32":
        yield
        return
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by a worker that outlives this process
        except (BlockingIOError, PermissionError):
            raise DarknetError(message) from None
        except OSError:  # a file system without locks
            pass
        yield  # the file stays: whoever has opened it meanwhile must lock the same one


def check_writable(*paths: str | os.PathLike[str] | None, read: Sequence[str | os.PathLike[str] | None] = ()) -> None:
    """Finds out before the work whether its results can be written to these files; None: no file.

    read: files that the work reads, which no result may replace.

    Raises:
        DarknetError: one of them cannot, or is there already as another.
    """
    taken = {os.path.realpath(path): "it is read here" for path in read if path}
    for path in (Path(path) for path in paths if path):
        if (where := os.path.realpath(path)) in taken:
            raise DarknetError(f"{path}: cannot write this file: {taken[where]}; write another name")
        taken[where] = "another result has this name"
        try:
            if path.is_dir():
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            beside(path).touch()
            beside(path).unlink()
        except OSError as error:
            raise DarknetError(f"{path}: cannot write this file: {error.strerror or error}") from None


def write_file(path: str | os.PathLike[str], content: str | bytes, *, sync: bool = True) -> None:
    """Writes a whole file at once; text as UTF-8, with the bytes of another encoding that `text.decoded` has kept.
    sync: see `replacing`."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """An indented JSON file."""
    write_file(path, json_text(value, indent=1) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON with the letters of any language as they are; the bytes of a file name that is not UTF-8 are escaped, and
    numbers that are not finite, which JSON does not have, are null."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
