"""What others run Darknet models with, measured beside this project: one process each, visited in turn.

    results = compare(model, ["darknet_py", "openvino", "opencv"], batch=1, threads=2, seconds=2, places={})

This file is also the program of those processes. It runs in any Python that has the engine, such as one with OpenCV 4,
the last that reads Darknet's files; so it imports nothing of this package but for the engine `darknet_py`.
"""

from __future__ import annotations

import atexit
import json
import os
import re
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
    """The files of a model, in a folder of their own. size: (width, height), pixels."""

    cfg: str
    weights: str
    onnx: str
    size: tuple[int, int]
    classes: int


class Speed(NamedTuple):
    """What was measured of an engine: its version, the median milliseconds per batch of each block, and how many of
    them others disturbed."""

    version: str
    blocks: list[float]
    disturbed: int

    def title(self, engine: str) -> str:
        return f"{engine} ({self.version})" if self.version else engine

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


def of_darknet(model: Model, batch: int, threads: int, program: str) -> tuple[str, Callable[[], object]]:
    """The C program, whose own report of each image's time counts: the network alone."""
    if batch != 1:
        raise ValueError("the C program's `detector test` takes one image at a time; write --batch 1")
    folder = Path(model.cfg).parent
    (folder / "darknet.names").write_text("".join(f"{number}\n" for number in range(model.classes)))
    (folder / "darknet.data").write_text(f"classes={model.classes}\nnames={folder / 'darknet.names'}\n")
    command = [program, "detector", "test", "darknet.data", model.cfg, model.weights, "-dont_show", "-thresh", "0.99"]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    atexit.register(process.kill)  # its standard input stays open otherwise
    image = folder / "darknet.ppm"
    width, height = model.size
    image.write_bytes(b"P6 %d %d 255\n" % (width, height) + os.urandom(3 * width * height))

    def run() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(image, file=process.stdin, flush=True)
        for line in process.stdout:
            if (found := re.search(r"Predicted in ([0-9.]+) milli-seconds", line)) is not None:
                return float(found[1])
        raise ValueError("the program ended; does it run `detector test` with this network?")

    return "", run


def of_pytorchyolo(model: Model, batch: int, threads: int) -> tuple[str, Callable[[], object]]:
    import torch
    from pytorchyolo.models import load_model  # type: ignore[import-not-found]

    torch.set_num_threads(threads)
    network, images = load_model(model.cfg, model.weights).cpu().eval(), torch.from_numpy(_images(model, batch))

    def run() -> object:
        with torch.no_grad():
            return network(images)

    return f"torch {torch.__version__}", run


ENGINES: dict[str, Callable[..., tuple[str, Callable[[], object]]]] = {
    "darknet_py": of_darknet_py,
    "openvino": of_openvino,
    "onnxruntime": of_onnxruntime,
    "opencv": of_opencv,
    "pytorchyolo": of_pytorchyolo,
    "darknet": of_darknet,
}
"""Engine → what loads a model, for so many images and threads: (its version, what runs it once). That returns the
milliseconds it took, where it says so itself."""
PROGRAMS = {"darknet"}  # engines that are a program of their own, no Python


def _images(model: Model, batch: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).random((batch, 3, model.size[1], model.size[0]), np.float32)


def compare(
    model: Model, engines: Sequence[str], *, batch: int, threads: int, seconds: float, places: dict[str, str]
) -> tuple[dict[str, Speed], dict[str, str]]:
    """Measures engines in turn.

    Args:
        engines: keys of ENGINES. seconds: of each engine's block in each of ROUNDS rounds. places: by engine, the
            Python that has it, or the program itself; default: this Python.

    Returns:
        The speeds, and for each engine that is left out why.
    """
    rest = [json.dumps([*model]), str(batch), str(threads)]
    processes = {}
    for name in engines:
        place = places.get(name, sys.executable)
        python, more = (sys.executable, [place]) if name in PROGRAMS else (place, [])
        processes[name] = _Process([python, __file__, name, *rest, *more])
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
        """Processor time that the process and those it started have used; 0 where the system does not say."""
        ticks = 0
        try:
            own = Path(f"/proc/{self.process.pid}")
            started = (own / f"task/{self.process.pid}/children").read_text().split()
            for number in (self.process.pid, *started):
                fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            return 0.0
        return ticks / os.sysconf("SC_CLK_TCK")

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


def _serve(name: str, model: Model, batch: int, threads: int, *program: str) -> None:
    """The program of an engine's process."""
    try:
        version, run = ENGINES[name](model, batch, threads, *program)
        for _ in range(2):
            run()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        ours = isinstance(error, ImportError | ValueError)
        print(json.dumps({"error": reason if ours else f"{type(error).__name__}: {reason}"}), flush=True)
        return
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), list[float]()
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            said = run()
            times.append(said if isinstance(said, float) else (time.perf_counter() - start) * 1000)
        print(json.dumps({"milliseconds": statistics.median(times)}), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules have names that others use too
    cfg, weights, onnx, size, classes = json.loads(sys.argv[2])
    _serve(
        sys.argv[1], Model(cfg, weights, onnx, tuple(size), classes), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]
    )
