"""The small text files around a model: .names (a class per line) and .data (key = value), as Darknet reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from darknet_py.bundled import or_bundled
from darknet_py.cfg import parse_text
from darknet_py.errors import DarknetError
from darknet_py.files import folders_around, locate


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """A text file's contents without a byte-order mark.

    Raises:
        DarknetError: it cannot be read, or is no text.
    """
    path = or_bundled(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DarknetError(f"{path}: cannot read this {what}: {error.strerror or error}") from None
    if b"\0" in data[:4096]:
        raise DarknetError(f"{path}: this is a binary file, not a {what}")
    return data.decode("utf-8-sig", errors="replace")


def read_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    """The lines of a list file: stripped, without empty ones."""
    return [line.strip() for line in read_text(path, what).splitlines() if line.strip()]


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Class names, one per line; the line's number is the class."""
    lines = [line.strip() for line in read_text(path, "names file").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def class_names(names: str | os.PathLike[str] | Sequence[str] | None, classes: int) -> list[str]:
    """Class names as a user gives them: the path of a names file, or the names; None: the numbers of the classes."""
    if names is None:
        return [str(index) for index in range(classes)]
    return read_names(names) if isinstance(names, (str, os.PathLike)) else list(names)


def read_data(path: str | os.PathLike[str]) -> dict[str, str]:
    """A .data file: `classes`, `train`, `valid`, `names`, `backup` … The first of a repeated key counts.

    Raises:
        DarknetError: it cannot be read, or a line is no `key=value`.
    """
    path = or_bundled(path)
    section = parse_text("[data]\n" + read_text(path, "data file"), path).sections
    if len(section) > 1:
        raise DarknetError(f"{path}: a data file has no sections; is this a cfg?")
    return {option.key: option.value or "" for option in reversed(section[0].options)}


def find_beside(name: str, data: str | os.PathLike[str]) -> Path:
    """A file that a .data file names, in the current folder or around the .data file; the name itself if it is not
    there."""
    return locate(name, folders_around(data)) or Path(name)


def names_file(options: Mapping[str, str], data: str | os.PathLike[str]) -> Path | None:
    """The names file of a .data file with these `options`: its `names`, or else its `labels`; None: it has neither."""
    name = options.get("names") or options.get("labels")
    return find_beside(name, data) if name else None
