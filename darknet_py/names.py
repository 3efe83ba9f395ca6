"""The small text files beside a model, as Darknet reads them: .names (a class per line) and .data (key = value); a
data.yaml is read as both."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darknet_py.bundled import or_bundled
from darknet_py.cfg import Cfg
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import base_folder, folders_around, locate, read_file
from darknet_py.text import decoded, is_binary, printable, shortened


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
    return stripped_lines(read_text(path, what))


def stripped_lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def named_text(cfg: Cfg, name: str, what: str) -> str | None:
    """The contents of a file that an option of the cfg names; None: there is no such file. Once read, they stay."""
    if name not in cfg.attached:
        path = cfg.find_file(name)
        if path is None:
            return None
        cfg.attached[name] = read_text(path, what)
    return cfg.attached[name]


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Class names, a line each, `printable`; the class is the line's number, counted from 0. Of a data.yaml, its
    `names`."""
    if is_yaml(path):
        return _yaml_names(path, read_yaml(path))
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


class DataFile(dict[str, str]):
    """The keys of a .data file with their values, and the line of each."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path, self.lines = os.fspath(path), dict[str, int]()

    def add(self, key: str, value: str, line: int) -> None:
        """Of repeated keys the first counts, as in Darknet; a key without a value is left out."""
        text = "" if value else "no value, so this line is left out; write key=value"
        if value and key in self:
            text = f"given a second time; the first counts (line {self.lines[key]}); remove one"
        if text:
            warnings.warn(f"{self.path}:{line}: {shortened(f'{key}={value}')}: {text}", CfgWarning, stacklevel=2)
        else:
            self[key], self.lines[key] = value, line

    def where(self, key: str) -> str:
        """How a message names a key: `obj.data:1: classes=3`."""
        line = f":{self.lines[key]}" if key in self.lines else ""
        return f"{self.path}{line}: {shortened(f'{key}={self[key]}')}"

    def count(self, key: str) -> int | None:
        """A key's value as a number; None where the key is not there.

        Raises:
            DarknetError: it is no number, or too large a one to be a count of something.
        """
        if key not in self:
            return None
        number = re.match(r"[0-9]{1,9}(?![0-9])", self[key])  # what follows it does not count, as in C
        if number is None:
            raise DarknetError(f"{self.where(key)}: not a number; write e.g. {key}=2")
        return int(number[0])


def read_data(path: str | os.PathLike[str]) -> DataFile:
    """A .data file: `classes`, `train`, `valid`, `names`, `backup` … Spaces inside a value stay (Darknet leaves all of
    them out, and so finds no path that has one); quotes around it do not.

    A data.yaml (Roboflow, Ultralytics) is read too: its `val` is `valid`, its `nc` is `classes`, and it is itself the
    file of its names.

    Raises:
        DarknetError: it cannot be read, or is not such a file.
    """
    path = or_bundled(path)
    if is_yaml(path):
        return _yaml_data(path, read_yaml(path))
    options = DataFile(path)
    for number, line in enumerate(read_text(path, "data file").split("\n"), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        where = f"{path}:{number}: {shortened(key)}"
        if key.startswith("["):
            raise DarknetError(f"{where}: a data file has no sections; is this a cfg?")
        if not equals and re.match(r"\w+:(\s|$)", key):
            raise DarknetError(f"{where}: this is YAML; name the file data.yaml, or write key=value")
        if (key or equals) and not key.startswith(("#", ";")):
            options.add(key, unquoted(value), number)
    return options


def is_yaml(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in (".yaml", ".yml")


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        DarknetError: it cannot be read, has no keys, or PyYAML is not installed.
    """
    text = read_text(path, "data file")
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise DarknetError(
            f"{path}: this is YAML, which needs PyYAML: pip install pyyaml; or write a .data file with the lines "
            "classes=, train=, valid= and names="
        ) from None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise DarknetError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DarknetError(f"{path}: a data.yaml has the keys train, val and names; this file has no keys")
    return {str(key): value for key, value in content.items()}


def _yaml_data(path: str | os.PathLike[str], content: dict[str, Any]) -> DataFile:
    options, folder = DataFile(path), content.get("path")
    for key, theirs in (("train", "train"), ("valid", "val")):
        value = content.get(theirs)
        if value is not None and not isinstance(value, str):
            raise DarknetError(f"{path}: {theirs}: write one folder, or one list of images, in one line")
        if value:
            inside = f"{folder}/{value}" if isinstance(folder, str) else value
            options[key] = inside if find_beside(inside, path).exists() else value
    if "names" in content:
        options["names"] = os.fspath(path)
        count = content.get("nc", len(_yaml_names(path, content)))
        options["classes"] = str(count) if isinstance(count, int) else "?"
    return options


def _yaml_names(path: str | os.PathLike[str], content: dict[str, Any]) -> list[str]:
    """`names` as a list, or as numbers with names."""
    names = content.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(one, (str, int, float)) for one in names):
        raise DarknetError(f"{path}: names: write a list, or a line 'number: name' for each class, from 0 on")
    return [printable(str(name)) for name in names]


def unquoted(value: str) -> str:
    """A value without white space at its ends, and without the quotes around it."""
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def find_files(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The paths of the files of a list. Relative ones all start in the same folder, that of the first one found; they
    are taken as written, or else without their first folder, as CVAT writes `data/train.txt` for a file beside the
    .data file, and Roboflow `../train/images`. Where a name with backslashes is not found, they are slashes.

    Args:
        names: as written, perhaps in quotes. folders: where to look, the first one where nothing is found.
    """

    def forward(name: str) -> str:
        return name if "\\" not in name or locate(name, folders) else name.replace("\\", "/")

    def joined(folder: Path, name: str) -> str:
        return name if folder == Path() else os.path.join(folder, name)

    names = [forward(unquoted(name)) for name in names]
    relative = [name for name in names if not os.path.isabs(name)]
    folder = base_folder(relative, folders)
    if folder is None:
        shorter = {name: name.partition("/")[2] or name for name in relative}
        if (base := base_folder(shorter.values(), folders)) is not None:
            return [joined(base, shorter.get(name, name)) for name in names]
    return [joined(folder or folders[0], name) for name in names]


def find_beside(name: str, data: str | os.PathLike[str]) -> Path:
    """A file that a .data file names, in the current folder or near the .data file; if not found, the name itself."""
    return Path(find_files([name], folders_around(data))[0])


def names_file(options: Mapping[str, str], data: str | os.PathLike[str]) -> Path | None:
    """The names file of the .data file `data`, whose keys are `options`: `names`, or else `labels`; None: neither."""
    name = options.get("names") or options.get("labels")
    return find_beside(name, data) if name else None
