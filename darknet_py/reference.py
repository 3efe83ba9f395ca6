"""The reference of cfg options, made from what the layers declare; docs/OPTIONS.md is `options_page()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from darknet_py.errors import DarknetError
from darknet_py.layers import KINDS, NetOptions
from darknet_py.layers.layer import LayerOptions
from darknet_py.options import cfg_name, meaning_of

MAX_CHOICES = 8  # longer lists of choices are not printed after an option's meaning

USES = {
    "forward": "",
    "load": "",
    "training": "training",
    "untrained": "training, not implemented",
    "none": "no effect here",
    "refused": "not implemented",
}
"""An option's use → its mark in the reference."""
OWN = "this project's own"

INTRODUCTION = """# Options

The options of every section, with Darknet's defaults. Written by `python -m darknet_py.summary --options`.

- *(no mark)*: honoured in inference, decoding or loading.
- **training**: used in training only.
- **training, not implemented**: would affect training only; training warns and continues without it.
- **no effect here**: Darknet reads it, but it changes no result (memory, streams, display).
- **not implemented**: any value but the default is an error.
- **this project's own**: read by darknet_py only; the C program ignores it.

In the text of a cfg, a comment may stand behind a number. Behind a list it ends the list where the meaning says so;
elsewhere Darknet reads on through it, up to the last comma.

An option that is not listed is unknown to Darknet too, and gives a warning with its file and line.
"""


class OptionLine(NamedTuple):
    """One option of a section, as text."""

    name: str
    type: str
    default: str
    marks: tuple[str, ...]
    meaning: str


def option_lines(options: type) -> Iterator[OptionLine]:
    """The options that a section's dataclass declares."""
    for field in dataclasses.fields(options):
        meaning = meaning_of(field)
        default = "" if field.default is None or field.default == () else str(field.default)
        choices = f" ({', '.join(meaning.choices)})" if 0 < len(meaning.choices) <= MAX_CHOICES else ""
        field_type = str(field.type).removesuffix(" | None")
        marks = tuple(mark for mark in (USES[meaning.use], OWN if meaning.own else "") if mark)
        ending = "; a # ends the list" if meaning.hash_ends else ""
        yield OptionLine(cfg_name(field), field_type, default, marks, meaning.text + choices + ending)


def option_table(section: str) -> str:
    """The options of a section as text, a line each.

    Raises:
        DarknetError: there is no such section.
    """
    sections: dict[str, type] = {"net": NetOptions, "network": NetOptions}
    sections |= {name: kind.Options for name, kind in KINDS.items()}
    if section not in sections:
        raise DarknetError(f"there is no section [{section}]; the sections are {', '.join(sections)}")
    lines = list(option_lines(sections[section]))
    width = max(len(line.name) + len(line.default) for line in lines) + 3
    return "\n".join(
        f"{f'{line.name}={line.default}':{width}} {line.meaning}" + "".join(f" [{mark}]" for mark in line.marks)
        for line in lines
    )


def options_page() -> str:
    """The reference of all sections as Markdown."""
    common = {line.name for line in option_lines(LayerOptions)}
    parts = [
        INTRODUCTION,
        _markdown("[net] and [network]", list(option_lines(NetOptions))),
        _markdown("Every layer", list(option_lines(LayerOptions))),
    ]
    for kind in dict.fromkeys(KINDS.values()):
        names = " and ".join(f"[{name}]" for name, named_kind in KINDS.items() if named_kind is kind)
        names += f" ({OWN})" if kind.own else ""
        parts.append(_markdown(names, [line for line in option_lines(kind.Options) if line.name not in common]))
    return "\n".join(parts)


def _markdown(title: str, lines: list[OptionLine]) -> str:
    if not lines:
        return f"## {title}\n\nNo options of its own.\n"
    rows = [
        f"| {line.name} | {line.type} | {line.default} | {_marks(line)}{line.meaning} |".replace("  ", " ")
        for line in lines
    ]
    return "\n".join([f"## {title}\n", "| option | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _marks(line: OptionLine) -> str:
    return f"**{', '.join(line.marks)}** " if line.marks else ""
