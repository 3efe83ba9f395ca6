"""What others run Darknet models with, measured beside this project: one process each, visited in turn.

    results = compare(model, ["darknet_py", "openvino", "onnxruntime", "opencv"], batch=1, seconds=2)

This file is also the program of those processes. It runs in any Python that has the engine, such as one with OpenCV 4,
the last that reads Darknet's files; so it imports nothing of this package but for the engine `darknet_py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 4
BUSY = 0.15  # cores that others may use during a block that counts
TRIES = 3  # blocks that are measured for one that counts; the last counts anyway, and the result says so


class Model(NamedTuple):
    """The files of a model. size: (width, height), pixels."""

    cfg: str
    weights: str
    onnx: str
    size: tuple[int, int]


class Speed(NamedTuple):
    """What was measured of an engine: its version, the median milliseconds per batch of each block, and how many of
    them others disturbed."""

    version: str
    blocks: list[float]
    disturbed: int

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.blocks)


def of_darknet_py(model: Model, batch: int, threads: int) -> tuple[str, Callable[[], object]]:
    import torch

    from darknet_py import load
    from darknet_py.inference.runner import prepare

    torch.set_num_threads(threads)
    runner = prepare(load(model.cfg, model.weights, size=model.size), batch=batch, fused=True)
    images = torch.rand(batch, 3, model.size[1], model.size[0])
    return f"torch {torch.__version__}", lambda: runner(images)


def of_openvino(model: Model, batch: int, threads: int) -> tuple[str, Callable[[], object]]:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model.onnx, "CPU", settings).create_infer_request()
    images = _images(model, batch)
    return openvino.__version__.split("-")[0], lambda: request.infer([images])


def of_onnxruntime(model: Model, batch: int, threads: int) -> tuple[str, Callable[[], object]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    images = _images(model, batch)
    return onnxruntime.__version__, lambda: session.run(None, {"images": images})


def of_opencv(model: Model, batch: int, threads: int) -> tuple[str, Callable[[], object]]:
    import cv2

    cv2.setNumThreads(threads)
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise ImportError("this OpenCV does not read Darknet's files; OpenCV 4 does")
    net = cv2.dnn.readNetFromDarknet(model.cfg, model.weights)
    images, names = _images(model, batch), net.getUnconnectedOutLayersNames()

    def run() -> object:
        net.setInput(images)
        return net.forward(names)

    return cv2.__version__, run


ENGINES = {
    "darknet_py": of_darknet_py,
    "openvino": of_openvino,
    "onnxruntime": of_onnxruntime,
    "opencv": of_opencv,
}


def _images(model: Model, batch: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).random((batch, 3, model.size[1], model.size[0]), np.float32)


def compare(
    model: Model, engines: Sequence[str], *, batch: int, threads: int, seconds: float, pythons: dict[str, str]
) -> tuple[dict[str, Speed], dict[str, str]]:
    """Measures engines in turn.

    Args:
        engines: keys of ENGINES. seconds: of each engine's block in each of ROUNDS rounds. pythons: by engine, the
            Python that has it; default: this one.

    Returns:
        The speeds, and for each engine that is left out why.
    """
    rest = [json.dumps([*model]), str(batch), str(threads)]
    processes = {name: _Process([pythons.get(name, sys.executable), __file__, name, *rest]) for name in engines}
    try:
        missing = {name: process.error for name, process in processes.items() if process.error}
        blocks: dict[str, list[float]] = {name: [] for name in engines if name not in missing}
        disturbed = dict.fromkeys(blocks, 0)
        for turn in range(ROUNDS):
            for name in sorted(blocks, reverse=bool(turn % 2)):
                milliseconds, busy = processes[name].block(seconds)
                blocks[name].append(milliseconds)
                disturbed[name] += busy > BUSY
        speeds = {name: Speed(processes[name].version, blocks[name], disturbed[name]) for name in blocks}
        return speeds, missing
    finally:
        for process in processes.values():
            process.end()


class _Process:
    """An engine's process: it says `ready`, and then answers each request for a block with its milliseconds."""

    def __init__(self, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[1]), *sys.path[1:]))}
        if command[0] != sys.executable:
            environment.pop("PYTHONPATH")
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
            )
        except OSError as error:
            from darknet_py.errors import DarknetError

            raise DarknetError(f"{command[0]}: no Python: {error.strerror}") from None
        answer = self._answer()
        self.version, self.error = answer.get("version", ""), answer.get("error", "")

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        return answer

    def block(self, seconds: float) -> tuple[float, float]:
        """Median milliseconds per batch, and the cores that others used."""
        assert self.process.stdin is not None
        for attempt in range(TRIES):
            before, own, start = _busy_seconds(), self._seconds(), time.perf_counter()
            print(seconds, file=self.process.stdin, flush=True)
            milliseconds = self._answer()["milliseconds"]
            elapsed = time.perf_counter() - start
            others = (_busy_seconds() - before - (self._seconds() - own)) / elapsed
            if others <= BUSY or attempt == TRIES - 1:
                return milliseconds, others
        raise AssertionError

    def _seconds(self) -> float:
        """Processor time that the process has used; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _busy_seconds() -> float:
    """Processor time that all processes together have used; 0 where the system does not say."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _serve(name: str, model: Model, batch: int, threads: int) -> None:
    """The program of an engine's process."""
    try:
        version, run = ENGINES[name](model, batch, threads)
        for _ in range(2):
            run()
    except Exception as error:
        print(json.dumps({"error": (str(error).splitlines() or [type(error).__name__])[0]}), flush=True)
        return
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), list[float]()
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1000)
        print(json.dumps({"milliseconds": statistics.median(times)}), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules have names that others use too
    cfg, weights, onnx, size = json.loads(sys.argv[2])
    _serve(sys.argv[1], Model(cfg, weights, onnx, tuple(size)), int(sys.argv[3]), int(sys.argv[4]))
