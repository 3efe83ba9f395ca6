"""The language of .cfg files, where everything begins: text → sections with options and line numbers; knows no layer.

    cfg = parse_cfg("cfg/yolov3.cfg")
    cfg.sections[1].name, cfg.sections[1].get("filters").value      # 'convolutional', '32'

The rules are those of Darknet's parser.c:read_cfg and option_list.c: all white space is ignored, a line that begins
with ``#`` or ``;`` is a comment, a comment after a value is NOT removed (numbers survive it), and the first of repeated
options counts.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from darknet_py.bundled import or_bundled
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.files import folders_around, locate, read_file
from darknet_py.metadata import is_safetensors, read_model
from darknet_py.text import decoded, is_binary, shortened

MAX_WARNINGS = 100  # of a cfg; more are counted
MAX_FILE_BYTES = 16 << 20  # the largest official cfg has 60 kB: a file beyond this is not a cfg
_SPACE = str.maketrans("", "", " \t\r\n")  # option_list.c:strip leaves vertical tabs and form feeds


@dataclass(frozen=True)
class Option:
    """One ``key=value`` line, without white space; `value` is None where the line has no ``=``."""

    key: str
    value: str | None
    line: int

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={self.value}"


@dataclass
class Section:
    """One ``[name]`` and the options below it, in the order of the file, repeated ones included."""

    name: str
    line: int
    options: list[Option] = field(default_factory=list)
    first: dict[str, Option] = field(default_factory=dict)

    def add(self, option: Option) -> None:
        self.options.append(option)
        self.first.setdefault(option.key, option)

    def get(self, key: str) -> Option | None:
        """The first option of that name, which is the one that Darknet uses; None: the section has none."""
        return self.first.get(key)


@dataclass
class Cfg:
    """A parsed .cfg.

    `path` appears in messages, and is where files that options name are looked for. `lines` is the text as written.
    `attached` holds the contents of these files once they were read, or where they came with the cfg.
    `strict`: warnings are errors.
    """

    path: str
    sections: list[Section]
    lines: list[str]
    strict: bool = False
    stops: list[str] = field(default_factory=list)  # messages of `stop`
    attached: dict[str, str] = field(default_factory=dict)  # contents of files that options name, by these names
    names: list[str] | None = None  # class names that came with it
    groups: dict[tuple[str, str, str], list[str]] | None = None  # warnings that wait; see `grouped`

    @property
    def text(self) -> str:
        """The whole file, as written."""
        return "\n".join(self.lines)

    def message(self, section: Section | None, option: Option | str | None, text: str, line: int | None = None) -> str:
        """The form of all messages: ``file:line: [section] option=value: text``."""
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
        """Raises a CfgError at an option, at a section, or (both None) at a line of the file."""
        raise CfgError(self.message(section, option, text, line))

    def warn(self, section: Section | None, option: Option | str | None, text: str, line: int | None = None) -> None:
        """Gives a CfgWarning; if the cfg is `strict`, raises a CfgError."""
        if self.strict:
            self.fail(section, option, text, line)
        message = self.message(section, option, text, line)
        if self.groups is None:
            warnings.warn(message, CfgWarning, stacklevel=2)
        else:
            key = (section.name if section else "", str(option), text)
            self.groups.setdefault(key, []).append(message)

    @contextmanager
    def grouped(self) -> Iterator[None]:
        """Warnings that differ in their line alone become one, at the first, that counts them."""
        self.groups = {}
        try:
            yield
        finally:
            groups, self.groups = self.groups, None
            for messages in itertools.islice(groups.values(), MAX_WARNINGS):
                others = len(set(messages)) - 1
                more = f" (and so in {others} more section{'s' * (others > 1)})" if others else ""
                warnings.warn(messages[0] + more, CfgWarning, stacklevel=2)
            if len(groups) > MAX_WARNINGS:
                text = f"{self.path}: {len(groups) - MAX_WARNINGS} more warnings"
                warnings.warn(text, CfgWarning, stacklevel=2)

    def stop(self, section: Section, option: Option | str | None, text: str) -> None:
        """What Darknet stops at, though a network can be run: a warning here, an error when it is trained."""
        self.refuse_training(section, option, f"Darknet stops here: {text}")

    def refuse_training(self, section: Section, option: Option | str | None, text: str) -> None:
        """What spoils a training, but not detection: a warning here, an error when the network is trained."""
        self.stops.append(self.message(section, option, text))
        self.warn(section, option, text)

    def find_file(self, name: str) -> Path | None:
        """A file that an option names: in the current folder, as in Darknet, or near the cfg; None: not found."""
        return locate(name, folders_around(self.path), os.path.isfile)

    def with_text(self, text: str) -> Cfg:
        """A cfg of another text; what came with this one stays. Warnings, which this one has given, are left out."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CfgWarning)
            result = parse_text(text, self.path)
        result.attached, result.names = dict(self.attached), self.names
        return result

    def with_options(self, options: Mapping[int, Mapping[str, int]]) -> Cfg:
        """A cfg with other values of options, by the layer's index and the option's name; other lines are kept."""
        lines = list(self.lines)
        for layer, values in options.items():
            section = self.sections[layer + 1]
            for name, value in values.items():
                if (option := section.get(name)) is not None:
                    lines[option.line - 1] = f"{name}={value}"
                else:
                    lines[section.line - 1] += f"\n{name}={value}"
        return self.with_text("\n".join(lines))

    def upto(self, layer: int) -> Cfg:
        """A cfg of the layers before this one."""
        sections = self.sections[layer + 1 :]
        return self.with_text("\n".join(self.lines[: sections[0].line - 1] if sections else self.lines))


def parse_cfg(source: str | os.PathLike[str], *, strict: bool = False) -> Cfg:
    """Reads a .cfg file.

    Args:
        source: path of the file, or of a .safetensors file that carries its cfg; if it does not exist, the bundled file
            of that name is read (cfg/yolov3.cfg).
        strict: treat warnings (repeated or unknown options, values that Darknet reads only in part) as errors.

    Raises:
        CfgError: the file cannot be read, is not text, is empty, or breaks a rule of the language (an option before the
            first section …). WeightsError: a .safetensors file cannot be read, or has no cfg.
    """
    path = or_bundled(source)
    if is_safetensors(path):
        about = read_model(path)
        cfg = parse_text(about.cfg, path, strict=strict)
        cfg.names, cfg.attached = about.names, about.attached
        return cfg
    try:
        data = read_file(path, MAX_FILE_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            size = os.path.getsize(path)
            raise CfgError(f"{path}: {size} bytes is too large for a .cfg; is it a .weights file?") from None
        raise CfgError(f"{path}: cannot read this cfg: {error.strerror or error}") from None
    if is_binary(data):
        raise CfgError(f"{path}: this is a binary file, not a .cfg; are the cfg and the weights swapped?")
    return parse_text(decoded(data, path), path, strict=strict)


def parse_text(text: str, path: str = "<text>", *, strict: bool = False) -> Cfg:
    """`parse_cfg` for a cfg in memory; `path` is what messages call it."""
    lines = text.split("\n")
    cfg = Cfg(path, [], lines, strict)
    with cfg.grouped():
        for number, stripped in _meaningful(lines):
            if stripped.startswith("["):
                cfg.sections.append(_section(cfg, stripped, number))
            elif not cfg.sections:
                text = "an option before the first section; a cfg begins with [net]"
                cfg.fail(None, Option(stripped, None, number), text)
            else:
                _add_option(cfg, cfg.sections[-1], stripped, number)
    if not cfg.sections:
        cfg.fail(None, None, "the file has no sections; a cfg begins with [net]")
    return cfg


def _meaningful(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Line numbers and lines without white space; empty lines and comments are left out."""
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
        cfg.warn(section, option, "no value, Darknet uses the default; write key=value")
    elif not value:
        cfg.warn(
            section,
            Option(stripped, None, line),
            "no value, Darknet drops this line and uses the default; write a value",
        )
        return
    first = section.get(key)
    if first is not None:
        cfg.warn(section, option, f"given a second time; the first counts ({first} at line {first.line}); remove one")
    section.add(option)
