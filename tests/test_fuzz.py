"""Whatever a user's file holds, it is read, or refused with one sentence; never another exception, never a memory full of nothing.

Every run draws the same cases. For a longer search, of new ones, DARKNET_PY_FUZZ=100 multiplies their number.
"""

from __future__ import annotations

import dataclasses
import os
import textwrap
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from darknet_py.cfg import Cfg, parse_cfg, parse_text
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.layers import KINDS, NetOptions
from darknet_py.layers.activation import ACTIVATIONS
from darknet_py.network import Network
from darknet_py.options import LARGEST_INT, cfg_name, meaning_of

OWN_CFGS = sorted((Path(__file__).resolve().parents[1] / "cfg").glob("*.cfg"))
LONGER = int(os.environ.get("DARKNET_PY_FUZZ", "1"))


def examples(count: int) -> settings:
    """Settings of a test: `count` cases, the same in every run unless a longer search is asked for."""
    return settings(
        max_examples=count * LONGER, derandomize=LONGER == 1, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def build(cfg: Callable[[], Cfg]) -> Network | None:
    """The network, or None where it was refused; the refusal begins with the file's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        try:
            network = Network(cfg())
        except CfgError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert "fuzz.cfg:" in refusal
        return None
    assert sum(one.tensor.numel() for layer in network.layers for one in layer.stored()) <= LARGEST_INT
    assert sum(one.numel() for one in network.buffers()) < 10_000_000, "memory that is filled while the network is built"
    return network


# ---------------------------------------------------------------------------------------------------- bytes and text

ALPHABET = st.sampled_from(
    [*"[]=#;,.-+ \t\r\n0123456789einvxyzé\0\ufeff", "[net]\n", "[convolutional]\n", "width=", "filters=", "layers=-1\n"]
)


@examples(300)
@given(data=st.one_of(st.binary(max_size=300), st.lists(ALPHABET).map(lambda parts: "".join(parts).encode())))
def test_any_bytes_are_a_cfg_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.cfg"
    path.write_bytes(data)
    build(lambda: parse_cfg(path))


@examples(300)
@given(text=st.one_of(st.text(), st.lists(ALPHABET).map("".join)))
def test_any_text_is_a_cfg_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


# -------------------------------------------------------------------------------------------------- layers at random

INTEGERS = st.one_of(
    st.integers(-4, 9),
    st.integers(-4, 9),
    st.sampled_from([0, 1, 31, 32, 416, 65535, 65536, LARGEST_INT, -LARGEST_INT]),
    st.integers(),
).map(str)
NUMBERS = st.one_of(
    INTEGERS, st.floats().map(repr), st.sampled_from([".7", "1e-3", "1e39", "0x10", "2abc", "3#x", "-", "+.", "1e999"])
)
LISTS = st.lists(NUMBERS, max_size=6).map(",".join)


def words(kind: type) -> list[str]:
    return [word for one in dataclasses.fields(kind) for word in meaning_of(one).choices]


@cache
def options_of(kind: type) -> st.SearchStrategy[str]:
    """Lines `key=value` with the keys that the kind knows; values that may fit, and some that do not."""
    keys = st.sampled_from([cfg_name(one) for one in dataclasses.fields(kind)])
    values = st.one_of(NUMBERS, INTEGERS, LISTS, st.sampled_from([*words(kind), *ACTIVATIONS, "", "tree.cfg", "x" * 300]))
    return st.builds("{}={}".format, keys, values)


@st.composite
def cfgs(draw: st.DrawFn) -> str:
    """A small network of random layers with random options."""
    lines = ["[net]"]
    lines += [f"{key}={draw(st.integers(0, 12))}" for key in ("width", "height", "channels")]
    lines += draw(st.lists(options_of(NetOptions), max_size=2))
    for name in draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6)):
        lines += [f"[{name}]", *draw(st.lists(options_of(KINDS[name].Options), max_size=5))]
    return "\n".join(lines)


@examples(1000)
@given(text=cfgs())
def test_random_layers_are_built_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


def small(network: Network) -> bool:
    """Whether a forward pass takes no time."""
    shapes = [network.input_shape, *(layer.shape for layer in network.layers)]
    reach = [getattr(layer.options, name, 0) or 0 for layer in network.layers for name in ("padding", "size", "stride", "extra")]
    return (
        max(shape.count for shape in shapes) < 20_000
        and max(reach) < 40
        and sum(one.numel() for one in network.parameters()) < 200_000
    )


@examples(400)
@given(text=cfgs())
def test_what_is_built_runs_and_gives_the_shapes_of_the_layer_table(text: str) -> None:
    network = build(lambda: parse_text(text, "fuzz.cfg"))
    assume(network is not None)
    assert network is not None
    assume(small(network))
    c, h, w, count = network.input_shape
    images = torch.zeros(1, c, h, w) if c else torch.zeros(1, count)
    outputs = network.initialise(1).eval().features(images, range(len(network.layers)))
    for layer in network.layers:
        shape = tuple(outputs[layer.index].shape[1:])
        assert outputs[layer.index][0].numel() == layer.shape.count, (
            f"layer {layer.index} ({layer.kind}) gives {shape}, not {layer.shape}"
        )


# -------------------------------------------------------------------------------------------- mutations of good cfgs

SMALL = textwrap.dedent("""\
    [net]
    width=32
    height=32
    channels=3

    [convolutional]
    batch_normalize=1
    filters=8
    size=3
    stride=1
    pad=1
    activation=leaky

    [convolutional]
    filters=8
    size=3
    pad=1
    groups=2
    activation=mish

    [shortcut]
    from=-2
    weights_type=per_channel
    weights_normalization=softmax
    activation=linear

    [route]
    layers=-1
    groups=2
    group_id=1

    [maxpool]
    size=2
    stride=2

    [upsample]
    stride=2

    [route]
    layers=-1,-5

    [avgpool]

    [scale_channels]
    from=-2
    activation=logistic

    [convolutional]
    size=1
    filters=18
    activation=linear

    [yolo]
    mask=0,1,2
    anchors=10,14, 23,27, 37,58
    classes=1
    num=3
    """).splitlines()  # fmt: skip
CLASSIFIER = textwrap.dedent("""\
    [net]
    height=16
    width=16
    channels=3
    policy=steps
    steps=10,20
    scales=.1,.1

    [crop]
    crop_height=12
    crop_width=12

    [local]
    filters=4
    size=3
    stride=2

    [batchnorm]

    [dropout]
    probability=.5

    [connected]
    output=8
    batch_normalize=1
    activation=relu

    [gru]
    output=4

    [lstm]
    output=4

    [rnn]
    hidden=3
    output=6

    [softmax]
    groups=2

    [cost]
    type=sse
    """).splitlines()


@st.composite
def mutations(draw: st.DrawFn, lines: list[str], most: int) -> str:
    """A few lines dropped, doubled, moved, cut short, or given another number."""
    lines = list(lines)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["drop", "double", "move", "cut", "number", "number", "number", "value"]))
        key, equals, value = lines[at].partition("=")
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "double":
            lines.insert(at, lines[at])
        elif change == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        elif change == "cut":
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
        elif equals and change == "number":
            lines[at] = f"{key}={draw(INTEGERS)}"
        elif equals:
            lines[at] = f"{key}={draw(st.one_of(NUMBERS, LISTS))}{draw(st.sampled_from(['', value, ',' + value]))}"
    return "\n".join(lines)


@examples(600)
@given(text=st.one_of(mutations(SMALL, 4), mutations(CLASSIFIER, 4)))
def test_a_small_cfg_with_mistakes_is_built_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


@pytest.mark.parametrize("path", OWN_CFGS, ids=lambda path: path.stem)
@examples(12)
@given(data=st.data())
def test_our_own_cfgs_with_mistakes_are_built_or_refused(path: Path, data: st.DataObject) -> None:
    text = data.draw(mutations(path.read_text().splitlines(), 2))
    build(lambda: parse_text(text, "fuzz.cfg"))
