"""Detection by onnxruntime and OpenVINO, chosen by a word, gives PyTorch's objects."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from project import CFGS, ROOT, python

import darknet_py
from darknet_py import Detector, detect
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.choices import ENGINES
from darknet_py.errors import DarknetError
from darknet_py.inference import engines
from darknet_py.inference.engines import DEVICES, SESSIONS, engine_runner, preferred
from darknet_py.network import Network

INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason=f"{name} is not installed"))
    for name in SESSIONS
]
IMAGE = ROOT / "weights" / "shapes.png"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darknet_py"


def shapes() -> Network:
    return darknet_py.load(CFGS / "shapes.cfg", ROOT / "weights" / "shapes.weights")


@pytest.mark.parametrize("engine", INSTALLED)
def test_an_engine_finds_the_same_objects(engine: str) -> None:
    network = shapes()
    (expected,) = Detector(network)(str(IMAGE))
    (found,) = Detector(network, engine=engine)(str(IMAGE))
    assert len(expected) > 0
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    assert np.allclose(found.xywh, expected.xywh, atol=1e-5)
    assert np.allclose(found.confidences, expected.confidences, atol=1e-5)


@pytest.mark.parametrize("engine", INSTALLED)
def test_any_number_of_images_runs_at_once(engine: str) -> None:
    network = shapes()
    runner = engine_runner(network, engine, batch=3)
    for count in range(1, 6):
        images = torch.rand(count, *network.input_shape[:3])
        for ours, expected in zip(runner(images), network(images), strict=True):
            assert ours.shape == expected.shape
            assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("engine", INSTALLED)
def test_the_exported_network_is_kept_and_used_again(engine: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_runner(shapes(), engine)
    (path,) = cache.iterdir()
    monkeypatch.setattr(engines, "export_onnx", None)
    engine_runner(shapes(), engine)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    other = shapes()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    engine_runner(other, engine)
    assert path in cache.iterdir()
    assert len(list(cache.iterdir())) == 2


def test_the_engine_of_auto_is_named_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: name not in ENGINES)
    name, reason = preferred(shapes())
    assert name == "torch"
    assert "pip install 'darknet-cfg[openvino]'" in reason
    monkeypatch.setattr(engines, "find_spec", lambda name: True)
    assert preferred(shapes()) == ("openvino", "")


def test_auto_takes_pytorch_where_no_other_engine_can_run_the_network() -> None:
    network = Network(parse_cfg(CFGS / "faster-rcnn-small.cfg")).initialise(0).eval()
    name, reason = preferred(network)
    assert name == "torch"
    assert "[rpn]" in reason
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[crnn]\npad=1\nhidden=4\noutput=4\nactivation=leaky\n"
    assert preferred(Network(parse_text(text)).initialise(1).eval())[0] == "torch"


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("tensorrt", "fp32", "unknown engine 'tensorrt'; write openvino, onnxruntime, compile, torch or auto"),
        ("onnxruntime", "bf16", "engine onnxruntime: has no bf16; write fp32"),
        ("openvino", "fp16", "engine openvino: has no fp16; write fp32 or bf16"),
        ("compile", "bf16", "engine compile: runs on cuda, the network is on cpu"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine: str, precision: str, message: str) -> None:
    with pytest.raises(DarknetError, match=message):
        engine_runner(shapes(), engine, precision=precision)


@pytest.mark.parametrize("engine", INSTALLED)
def test_another_programs_numbers_are_not_taken(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "TOLERANCES", {"fp32": -1.0})
    with pytest.raises(DarknetError, match=f"engine {engine}: its outputs differ"):
        engine_runner(shapes(), engine)


def test_each_word_for_an_engine_has_one() -> None:
    assert {*SESSIONS, "compile", "torch"} == set(ENGINES) == {*DEVICES, "torch"}


@pytest.mark.parametrize("engine", [*INSTALLED, "auto"])
def test_detect_says_which_engine_it_takes(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cfg", str(CFGS / "shapes.cfg"), "--weights", str(ROOT / "weights" / "shapes.weights"), str(IMAGE)]
    assert detect.main([*arguments, "--out", str(tmp_path), "--engine", engine, "--device", "cpu"]) == 0
    assert "engine: " in capsys.readouterr().err


@pytest.mark.parametrize("engine", INSTALLED)
def test_a_signal_is_taken_after_several_models_were_freed(engine: str, tmp_path: Path) -> None:
    """OpenVINO alone would leave the process with the memory of a freed model as the stack for signals."""
    code = f"""
import os, signal, torch, darknet_py
from darknet_py.inference.engines import engine_runner
network = darknet_py.load({str(CFGS / "shapes.cfg")!r}, {str(ROOT / "weights" / "shapes.weights")!r})
signal.signal(signal.SIGTERM, lambda *_: print("taken"))
for _ in range(2):
    runner = engine_runner(network, {engine!r}, batch=3)
    for count in (3, 1):
        runner(torch.rand(count, *network.input_shape[:3]))
del runner
os.kill(os.getpid(), signal.SIGTERM)
print("alive")
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.split() == ["taken", "alive"], done.stderr
