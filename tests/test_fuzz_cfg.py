"""Whatever a cfg's text is, it is read or refused with one sentence; what is written in it is what is read."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_cases import build, examples

from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.options import MAX_INT

PIECES = st.sampled_from(
    [*"[]=#;,.-+ \t\r\n0123456789einvxyzé\0\ufeff", "[net]\n", "[convolutional]\n", "width=", "filters=", "layers=-1\n"]
)


@examples(300)
@given(data=st.one_of(st.binary(max_size=300), st.lists(PIECES).map(lambda pieces: "".join(pieces).encode())))
def test_any_bytes_are_a_cfg_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.cfg"
    path.write_bytes(data)
    build(lambda: parse_cfg(path))


@examples(300)
@given(text=st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_any_text_is_a_cfg_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


# What is written is what is read

VISIBLE = st.characters(exclude_categories=("C", "Z"))
KEYS = st.text(VISIBLE, min_size=1, max_size=12).filter(lambda key: key[0] not in "[#;" and "=" not in key)
NAMES = st.text(VISIBLE, min_size=1, max_size=12).filter(lambda name: not set(name) & set("[]"))
SPACE = st.text(" \t", max_size=3)
LINE_END = st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n# comment = 1\n", "\n\t; [comment]\r\n"])


@examples(200)
@given(
    data=st.data(),
    sections=st.lists(st.tuples(NAMES, st.dictionaries(KEYS, st.text(VISIBLE, min_size=1), max_size=5)), min_size=1),
)
def test_sections_and_options_are_read_as_they_were_written(
    data: st.DataObject, sections: list[tuple[str, dict[str, str]]]
) -> None:
    """However lines are indented, spaced, ended and commented."""
    text = data.draw(st.sampled_from(["", "\n", "# first line\n"]))
    for name, options in sections:
        lines = [("[", name, "]"), *((key, "=", value) for key, value in options.items())]
        text += "".join("".join(data.draw(SPACE) + word for word in line) + data.draw(LINE_END) for line in lines)
    read = parse_text(text.rstrip("\n") if data.draw(st.booleans()) else text)
    assert [
        (section.name, {option.key: option.value for option in section.options}) for section in read.sections
    ] == sections
    for section in read.sections:
        for option in section.options:
            assert "".join(read.lines[option.line - 1].split()) == f"{option.key}={option.value}"


TEXTS = st.one_of(
    st.text("0123456789+-.eE,#;ab", min_size=1, max_size=8), st.floats(width=32).map(repr), st.integers().map(str)
)


def check_number(line: str, expected: float) -> None:
    """The option of a layer alone is what C reads; a 0 may be refused, as C gives it for what is no number."""
    section, key = ("convolutional", "stream") if line.startswith("stream") else ("dropout", "probability")
    network = build(lambda: parse_text(f"[net]\nwidth=1\nheight=1\nchannels=1\n[{section}]\n{line}\n", "fuzz.cfg"))
    if network is None:
        assert expected == 0 or not abs(expected) <= (MAX_INT if key == "stream" else 3.4e38)
    else:
        assert getattr(network.layers[0].options, key) == expected


@pytest.mark.skipif(os.name != "posix", reason="asks the C library")
@examples(400)
@given(text=TEXTS)
def test_numbers_are_what_the_c_library_reads(text: str) -> None:
    c = ctypes.CDLL(None)
    c.strtol.restype, c.atof.restype = ctypes.c_long, ctypes.c_double
    check_number(f"stream={text}", c.strtol(text.encode(), None, 10))
    check_number(f"probability={text}", c.atof(text.encode()))
