"""Darknet's words for weights files write the same bytes as the C program, and print the same numbers.

`make.py` made words.json. Where the C program writes beyond its memory, NumPy says here what was meant.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darknet_py.__main__ import main as darknet_py
from darknet_py.cfg import parse_cfg
from darknet_py.errors import DarknetError
from darknet_py.network import Network, load
from darknet_py.rewriting import OPERATIONS, average, denormalize, normalize, oneoff, operations, reset_normalize
from darknet_py.weights import load_weights

HERE = Path(__file__).resolve().parent
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "words.json").read_text())
specification = importlib.util.spec_from_file_location("make_words", HERE / "make.py")
assert specification is not None and specification.loader is not None  # noqa: PT018
make = importlib.util.module_from_spec(specification)
specification.loader.exec_module(make)

CASES = [(word, name) for word, results in GOLDEN.items() for name in results]
NUMBER = re.compile(r"-?\d+\.\d+")
PRINTED = 2e-6  # the C program sums in float32


@pytest.mark.parametrize(("word", "name"), CASES)
def test_a_word_has_the_c_programs_result(
    word: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, out = HERE / f"{name}.cfg", tmp_path / "out"
    files = make.write_files(cfg, tmp_path)
    arguments = make.words(word, cfg, files, out)
    wanted = GOLDEN[word][name]
    if isinstance(wanted, str):
        assert darknet_py(arguments) == 0
        assert make.digest(out) == wanted
        return
    assert darknet_py(arguments) == 0
    printed = capsys.readouterr().out
    assert NUMBER.sub("", printed).split("\n") == [NUMBER.sub("", line) for line in wanted]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, "\n".join(wanted))]
    assert numbers[0] == pytest.approx(numbers[1], abs=PRINTED)


def values_of(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A file's tensors, read one after the other."""
    floats = np.fromfile(path, "<f4", offset=20)
    result, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        result[name] = floats[start : start + count].reshape(shape)
        start += count
    assert start == len(floats)
    return result


BATCH_NORM = {"scales": (4,), "mean": (4,), "variance": (4,)}
CFG = (
    "[net]\nwidth=2\nheight=2\nchannels=6\n[convolutional]\nfilters=4\ngroups=2\nbatch_normalize=1\nactivation=linear\n"
)


@pytest.mark.parametrize("word", ["reset", "denormalize"])
def test_batch_norm_of_several_filters_and_groups_is_folded(word: str, tmp_path: Path) -> None:
    cfg = tmp_path / "x.cfg"
    cfg.write_text(CFG)
    file, *_ = make.write_files(cfg, tmp_path)
    assert darknet_py([word, str(cfg), str(file), str(tmp_path / "out")]) == 0
    before = values_of(file, {"biases": (4,), **BATCH_NORM, "weights": (4, 3)})
    factor = (before["scales"] / np.sqrt(before["variance"].astype(np.float64) + 1e-5)).astype(np.float32)
    biases, weights = before["biases"] - before["mean"] * factor, before["weights"] * factor[:, None]
    if word == "denormalize":
        after = values_of(tmp_path / "out", {"biases": (4,), "weights": (4, 3)})
    else:
        after = values_of(tmp_path / "out", {"biases": (4,), **BATCH_NORM, "weights": (4, 3)})
        assert [set(after[name].tolist()) for name in BATCH_NORM] == [{1.0}, {0.0}, {1.0}]
    assert np.array_equal(after["biases"], biases)
    assert np.array_equal(after["weights"], weights)


@pytest.mark.parametrize("change", [reset_normalize, denormalize])
def test_folded_batch_norm_gives_the_same_outputs(change: Any, tmp_path: Path) -> None:
    """In connected layers nearly: Darknet folds with another constant than it runs with."""
    for name in ("images", "gru"):
        file, *_ = make.write_files(HERE / f"{name}.cfg", tmp_path)
        network = load(HERE / f"{name}.cfg", file)
        images = torch.rand(2, *network.input_shape[:3])
        wanted = network.features(images, range(len(network.layers) - 1))
        network.reset_state()
        changed = change(network)
        changed.reset_state()
        for layer, output in changed.features(images, range(len(network.layers) - 1)).items():
            torch.testing.assert_close(output, wanted[layer], rtol=1e-4, atol=1e-4)


def test_networks_that_a_word_has_changed_have_a_cfg_that_fits(tmp_path: Path) -> None:
    for name in ("images", "one_filter", "gru", "lstm", "rnn"):
        for change in (normalize, denormalize):
            file, *_ = make.write_files(HERE / f"{name}.cfg", tmp_path)
            changed = change(load(HERE / f"{name}.cfg", file))
            changed.save_weights(tmp_path / "out.weights")
            again = Network(changed.cfg.with_text(changed.cfg.text))
            load_weights(again, tmp_path / "out.weights")  # its size is checked
            for layer in again.layers:
                if layer.kind in ("convolutional", "connected"):
                    assert layer.options.batch_normalize == (change is normalize)


def test_weights_that_layers_share_are_averaged_once(tmp_path: Path) -> None:
    cfg = tmp_path / "x.cfg"
    cfg.write_text("[net]\nwidth=2\nheight=2\nchannels=3\n" + "[convolutional]\nfilters=3\n" * 2 + "share_index=0\n")
    one, two = (load(cfg, file) for file in make.write_files(cfg, tmp_path))
    wanted = (one.layers[0].weights + two.layers[0].weights) / 2
    torch.testing.assert_close(average(one, [two]).layers[0].weights, wanted)


def test_operations_are_counted_as_if_groups_were_one(tmp_path: Path) -> None:
    cfg = tmp_path / "x.cfg"
    cfg.write_text(CFG)
    assert operations(Network(parse_cfg(cfg))) == 2 * 4 * 6 * 2 * 2


ONEOFF = "[net]\nwidth=2\nheight=2\nchannels=3\n[convolutional]\nfilters=2\nbatch_normalize=1\n"
LAST = "[convolutional]\nfilters={}\nactivation=linear\n[softmax]\n"


def test_oneoff_puts_a_classifiers_filters_into_each_third(tmp_path: Path) -> None:
    small, large = tmp_path / "small.cfg", tmp_path / "large.cfg"
    small.write_text(ONEOFF + LAST.format(6))
    large.write_text(ONEOFF + LAST.format(39))
    file, *_ = make.write_files(small, tmp_path)
    assert darknet_py(["oneoff", str(large), str(file), str(tmp_path / "out")]) == 0
    before, after = load(small, file), load(large, tmp_path / "out")
    assert torch.equal(before.layers[0].weights, after.layers[0].weights)
    for start in (0, 13, 26):
        assert torch.equal(after.layers[1].weights[start + 5 : start + 11], before.layers[1].weights)
        assert torch.equal(after.layers[1].biases[start + 5 : start + 11], before.layers[1].biases)
        assert torch.equal(after.layers[1].weights[start : start + 13], after.layers[1].weights[:13])
    assert after.seen == 0
    large.write_text(ONEOFF + LAST.format(6))
    with pytest.raises(DarknetError, match="117 values are left for layer 1; oneoff needs 3 for each of at most 1 f"):
        oneoff(large, tmp_path / "out")
    with pytest.raises(DarknetError, match=r"needs a \[convolutional\] without batch norm before the last layer"):
        oneoff(HERE / "images.cfg", file)


def test_every_operation_is_compared() -> None:
    assert set(OPERATIONS) <= set(GOLDEN)
