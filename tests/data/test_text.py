"""Character networks read a text in streams, learn from it, and write."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from darknet_py import DarknetError, Network, load, parse_cfg
from darknet_py.__main__ import main as words
from darknet_py.data.text import JUMP, TextBatch, read_symbols, text_batches
from darknet_py.generator import generate
from darknet_py.layers import NetOptions
from darknet_py.train import main
from darknet_py.training.report import Chart, IterationResult

CFG = """[net]
inputs=128
batch={batch}
time_steps=8
max_batches={iterations}
learning_rate=0.2
momentum=0.9
decay=0
{layer}
[connected]
output=128
activation=linear
[softmax]
"""
NET = NetOptions(inputs=40, batch=6, time_steps=5)
LAYERS = {
    "gru": "[gru]\noutput=48\n",
    "rnn": "[rnn]\nhidden=48\noutput=48\nactivation=tanh\n",
    "lstm": "[lstm]\noutput=48\n",
}
ITERATIONS = {"gru": 250, "rnn": 120, "lstm": 160}  # until they know the sentence


def write_cfg(folder: Path, layer: str = LAYERS["gru"], iterations: int = 20, batch: int = 8) -> Path:
    path = folder / "letters.cfg"
    path.write_text(CFG.format(layer=layer, iterations=iterations, batch=batch))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a quick brown fox jumps. " * 48)
    return path


def first(count: int, start: int = 0, symbols: int = 40) -> list[TextBatch]:
    numbers = np.arange(1000) % symbols
    return [
        batch for _, batch in zip(range(count), text_batches(numbers, NET, symbols, seed=1, start=start), strict=False)
    ]


def test_each_symbol_is_followed_by_the_next_and_streams_go_on() -> None:
    """rnn.c:get_rnn_data: row step*streams + stream."""
    batches = first(300)
    shown = [batch.images.argmax(1).view(5, 6) for batch in batches]
    for batch, symbols in zip(batches, shown, strict=True):
        assert batch.images.shape == batch.truths.shape == (30, 40)
        assert (batch.images.sum(1) == 1).all()
        assert torch.equal(batch.truths.argmax(1).view(5, 6), (symbols + 1) % 40)
        assert torch.equal(symbols[1:], (symbols[:-1] + 1) % 40)
    assert batches[0].fresh.all()
    jumps = 0
    for before, now, batch in zip(shown, shown[1:], batches[1:], strict=False):
        goes_on = now[0] == (before[-1] + 1) % 40
        assert (goes_on | batch.fresh).all()
        jumps += int(batch.fresh.sum())
    assert jumps / (299 * 6) == pytest.approx(JUMP, abs=0.01)


def test_a_run_may_begin_anywhere() -> None:
    for whole, part in zip(first(60)[50:], first(10, start=50), strict=True):
        assert torch.equal(whole.images, part.images)
        assert torch.equal(whole.fresh, part.fresh)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_character_network_learns_a_sentence(
    kind: str, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cfg = write_cfg(tmp_path, LAYERS[kind], iterations=ITERATIONS[kind])
    assert main([str(text), str(cfg), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert f"1200 symbols, {ITERATIONS[kind]} iterations of 64 symbols" in capfd.readouterr().out
    network = load(cfg, tmp_path / "out" / "letters_final.weights")
    written = bytes(generate(network, list(b"a quick "), 40, 0.1, 1)).decode()
    assert written.startswith("brown fox jumps. a quick brown fox")


def test_writing_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = Network(parse_cfg(write_cfg(tmp_path))).initialise(0)
    network(torch.eye(128)[:1])
    options, states = network.layers[-1].options, {name: state.clone() for name, state in network.states().items()}
    assert len(list(generate(network, [1, 2], 5, 0.3, 1))) == 5
    assert network.layers[-1].options is options
    assert states.keys() == network.states().keys()
    assert all(torch.equal(state, states[name]) for name, state in network.states().items())
    with pytest.raises(DarknetError, match="a temperature of 0; write a number above 0"):
        next(generate(network, [1], 1, 0.0))


def test_darknets_words(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = write_cfg(tmp_path, iterations=3)
    assert words(["rnn", "train", str(cfg), "-file", str(text), "-nogpu"]) == 0
    weights = str(tmp_path / "backup" / "letters_final.weights")
    (tmp_path / "numbers.txt").write_text("1 2 3 127 5 6 7")
    assert words(["rnn", "train", str(cfg), weights, "-clear", "-tokenized", "-file", "numbers.txt", "-nogpu"]) == 0


def test_a_run_that_was_stopped_goes_on_with_its_states(text: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, iterations=30)
    arguments = [str(text), str(cfg), "--device", "cpu", "--seed", "5"]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0

    def stop(_: Chart, result: IterationResult) -> None:
        if result.iteration == 13:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chart, "add", stop)
        assert main([*arguments, "--out", str(tmp_path / "parts")]) == 0
    assert not (tmp_path / "parts" / "letters_final.weights").exists()
    assert main([*arguments, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    results = [(tmp_path / name / "letters_final.weights").read_bytes() for name in ("whole", "parts")]
    assert results[0] == results[1]


def test_wrong_texts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content, tokenized, message in (
        (b"a\xc3\xa9", False, "symbol 195 at place 1, but the network knows 0 to 127"),
        (b"a", False, "a text of 1 symbols"),
        (b"1 2 x", True, "'x' is not a number"),
    ):
        path.write_bytes(content)
        with pytest.raises(DarknetError, match=message):
            read_symbols(path, 128, tokenized=tokenized)
    with pytest.raises(DarknetError, match="cannot read this text"):
        read_symbols(tmp_path / "missing.txt", 128)
    path.write_bytes(b"abc")
    for option, message in ((["--map"], "this network reads none"), (["--show-batches", "1"], "has no images")):
        with pytest.raises(DarknetError, match=message):
            main([str(path), str(write_cfg(tmp_path)), *option])
