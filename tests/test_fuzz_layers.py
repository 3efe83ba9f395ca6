"""Layers with random options, and good cfgs with mistakes, are built or refused with one sentence, in little memory."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from project import OWN_CFGS, python
from random_cases import INTEGERS, WILD, build, examples

from darknet_py.cfg import parse_text
from darknet_py.layers import KINDS, NetOptions
from darknet_py.network import Network
from darknet_py.options import cfg_name, meaning_of

# Layers at random

REFERENCES = st.lists(st.sampled_from(["-1", "-1", "-2", "-2", "-3", "0", "1"]), min_size=1, max_size=3).map(",".join)
COUNTS = ("filters", "output", "hidden", "out_channels", "atoms")


@cache
def tame(kind: type, name: str) -> st.SearchStrategy[str]:
    """Values of an option that often fit."""
    field = next(field for field in dataclasses.fields(kind) if cfg_name(field) == name)
    hint, choices = str(get_type_hints(kind)[field.name]), meaning_of(field).choices
    if name in ("layers", "from"):
        return REFERENCES
    if name in ("share_index", "yolo_layer"):
        return st.sampled_from(["-1", "-2", "0"])
    if choices:
        return st.sampled_from(choices)
    if name in COUNTS:
        return st.sampled_from(["1", "2", "3", "4", "6", "8"])
    if "tuple" in hint:
        return st.lists(st.sampled_from(["0", "1", "2", ".5"]), min_size=1, max_size=6).map(",".join)
    return st.sampled_from(
        ["0", "1", "1", "2", "2", "3", "4", "5", "-1"] if "int" in hint else ["0", "1", ".5", "2", "-1", ".1"]
    )


@st.composite
def option_lines(draw: st.DrawFn, kind: type, maximum: int, wild: int, without: tuple[str, ...] = ()) -> list[str]:
    """Up to `maximum` lines with options that the kind knows; of a hundred values, `wild` are anything."""
    names = [cfg_name(field) for field in dataclasses.fields(kind) if cfg_name(field) not in without]
    chosen = draw(st.lists(st.sampled_from(names), max_size=maximum, unique=True))
    for needed in ("layers", "from"):
        if needed in names and needed not in chosen:
            chosen.append(needed)
    return [f"{name}={draw(WILD if draw(st.integers(0, 99)) < wild else tame(kind, name))}" for name in chosen]


ENTRIES = {"yolo": 5, "Gaussian_yolo": 9, "region": 5}


@st.composite
def cfgs(draw: st.DrawFn, wild: int) -> str:
    """A small network of random layers with random options; detection heads read a convolution that fits."""
    sides = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12])
    lines = ["[net]", *(f"{key}={draw(sides)}" for key in ("width", "height", "channels"))]
    lines += draw(option_lines(NetOptions, 2, wild, ("width", "height", "channels", "inputs")))
    for name in draw(st.lists(st.sampled_from([*KINDS, "convolutional", "shortcut", "route"]), min_size=1, max_size=5)):
        kind = KINDS[name].Options
        if name in ENTRIES:
            num, classes = draw(st.integers(1, 3)), draw(st.integers(0, 2))
            lines += ["[convolutional]", f"filters={num * (classes + ENTRIES[name])}"]
            lines += [f"[{name}]", f"num={num}", f"classes={classes}", "anchors=" + ",".join(["2"] * 2 * num)]
            lines += draw(option_lines(kind, 3, wild, ("num", "classes", "anchors", "mask", "coords")))
        else:
            lines += [
                f"[{name}]",
                *(["pad=1"] if name in ("crnn", "conv_lstm") else []),
                *draw(option_lines(kind, 4, wild)),
            ]
    return "\n".join(lines)


@examples(600)
@given(text=cfgs(wild=25))
def test_random_layers_are_built_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


def small(network: Network) -> bool:
    """Whether a forward pass takes no time."""
    shapes = [network.input_shape, *(layer.shape for layer in network.layers)]
    return (
        max(shape.count for shape in shapes) < 20_000
        and sum(weights.numel() for weights in network.parameters()) < 200_000
    )


def run(network: Network) -> None:
    """A forward pass; every layer gives as many values as the layer table says."""
    shape = network.input_shape
    images = torch.zeros(2, *shape[:3]) if shape.c else torch.zeros(2, shape.count)
    outputs = network.initialise(1).eval().features(images, range(len(network.layers)))
    for layer in network.layers:
        output = outputs[layer.index]
        assert output.shape[0] == 2
        assert output[0].numel() == layer.shape.count, (
            f"layer {layer.index} ({layer.kind}) gives {output.shape}, not {layer.shape}"
        )
        if output.ndim == 4 and layer.shape.c:
            assert tuple(output.shape[1:]) == layer.shape[:3]


@examples(250)
@given(text=cfgs(wild=0))
def test_what_is_built_runs_and_gives_the_shapes_of_the_layer_table(text: str) -> None:
    network = build(lambda: parse_text(text, "fuzz.cfg"))
    assume(network is not None)
    assert network is not None
    assume(small(network))
    run(network)


IMAGE, PIXEL = "[net]\nwidth=4\nheight=4\nchannels=3\n", "[net]\nwidth=1\nheight=1\nchannels=3\n"
FOUND = {
    "a blur that leaves no pixel": PIXEL + "[maxpool]\nantialiasing=2\n[avgpool]\n",
    "a blur that leaves no pixel, added": IMAGE + "[avgpool]\n[maxpool]\nantialiasing=2\n[shortcut]\nfrom=-2\n",
    "a region in the middle": IMAGE
    + "[convolutional]\nfilters=6\n[region]\nnum=1\nclasses=1\nanchors=1,1\n[convolutional]\n",
    "a deviation below 0": IMAGE + "[implicit]\nstd=-1\n",
    "a tree without classes": IMAGE
    + "[convolutional]\nfilters=5\n[region]\nnum=1\nclasses=0\nanchors=1,1\ntree=empty.tree\n",
    "a number of 5000 digits": IMAGE + f"[convolutional]\nfilters={'9' * 5000}\n",
    "a file with a long name": IMAGE + f"[softmax]\ntree={'x' * 300}\n",
}


@pytest.mark.parametrize("what", FOUND)
def test_what_longer_searches_have_found(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.tree").write_text("")
    network = build(lambda: parse_text(FOUND[what], "fuzz.cfg"))
    if network is not None:
        run(network)


# Mutations of good cfgs

DETECTOR = """
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
    """
CLASSIFIER = """
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
    """


@st.composite
def mutations(draw: st.DrawFn, text: str, most: int) -> str:
    """A few lines dropped, doubled, moved, cut short, or given another value."""
    lines = textwrap.dedent(text).splitlines()
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
            lines[at] = f"{key}={draw(WILD)}{draw(st.sampled_from(['', value, ',' + value]))}"
    return "\n".join(lines)


@examples(500)
@given(text=st.one_of(mutations(DETECTOR, 4), mutations(CLASSIFIER, 4)))
def test_a_small_cfg_with_mistakes_is_built_or_refused(text: str) -> None:
    build(lambda: parse_text(text, "fuzz.cfg"))


@pytest.mark.parametrize("path", OWN_CFGS, ids=lambda path: path.stem)
@examples(10)
@given(data=st.data())
def test_our_own_cfgs_with_mistakes_are_built_or_refused(path: Path, data: st.DataObject) -> None:
    text = data.draw(mutations(path.read_text(), 2))
    build(lambda: parse_text(text, "fuzz.cfg"))


# Memory

HUGE = {
    "ten layers, each of which would fit": "[net]\nwidth=1\nheight=1\nchannels=1\n"
    + "[convolutional]\nfilters=16384\n" * 10,
    "a layer that Darknet's integers could count": "[net]\nwidth=1\nheight=1\nchannels=1\n"
    + "[convolutional]\nfilters=2000000000\n",
    "a map": "[net]\nwidth=40000\nheight=40000\nchannels=1\n[convolutional]\n",
    "a blur": "[net]\nwidth=1\nheight=1\nchannels=1\n[convolutional]\nfilters=100000000\nantialiasing=1\n",
    "anchors": "[net]\nwidth=1\nheight=1\nchannels=1\n[yolo]\nnum=100000\nmask=99999\n",
    "a number of classes": "[net]\nwidth=1\nheight=1\nchannels=1\n[yolo]\nnum=100000\nclasses=1000000\n",
    "a history": "[net]\nwidth=32\nheight=32\nchannels=1\n[history]\nhistory_size=2000000\n",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_a_huge_network_is_built_or_refused_in_little_memory(tmp_path: Path) -> None:
    """With 2 GB of address space left: what needs more is refused with a sentence, not with an allocator's error."""
    (tmp_path / "huge.json").write_text(json.dumps(HUGE))
    script = textwrap.dedent("""\
        import json, resource, warnings
        from darknet_py.cfg import parse_text
        from darknet_py.errors import CfgError
        from darknet_py.network import Network

        def kilobytes(name):
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_AS, ((kilobytes("VmSize") << 10) + (2 << 30),) * 2)
        results = {}
        for name, text in json.load(open("huge.json")).items():
            before = kilobytes("VmHWM")
            try:
                Network(parse_text(text, "huge.cfg"))
                result = "built"
            except CfgError:
                result = "refused"
            except Exception as error:
                result = repr(error)[:200]
            grown = kilobytes("VmHWM") - before
            results[name] = result if grown < 100_000 else f"{result}, but it took {grown} kB"
        print(json.dumps(results))
        """)
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {
        name: result for name, result in json.loads(done.stdout).items() if result not in ("built", "refused")
    } == {}
