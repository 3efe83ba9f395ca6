"""Writes docs/EXPORTED.md: which official cfgs can be exported to ONNX, and how far what runs the file differs.

    python tests/conformance/exports.py [FOLDER of cfgs] > docs/EXPORTED.md

Needs the conformance kit (`kit.py`), or a folder of cfgs. Each network gets fresh weights and one image of random
numbers (recurrent layers random states too), at a quarter of its size where it can be built so. Each runs in a process
of its own, as some are large.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

from importlib.metadata import version

from kit import KIT

from darknet_py.cfg import parse_cfg
from darknet_py.errors import CfgError, DarknetError
from darknet_py.inference.exporting import Form, Graph, export_onnx
from darknet_py.inference.onnx_runner import open_session
from darknet_py.network import Network

PACKAGES = ("torch", "onnxruntime", "opencv-python", "openvino")
Arrays = dict[str, np.ndarray]  # by name
SECONDS = 900  # for one cfg
HEAD = """# Exported networks

Every official cfg, exported as `--outputs raw`, and the greatest difference of an output from the network's own, as a
fraction of the output's largest value. Written by `python tests/conformance/exports.py > docs/EXPORTED.md` with
{versions}.

| cfg | size | onnxruntime | OpenCV | OpenVINO |
|---|---|---|---|---|"""


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else KIT / "cfg"
    print(HEAD.format(versions=", ".join(f"{name} {version(name)}" for name in PACKAGES)))
    counts = [0, 0, 0]
    paths = sorted(folder.rglob("*.cfg"))
    for path in paths:
        command = [sys.executable, __file__, "--one", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            columns = json.loads(done.stdout) if not done.returncode else ["", "ended with an error", "", ""]
        except subprocess.TimeoutExpired:
            columns = ["", f"not done in {SECONDS} s", "", ""]
        counts = [count + is_number(text) for count, text in zip(counts, columns[1:], strict=True)]
        print(f"| {path.relative_to(folder).with_suffix('')} | {' | '.join(columns)} |", flush=True)
    names = ("onnxruntime", "OpenCV", "OpenVINO")
    print("\n" + ", ".join(f"{name}: {count} of {len(paths)}" for name, count in zip(names, counts, strict=True)))


def is_number(text: str) -> bool:
    return text[:1].isdigit()


def measure(path: Path) -> list[str]:
    """Size, and for each consumer the difference, or why there is none."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        network = small_network(path)
        size = "x".join(map(str, network.size))
        images = torch.rand(1, *network.input_shape[:3]) if network.input_shape.c else torch.rand(1, network.net.inputs)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            report = export_onnx(network, file, Form("raw"))
            session = open_session(file)
            names = [entry.name for entry in session.get_outputs()]
            inputs = {"images": images}  # and the states of recurrent layers
            inputs |= {entry.name: torch.rand(1, *entry.shape[1:]) for entry in session.get_inputs()[1:]}
            graph = Graph(network.eval(), Form("raw"))
            own = [tensor.numpy() for tensor in graph(images, [inputs[name] for name in graph.others])]
            if not all(output.std() > 0 for output in own):
                return [size, "not shown: an output is constant", "", ""]
            texts = [f"{max(report.differences.values()):.0e}"]
            for consumer in (in_opencv, in_openvino):
                given = {name: tensor.numpy() for name, tensor in inputs.items()}
                texts.append(difference(consumer, file, given, dict(zip(names, own, strict=True))))
    except DarknetError as error:
        return ["", sentence(error), "", ""]
    return [size, *texts]


def small_network(path: Path) -> Network:
    """A network with fresh weights, at a quarter of its size where it can be built so."""
    network = Network(parse_cfg(path))
    if network.input_shape.c:
        width, height = (max(side // 4 // 32, 2) * 32 for side in network.size)
        with suppress(CfgError):
            network = Network(parse_cfg(path), size=(width, height))
    network.initialise(1)
    for name, buffer in network.named_buffers():
        if name.endswith("rolling_variance"):
            buffer.fill_(1)
    return network.requires_grad_(False)


def in_opencv(file: Path, inputs: Arrays, names: list[str]) -> list[np.ndarray]:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(file))
    for name, values in inputs.items():
        net.setInput(values, name)
    return [np.asarray(output) for output in net.forward(names)]


def in_openvino(file: Path, inputs: Arrays, names: list[str]) -> list[np.ndarray]:
    import openvino

    results = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    return [results[name] for name in names]


def difference(
    consumer: Callable[[Path, Arrays, list[str]], list[np.ndarray]], file: Path, inputs: Arrays, own: Arrays
) -> str:
    try:
        theirs = consumer(file, inputs, list(own))
    except Exception as error:  # whatever the program raises is its answer
        return sentence(error)
    worst = 0.0
    for mine, other in zip(own.values(), theirs, strict=True):
        worst = max(worst, float(np.abs(other.reshape(mine.shape) - mine).max() / max(np.abs(mine).max(), 1e-12)))
    return f"{worst:.0e}"


def sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].split(": ", 2)[-1].replace("|", "/")[:110]


if __name__ == "__main__":
    main()
