"""Typed options: from the strings of a cfg section to a frozen dataclass with Darknet's names, defaults and number rules.

A layer kind declares what it reads as fields made by `option`; `read_options` fills them. The declaration is the documentation:
`python -m darknet_py.summary --options` prints it, and docs/OPTIONS.md is made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from darknet_py.cfg import Cfg, Option, Section, shortened

Use = Literal["forward", "load", "training", "untrained", "none", "refused"]
"""What an option bears on: the numbers of a forward pass (or of decoding), how weights are loaded, training alone, a part of training
that is not built (training says so, and goes on without it), no number at all (memory, streams, display: Darknet reads it, we have
nothing to do), or a forward pass that is not built (any value but the default is an error)."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MAX_INT = 2**31 - 1
MAX_FLOAT = 3.4028234663852886e38


@dataclass(frozen=True)
class Meaning:
    """What is known of an option beside its type and default."""

    text: str
    use: Use
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    otherwise: str | None = None  # Darknet's choice for a word it does not know; None: it stops
    own: bool = False  # a word of this project, unknown to Darknet


def option(
    default: Any,
    text: str,
    *,
    use: Use = "forward",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    otherwise: str | None = None,
    own: bool = False,
) -> Any:
    """A field of an options class: Darknet's default, the meaning with its unit, the range, the words it may be."""
    meaning = Meaning(text, use, minimum, maximum, choices, otherwise, own)
    return dataclasses.field(default=default, metadata={"meaning": meaning})


def cfg_name(field: dataclasses.Field[Any]) -> str:
    """The option's name in a cfg: `from_` is `from`, which Python keeps for itself."""
    return field.name.rstrip("_")


def meaning_of(field: dataclasses.Field[Any]) -> Meaning:
    return field.metadata["meaning"]


T = TypeVar("T")


def read_options(kind: type[T], cfg: Cfg, section: Section) -> T:
    """The section's options as an instance of the dataclass `kind`.

    An option that `kind` does not declare is unknown to Darknet too: a warning (an error when the cfg is strict) with the
    closest known name.

    Raises:
        CfgError: a value that is no number, is out of range, or is no word that Darknet knows where it would stop.
    """
    fields = {cfg_name(field): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for given in section.options:
        field = fields.get(given.key)
        if field is None:
            closest = difflib.get_close_matches(given.key, fields, n=1)
            advice = f"; did you mean '{closest[0]}'?" if closest else "; remove it"
            cfg.warn(section, given, f"unknown option, Darknet ignores it{advice}")
        elif given.value is not None and section.get(given.key) is given:  # the first counts; cfg.py has warned
            value = _value(cfg, section, given, types[field.name], meaning_of(field))
            if meaning_of(field).use == "refused" and value != field.default:
                cfg.fail(section, given, f"not built ({meaning_of(field).text}); remove it, or write {field.default}")
            values[field.name] = value
    return kind(**values)


def untrained(section: Section, options: Any) -> list[Option]:
    """The options of a section that ask for a part of training that is not built."""
    asked = [
        section.get(cfg_name(field))
        for field in dataclasses.fields(options)
        if meaning_of(field).use == "untrained" and getattr(options, field.name) != field.default
    ]
    return [given for given in asked if given is not None]


def _value(cfg: Cfg, section: Section, given: Option, kind: Any, meaning: Meaning) -> Any:
    base = _base(kind)
    if base is str:
        return _word(cfg, section, given, meaning)
    if base in (int, float):
        return _number(cfg, section, given, given.value or "", base, meaning)
    element = int if "int" in str(base) else float
    return _numbers(cfg, section, given, element, meaning)


def _base(kind: Any) -> Any:
    """`int | None` → int: None stands for 'derived from other options'."""
    arguments = [one for one in getattr(kind, "__args__", ()) if one is not type(None)]
    return arguments[0] if type(None) in getattr(kind, "__args__", ()) else kind


def _number(cfg: Cfg, section: Section, given: Option, text: str, kind: type, meaning: Meaning) -> int | float:
    """atoi or atof: the leading number counts, what follows is dropped (silently if it is a comment)."""
    match = (_INTEGER if kind is int else _NUMBER).match(text)
    wanted = "an integer" if kind is int and _NUMBER.match(text) else "a number"
    if match is None and not text:
        cfg.fail(section, given, "an element is missing (two commas in a row, or one at the end)")
    if match is None:
        cfg.fail(section, given, f"'{shortened(text)}' is not {wanted}")
    digits = match[0].lstrip("+-0")
    value = MAX_INT + 1 if kind is int and len(digits) > 10 else kind(match[0])
    rest = text[match.end() :]
    if rest and rest[0] not in "#;" and not (kind is int and re.fullmatch(r"\.0*([#;].*)?", rest)):
        cfg.warn(section, given, f"Darknet reads only the leading {shortened(match[0])} of '{shortened(text)}'")
    if abs(value) > (MAX_INT if kind is int else MAX_FLOAT):
        cfg.fail(
            section,
            given,
            f"{shortened(match[0])} is out of range for {'a 32-bit integer' if kind is int else 'a float'}",
        )
    if meaning.minimum is not None and value < meaning.minimum:
        cfg.fail(section, given, f"{match[0]} is too small; write {meaning.minimum:g} or more")
    if meaning.maximum is not None and value > meaning.maximum:
        cfg.fail(section, given, f"{match[0]} is too large; write {meaning.maximum:g} or less")
    return value


def _numbers(cfg: Cfg, section: Section, given: Option, kind: type, meaning: Meaning) -> tuple[int | float, ...]:
    """A list, `1,2,3`. Darknet stops at a `#`, and reads an empty element as 0."""
    parts = (given.value or "").split("#")[0].split(",")
    if len(parts) > 1 and not parts[-1] and kind is float:
        cfg.warn(section, given, "ends with a comma, Darknet reads one more element, 0; remove the comma")
        parts.pop()
    return tuple(_number(cfg, section, given, part, kind, meaning) for part in parts)


def _word(cfg: Cfg, section: Section, given: Option, meaning: Meaning) -> str:
    value = given.value or ""
    if not meaning.choices or value in meaning.choices:
        return value
    word = value.split("#")[0].split(";")[0]
    if word in meaning.choices:
        otherwise = f", and goes on with '{meaning.otherwise}'" if meaning.otherwise else ""
        text = f"Darknet takes the comment as part of the word{otherwise}; move it to a line of its own"
        if meaning.otherwise is None:
            cfg.fail(section, given, text)
        cfg.warn(section, given, text)
        return meaning.otherwise
    value = shortened(value)
    closest = difflib.get_close_matches(value, meaning.choices, n=1)
    advice = f"did you mean '{closest[0]}'?" if closest else f"write one of {', '.join(meaning.choices)}"
    if meaning.otherwise is None:
        cfg.fail(section, given, f"'{value}' is not known; {advice}")
    cfg.warn(section, given, f"'{value}' is not known, Darknet goes on with '{meaning.otherwise}'; {advice}")
    return meaning.otherwise
