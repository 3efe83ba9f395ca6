"""The small text files beside a model, as Darknet reads them: .names (a class per line) and .data (key = value)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from darknet_py.bundled import or_bundled
from darknet_py.cfg import parse_text
from darknet_py.errors import DarknetError
from darknet_py.files import folders_around, locate, read_file
from darknet_py.text import decoded, is_binary, printable


def read_text(path: str | os.PathLike[str], what: str, *, guess: bool = False) -> str:
    """A text file's contents without a byte-order mark; `what` is what messages call the file; guess: see `decoded`.

    Raises:
        DarknetError: it cannot be read, or is not text.
    """
    path = or_bundled(path)
    try:
        data = read_file(path)
    except OSError as error:
        raise DarknetError(f"{path}: cannot read this {what}: {error.strerror or error}") from None
    if is_binary(data):
        raise DarknetError(f"{path}: this is a binary file, not a {what}")
    return decoded(data, path, guess=guess)


def read_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    """The non-empty lines of a file, stripped; a line ends at a line feed alone, as in Darknet."""
    return [line.strip() for line in read_text(path, what).split("\n") if line.strip()]


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Class names, a line each, `printable`; the class is the line's number, counted from 0."""
    lines = [printable(line.strip()) for line in read_text(path, "names file", guess=True).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def class_names(names: str | os.PathLike[str] | Sequence[str] | None, classes: int) -> list[str]:
    """Class names from the path of a names file, or from a sequence of names; None: the class numbers.

    Raises:
        DarknetError: the file cannot be read, or `names` is none of these.
    """
    if names is None:
        return [str(index) for index in range(classes)]
    if isinstance(names, (str, os.PathLike)):
        return read_names(names)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DarknetError(f"names={names!r}: write the path of a .names file, or a list of the classes' names")
    return list(names)


def read_data(path: str | os.PathLike[str]) -> dict[str, str]:
    """A .data file: `classes`, `train`, `valid`, `names`, `backup` … Of repeated keys, the first counts.

    Raises:
        DarknetError: it cannot be read, or a line is not `key=value`.
    """
    path = or_bundled(path)
    section = parse_text("[data]\n" + read_text(path, "data file"), path).sections
    if len(section) > 1:
        raise DarknetError(f"{path}: a data file has no sections; is this a cfg?")
    return {option.key: option.value or "" for option in reversed(section[0].options)}


def find_beside(name: str, data: str | os.PathLike[str]) -> Path:
    """A file that a .data file names, in the current folder or near the .data file; if not found, the name itself."""
    return locate(name, folders_around(data)) or Path(name)


def names_file(options: Mapping[str, str], data: str | os.PathLike[str]) -> Path | None:
    """The names file of the .data file `data`, whose keys are `options`: `names`, or else `labels`; None: neither."""
    name = options.get("names") or options.get("labels")
    return find_beside(name, data) if name else None
