"""The language of .cfg files: text in, sections with their options and line numbers out; knows no layer.

    cfg = parse_cfg("cfg/yolov3.cfg")
    cfg.sections[1].name, cfg.sections[1].get("filters").value      # 'convolutional', '32'

The rules are those of Darknet's parser.c:read_cfg and option_list.c: white space counts nowhere, a line that begins with
``#`` or ``;`` is a comment, a comment behind a value is NOT removed (numbers survive it), and of a repeated option the first wins.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from darknet_py.bundled import or_bundled
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.files import folders_around, locate

LARGEST_FILE = 16 << 20  # bytes; the largest official cfg has 60 kB, so a larger file is not a cfg
LONGEST_SHOWN = 80  # characters of a value or name in a message
_SPACE = str.maketrans("", "", " \t\r\n\v\f")


@dataclass(frozen=True)
class Option:
    """One ``key=value`` line: all white space is gone; `value` is None where the line had no ``=``."""

    key: str
    value: str | None
    line: int

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={self.value}"


@dataclass
class Section:
    """One ``[name]`` and the options below it, in the order of the file, repeats included."""

    name: str
    line: int
    options: list[Option] = field(default_factory=list)
    first: dict[str, Option] = field(default_factory=dict)

    def add(self, option: Option) -> None:
        self.options.append(option)
        self.first.setdefault(option.key, option)

    def get(self, key: str) -> Option | None:
        """The option that counts: the first of that name, as in Darknet; None where there is none."""
        return self.first.get(key)


@dataclass
class Cfg:
    """A parsed .cfg. `path` is used in messages, and to find files that options name; `lines` is the text as it was written."""

    path: str
    sections: list[Section]
    lines: list[str]
    strict: bool = False

    @property
    def text(self) -> str:
        """The whole file, as it was written."""
        return "\n".join(self.lines)

    def message(self, section: Section | None, option: Option | str | None, text: str, line: int | None = None) -> str:
        """The one form of every message: ``file:line: [section] option=value: text``."""
        if line is None:
            line = option.line if isinstance(option, Option) else section.line if section else 1
        where = f"{self.path}:{line}:"
        if section is not None:
            where += f" [{shortened(section.name)}]"
        if option is not None:
            where += f" {shortened(str(option))}"
        return f"{where}: {text}" if section is not None or option is not None else f"{where} {text}"

    def fail(
        self, section: Section | None, option: Option | str | None, text: str, line: int | None = None
    ) -> NoReturn:
        raise CfgError(self.message(section, option, text, line))

    def warn(self, section: Section | None, option: Option | str | None, text: str, line: int | None = None) -> None:
        """Warns with CfgWarning; with `strict`, the same is an error."""
        if self.strict:
            self.fail(section, option, text, line)
        warnings.warn(self.message(section, option, text, line), CfgWarning, stacklevel=2)

    def find_file(self, name: str) -> Path | None:
        """A file that an option names, in the current folder as in Darknet, or around the cfg; None if it is not there."""
        return locate(name, folders_around(self.path), os.path.isfile)


def shortened(text: str) -> str:
    """For messages: a long text cut to its beginning."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def parse_cfg(source: str | os.PathLike[str], *, strict: bool = False) -> Cfg:
    """Reads a .cfg file.

    Args:
        source: path of the file; where there is none, the bundled file of that name is read (cfg/yolov3.cfg).
        strict: treat every warning (repeated or unknown options, values that Darknet reads only in part) as an error.

    Raises:
        CfgError: the file cannot be read, is no text, is empty, or breaks the language (options before the first section …).
    """
    path = or_bundled(source)
    try:
        size = os.path.getsize(path)
        data = Path(path).read_bytes() if size <= LARGEST_FILE else b""
    except OSError as error:
        raise CfgError(f"{path}: cannot read this cfg: {error.strerror or error}") from None
    except ValueError:
        raise CfgError(f"{path!r}: this is no file name") from None
    if size > LARGEST_FILE:
        raise CfgError(f"{path}: {size} bytes are too many for a .cfg; is it a .weights file?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CfgError(f"{path}: this text is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise CfgError(f"{path}: this is a binary file, not a .cfg; are cfg and weights exchanged?")
    return parse_text(data.decode("utf-8-sig", errors="replace"), path, strict=strict)


def parse_text(text: str, path: str = "<text>", *, strict: bool = False) -> Cfg:
    """`parse_cfg` for a cfg that is at hand as text; `path` is what messages call it."""
    lines = text.split("\n")
    cfg = Cfg(path, [], lines, strict)
    for number, stripped in _meaningful(lines):
        if stripped.startswith("["):
            cfg.sections.append(_section(cfg, stripped, number))
        elif not cfg.sections:
            cfg.fail(
                None, Option(stripped, None, number), "an option before the first section; a cfg begins with [net]"
            )
        else:
            _add_option(cfg, cfg.sections[-1], stripped, number)
    if not cfg.sections:
        cfg.fail(None, None, "no section at all; a cfg begins with [net]")
    return cfg


def _meaningful(lines: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        stripped = line.translate(_SPACE)
        if stripped and stripped[0] not in "#;":
            yield number, stripped


def _section(cfg: Cfg, stripped: str, line: int) -> Section:
    match = re.fullmatch(r"\[([^\[\]]+)\]", stripped)
    if match is None:
        cfg.fail(
            None,
            Option(stripped, None, line),
            "a section is a name in brackets, alone on its line; write e.g. [convolutional]",
        )
    return Section(match[1], line)


def _add_option(cfg: Cfg, section: Section, stripped: str, line: int) -> None:
    key, equals, value = stripped.partition("=")
    option = Option(key, value if equals else None, line)
    if not equals:
        cfg.warn(section, option, "no value, Darknet takes the default; write key=value")
    elif not value:
        cfg.warn(section, Option(stripped, None, line), "no value, Darknet drops this line and takes the default")
        return
    first = section.get(key)
    if first is not None:
        cfg.warn(section, option, f"given a second time; the first counts ({first} at line {first.line}); remove one")
    section.add(option)
