"""Typed options: a cfg section's strings → a frozen dataclass with Darknet's names, defaults and number rules.

A layer kind declares what it reads as fields made by `option`; `read_options` fills them. The declaration is the
documentation: `python -m darknet_py.summary --options` prints it, and docs/OPTIONS.md is made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from darknet_py.cfg import Cfg, Option, Section
from darknet_py.text import shortened

Use = Literal["forward", "load", "training", "untrained", "none", "refused"]
"""What an option affects.

forward: the numbers of a forward pass or of decoding. load: how weights are loaded. training: training only.
untrained: a part of training that is not implemented (training warns and continues without it). none: no number
(memory, streams, display). refused: a forward pass that is not implemented (any value but the default is an error).
"""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?"
)  # atof alone knows it
MAX_ADVICE = 50  # unknown options of a section for which a similar name is looked up, which takes time
MAX_INT = 2**31 - 1
MAX_FLOAT = 3.4028234663852886e38
MAX_PIXELS = 100_000  # of lengths that a cfg asks for in pixels
MAX_WEIGHT = 1e6  # of a term of a loss


@dataclass(frozen=True)
class Meaning:
    """What an option declares beside its type and default."""

    text: str
    use: Use
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    fallback: str | None = None  # what Darknet uses in place of a word it does not know; None: it stops
    own: bool = False  # this project's own option; Darknet ignores it
    foreign: Mapping[str, str] = field(default_factory=dict)  # words of other programs → what to write instead
    hash_ends: bool = False  # a list ends at a `#`; in Darknet others go on through the comment behind them
    rising: bool = False  # a list in which no number is smaller than the one before


def option(
    default: Any,
    text: str,
    *,
    use: Use = "forward",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    fallback: str | None = None,
    own: bool = False,
    foreign: Mapping[str, str] | None = None,
    hash_ends: bool = False,
    rising: bool = False,
) -> Any:
    """A field of an options class: Darknet's default, the meaning with its unit; see `Meaning` and `Use`."""
    meaning = Meaning(text, use, minimum, maximum, choices, fallback, own, foreign or {}, hash_ends, rising)
    return dataclasses.field(default=default, metadata={"meaning": meaning})


def cfg_name(field: dataclasses.Field[Any]) -> str:
    """The option's name in a cfg: the field `from_` is the option `from`, a word reserved by Python."""
    return field.name.rstrip("_")


def meaning_of(field: dataclasses.Field[Any]) -> Meaning:
    """What `option` declared for a field."""
    return field.metadata["meaning"]


T = TypeVar("T")


def read_options(kind: type[T], cfg: Cfg, section: Section, *, own: bool = False) -> T:
    """The section's options as an instance of the dataclass `kind`. own: the section, and so each option, is this
    project's own.

    An option that `kind` does not declare is unknown to Darknet too: a warning (an error if the cfg is strict) that
    suggests the closest known name.

    Raises:
        CfgError: a value is not a number, is out of range, or is a word at which Darknet stops.
    """
    fields = {cfg_name(field): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types = _types(kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    unknown = 0
    for written in section.first.values():  # the first of repeated options counts; cfg.py has warned
        field = fields.get(written.key)
        if field is None:
            unknown += 1
            closest = difflib.get_close_matches(written.key, fields, n=1) if unknown <= MAX_ADVICE else []
            advice = f"; did you mean '{closest[0]}'?" if closest else "; remove it"
            cfg.warn(section, written, f"unknown option{'' if own else ', Darknet ignores it'}{advice}")
        elif written.value is not None:
            meaning = dataclasses.replace(meaning_of(field), own=True) if own else meaning_of(field)
            value = _value(cfg, section, written, types[field.name], meaning)
            if meaning.use == "refused" and value != field.default:
                cfg.fail(section, written, f"not implemented ({meaning.text}); remove it or write {field.default}")
            values[field.name] = value
    return kind(**values)


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    """A dataclass's types, once for each kind: the annotations are text that Python evaluates anew at every call."""
    return get_type_hints(kind)


def untrained(section: Section, options: Any) -> list[Option]:
    """The options that a section sets although that part of training is not implemented."""
    asked = [
        section.get(cfg_name(field))
        for field in dataclasses.fields(options)
        if meaning_of(field).use == "untrained" and getattr(options, field.name) != field.default
    ]
    return [written for written in asked if written is not None]


def _value(cfg: Cfg, section: Section, written: Option, kind: Any, meaning: Meaning) -> Any:
    base = _base(kind)
    if base is str:
        return _word(cfg, section, written, meaning)
    if base in (int, float):
        return _number(cfg, section, written, written.value or "", base, meaning)
    elements = get_args(base)
    values = _numbers(cfg, section, written, elements[0], meaning)
    if Ellipsis not in elements and len(values) != len(elements):
        number = "1 number" if len(values) == 1 else f"{len(values)} numbers"
        cfg.fail(section, written, f"{number}; write {len(elements)} ({meaning.text})")
    if meaning.rising and list(values) != sorted(values):
        cfg.fail(section, written, f"not in rising order; write {','.join(f'{value:g}' for value in sorted(values))}")
    return values


def _base(kind: Any) -> Any:
    """`int | None` → int: a default of None is derived from other options."""
    alternatives = getattr(kind, "__args__", ())
    return next(part for part in alternatives if part is not type(None)) if type(None) in alternatives else kind


def _number(cfg: Cfg, section: Section, written: Option, text: str, kind: type, meaning: Meaning) -> int | float:
    """Reads as atoi and atof do: the leading number counts, the rest is dropped (silently if it is a comment)."""
    match = _INTEGER.match(text) if kind is int else _HEXADECIMAL.match(text) or _NUMBER.match(text)
    wanted = "an integer" if kind is int and _NUMBER.match(text) else "a number"
    if match is None:
        cfg.fail(section, written, f"'{shortened(text)}' is not {wanted}")
    value = _value_of(match[0], kind)
    rest = text[match.end() :]
    if rest and rest[0] not in "#;" and not (kind is int and re.fullmatch(r"\.0*([#;].*)?", rest)):
        if meaning.own:
            cfg.fail(section, written, f"'{shortened(text)}' is not {wanted}")
        cfg.warn(section, written, f"Darknet reads only the leading {shortened(match[0])} of '{shortened(text)}'")
    if abs(value) > (MAX_INT if kind is int else MAX_FLOAT):
        cfg.fail(
            section,
            written,
            f"{shortened(match[0])} is out of range for {'a 32-bit integer' if kind is int else 'a float'}",
        )
    report = cfg.refuse_training if meaning.use == "training" and not meaning.own else cfg.fail  # Darknet detects
    if meaning.minimum is not None and value < meaning.minimum:
        report(section, written, f"{match[0]} is too small; write {meaning.minimum:g} or more")
    if meaning.maximum is not None and value > meaning.maximum:
        report(section, written, f"{match[0]} is too large; write {meaning.maximum:g} or less")
    return value


def _value_of(digits: str, kind: type) -> int | float:
    if kind is int:
        return MAX_INT + 1 if len(digits.lstrip("+-0")) > 10 else int(digits)
    try:
        return float.fromhex(digits) if "x" in digits.lower() else float(digits)
    except OverflowError:
        return math.inf


def _numbers(cfg: Cfg, section: Section, written: Option, kind: type, meaning: Meaning) -> tuple[int | float, ...]:
    """A list, `1,2,3`, as parser.c counts it: by the commas, up to a `#` in some options and through it in others.

    An empty element is 0, and so is a word behind the `#`."""
    text, comment, rest = (written.value or "").partition("#")
    before = text.count(",")
    if not meaning.hash_ends and "," in rest:
        warning = "Darknet reads this list on behind the '#'; write the comment on a line of its own"
        cfg.warn(section, written, warning)
        text += comment + rest
    parts = text.split(",")
    if not all(parts):
        what = "ends with a comma" if not parts[-1] else "has two commas in a row"
        cfg.warn(section, written, f"{what}, so Darknet reads a further element, 0; write 0, or remove the comma")
    words = range(before + 1, len(parts))
    values = (
        "0" if not part or (place in words and not _NUMBER.match(part)) else part for place, part in enumerate(parts)
    )
    return tuple(_number(cfg, section, written, value, kind, meaning) for value in values)


def _word(cfg: Cfg, section: Section, written: Option, meaning: Meaning) -> str:
    """A word, one of the choices if there are any; one that Darknet replaces is replaced, with a warning."""
    value = written.value or ""
    if not meaning.choices or value in meaning.choices:
        return value
    word = value.split("#")[0].split(";")[0]
    if word in meaning.choices:
        fallback = f", and uses '{meaning.fallback}'" if meaning.fallback else ""
        text = f"Darknet takes the comment as part of the word{fallback}; move it to a line of its own"
        if meaning.fallback is None:
            cfg.fail(section, written, text)
        cfg.warn(section, written, text)
        return meaning.fallback
    advice = meaning.foreign.get(word) or _closest(value, meaning.choices)
    value = shortened(value)
    if meaning.fallback is None:
        cfg.fail(section, written, f"'{value}' is not known; {advice}")
    cfg.warn(section, written, f"'{value}' is not known, Darknet uses '{meaning.fallback}'; {advice}")
    return meaning.fallback


def _closest(word: str, known: Sequence[str]) -> str:
    """The advice for a word that is not known."""
    closest = difflib.get_close_matches(shortened(word), known, n=1)
    return f"did you mean '{closest[0]}'?" if closest else f"write one of {', '.join(known)}"
