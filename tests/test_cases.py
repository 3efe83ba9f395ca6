"""Small cfgs and names that were once misread, or misled their reader: what each is taken for, and what is said."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from kit import CASES, cases, needs_cases

from darknet_py.cfg import parse_cfg
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.names import read_lines, read_names
from darknet_py.network import Network

FOLDERS = ("cfg_and_names", "differential")
SAID = {  # what must be said of these cfgs, in a warning or as an error
    "dialect": "PyTorch_YOLOv4; write [route] with groups=2 and group_id=0",
    "line-without-value": "mynet: no value",
    "route_comment_comma": "on behind the '#'",
    "shortcut_comment_comma": "on behind the '#'",
    "scales_short": "Darknet stops here: 3 steps and 2 scales",
    "steps_nosteps": "Darknet stops here: 0 steps and 0 scales",
    "steps_scales_empty": "two commas in a row",
    "silu": "write swish (and so in 1 more section)",
    "forward-activation-swish": "gives 0 here; this computes swish",
    "forward-connected-mish": "gives 0 here; this computes mish",
    "forward-shortcut-hard_mish": "gives 0 here; this computes hard_mish",
    "forward-upsample-neg": "does not divide into blocks of 2 x 2",
    "forward-upsample-neg3": "does not divide into blocks of 3 x 3",
    "parse-aa-depth": "the next layer reads 8 x 8 x 2 as 7 x 7 x 2",
    "parse-anchors-trailing": "ends with a comma",
    "parse-counters": "Darknet stops here: 2 numbers for 3 classes",
    "parse-formfeed": "only the leading 1 of '1\\x0c2'",
    "parse-vtab-act": "'leaky\\x0b' is not known, Darknet uses 'relu'",
    "parse-gauss-hash": "on behind the '#'",
    "parse-region-hash": "on behind the '#'",
    "parse-route-hash": "on behind the '#'",
    "parse-scales-hash": "on behind the '#'",
    "parse-shortcut-hash": "on behind the '#'",
    "parse-steps-none": "Darknet stops here: 0 steps and 0 scales",
    "parse-steps-noscales": "Darknet stops here: 1 steps and 0 scales",
    "parse-steps-short-scales": "Darknet stops here: 3 steps and 2 scales",
}


def said_of(path: Path) -> tuple[Network | None, list[str]]:
    """The network of a cfg, None if it is refused; and all that is said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            network, refusal = Network(parse_cfg(path)).initialise(0).eval(), []
        except CfgError as error:
            network, refusal = None, [str(error)]
    return network, [str(item.message) for item in caught if item.category is CfgWarning] + refusal


@needs_cases
@pytest.mark.parametrize("name", [f"{folder}/{name}" for folder in FOLDERS for name in cases(folder, "*.cfg", CASES)])
def test_a_cfg_is_run_or_refused_and_what_is_unusual_is_said(name: str) -> None:
    network, sentences = said_of(CASES / f"{name}.cfg")
    expected = SAID.get(Path(name).name)
    if expected is not None:
        assert any(expected in sentence for sentence in sentences), sentences
    assert all(re.match(r".*\.cfg:\d+:", sentence) for sentence in sentences), sentences
    if network is not None:
        with torch.no_grad():
            (output, *_) = network(torch.rand(1, *network.input_shape[:3]))
        assert output.isfinite().all()


@needs_cases
def test_names_of_an_old_encoding_are_guessed_and_the_guess_is_said() -> None:
    with pytest.warns(CfgWarning, match=r"gbk.names:2: this is not UTF-8; read as GBK \(Chinese\)"):
        names = read_names(CASES / "cfg_and_names/gbk.names")
    assert names[0] == "圆圈"  # circle
    assert len(names) == len((CASES / "cfg_and_names/gbk.names").read_bytes().split())


@needs_cases
def test_paths_keep_their_bytes() -> None:
    path = CASES / "cfg_and_names/gbk-list.txt"
    assert [line.encode(errors="surrogateescape") for line in read_lines(path, "list")] == path.read_bytes().split()


@pytest.mark.parametrize(
    ("data", "names", "said"),
    [
        ("chien\nchat\nnœud\n".encode("cp1252"), ["chien", "chat", "nœud"], "names:3: .* Windows-1252"),
        ("猫\n犬\n".encode("utf-16"), ["猫", "犬"], None),
        (b"\xef\xbb\xbfcat\r\ndog\r\n", ["cat", "dog"], None),
        ("one line\x0bof two\nb\u2028c\n".encode(), ["one line\\x0bof two", "b\\u2028c"], None),
        (b"\x1b[31mred\n", ["\\x1b[31mred"], None),
    ],
)  # fmt: skip
def test_names_of_all_kinds(data: bytes, names: list[str], said: str | None, tmp_path: Path) -> None:
    """Only a line feed ends a name, as in Darknet; what would command a terminal is shown instead."""
    path = tmp_path / "x.names"
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_names(path) == names
    assert [bool(re.search(said or "", str(item.message))) for item in caught] == [True] * bool(said)


def test_a_size_that_does_not_fit_names_the_sizes_that_do(tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(
        "[net]\nwidth=40\nheight=48\nchannels=3\n[convolutional]\nfilters=2\nsize=3\npad=1\n"
        + "[maxpool]\nsize=2\nstride=2\n" * 4
        + "[upsample]\nstride=16\n[route]\nlayers=-1,0\n"
    )
    text = "the size 40 x 48 does not fit this network; write multiples of 16, e.g. 48 x 48"
    with pytest.raises(CfgError, match=rf"net.cfg:2: \[net\] width=40: {text}"):
        Network(parse_cfg(path))
    with pytest.raises(CfgError, match=r"net.cfg:1: \[net\]: the size 200 x 168 .* multiples of 16, e.g. 208 x 176"):
        Network(parse_cfg(path), size=(200, 168))
    Network(parse_cfg(path), size=(64, 32))


@pytest.mark.parametrize("word", ["silu", "h_swish", "hswish"])
def test_an_activation_of_another_program_is_named_once_with_darknets_word(word: str, tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    layer = f"[convolutional]\nfilters=2\nactivation={word}\n"
    path.write_text("[net]\nwidth=8\nheight=8\nchannels=3\n" + layer * 57)
    (said,) = said_of(path)[1]
    assert f"net.cfg:7: [convolutional] activation={word}: '{word}' is not known, Darknet uses 'relu'" in said
    assert "write swish" in said
    assert "and so in 56 more sections" in said


@pytest.mark.parametrize("larger", ["before", "added"])
def test_a_shortcut_of_uneven_sizes_adds_from_the_upper_left(larger: str, tmp_path: Path) -> None:
    """pjreddie blas.c:shortcut_cpu has whole quotients: 55 // 28 is 1, so each pixel is taken, as far as there are."""
    path = tmp_path / "net.cfg"
    layers = "[convolutional]\nfilters=2\n[maxpool]\nsize=2\nstride=2\n"
    layers += "[shortcut]\nfrom=0\n" if larger == "added" else "[route]\nlayers=0\n[shortcut]\nfrom=1\n"
    path.write_text("[net]\nwidth=55\nheight=55\nchannels=3\n" + layers)
    network, sentences = said_of(path)
    assert network is not None
    assert "pixels from the upper left" in "".join(sentences)
    last = len(network.layers) - 1
    with torch.no_grad():
        maps = network.features(torch.rand(1, 3, 55, 55), [0, 1, last])
    before, added = (maps[1], maps[0]) if larger == "added" else (maps[0], maps[1])
    expected = before.clone()
    expected[..., :28, :28] += added[..., :28, :28]
    assert torch.equal(maps[last], expected)
