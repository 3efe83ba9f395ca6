"""The engines that run a network for `Detector`: PyTorch, or onnxruntime and OpenVINO on a file of `export_onnx`.

runner = engine_runner(network, "openvino")     # as prepare(network): the same outputs
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.arguments import whole
from darknet_py.choices import AUTO, ENGINES
from darknet_py.errors import DarknetError
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.inference.fused import Graph, difference
from darknet_py.inference.onnx_runner import open_session
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.inference.runner import Runner, prepare
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network

Floats: TypeAlias = NDArray[np.float32]
Session: TypeAlias = Callable[[Floats], Sequence[Floats]]
DEVICES = {"openvino": "cpu", "onnxruntime": "cpu", "compile": "cuda"}  # of other engines than PyTorch
EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}  # what to install for an engine
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1}
"""By precision: how far an output may be from PyTorch's in float32, relative to its largest value."""


def engine_runner(
    network: Network, engine: str = "torch", *, precision: str = "fp32", batch: int = 8, fused: bool = False
) -> Runner:
    """A runner by an engine, which gives the network's outputs.

    Other engines than PyTorch run an exported file; it is made once, and kept in a cache (XDG_CACHE_HOME, else
    ~/.cache/darknet_py). Its outputs are compared with the network's before it is used.

    Args:
        engine: "torch", for a GPU "compile", for a CPU "onnxruntime" and "openvino", or "auto": see `preferred`.
        precision: PyTorch has all, OpenVINO "fp32" and "bf16", onnxruntime "fp32".
        batch, fused: see `prepare`; other engines than PyTorch are always compiled.

    Raises:
        DarknetError: the engine is unknown or not installed, or cannot run this network at this precision.
    """
    reason = ""
    if engine == AUTO and isinstance(network, Network):
        engine, reason = preferred(network, precision)
    if engine == "torch" or not isinstance(network, Network):
        runner = prepare(network, precision=precision, batch=batch, fused=fused)
        runner.engine += reason
        return runner
    if engine not in ENGINES:
        raise DarknetError(f"unknown engine '{engine}'; write {', '.join(ENGINES)} or {AUTO}")
    if against := _reason_against(engine, network, precision):
        raise DarknetError(f"engine {engine}: {against}")
    if engine == "compile":
        runner = prepare(network, precision=precision, batch=batch, compiled=True)
        runner.engine = f"torch.compile {torch.__version__}{reason}"
        return runner
    derived = reparameterised(network)
    compile = partial(_graph, _exported(derived), engine, precision)
    return Runner(
        derived, precision, whole("batch", batch), compile=compile, engine=f"{engine} {version(engine)}{reason}"
    )


def preferred(network: Network, precision: str = "fp32") -> tuple[str, str]:
    """The usually fastest engine that is installed and can run the network, and why others are not taken, or "".

    On a CPU: OpenVINO, onnxruntime, PyTorch, in this order; on a GPU torch.compile, PyTorch.
    """
    reasons: list[str] = []
    for engine in (name for name in ENGINES if DEVICES.get(name) == network.device.type):
        reason = _reason_against(engine, network, precision)
        if reason is None:
            break
        reasons.append(f"{engine}: {reason}")
    else:
        engine = "torch"
    return engine, f" ({'; '.join(reasons)})" if reasons else ""


def _reason_against(engine: str, network: Network, precision: str) -> str | None:
    """Why an engine cannot run a network; None: it can."""
    if network.device.type != DEVICES[engine]:
        return f"runs on {DEVICES[engine]}, the network is on {network.device}"
    if any(isinstance(layer, Recurrent) for layer in network.layers):
        return "recurrent layers keep states, which only PyTorch carries on"
    try:
        network.check_graph("is no single graph")
    except DarknetError as error:
        return str(error)
    if engine == "compile":
        return None if find_spec("triton") else "triton, which comes with PyTorch for Linux, is not installed"
    if precision not in SESSIONS[engine]:
        return f"has no {precision}; write {' or '.join(SESSIONS[engine])}"
    missing = [package for package in (engine, "onnx", "onnxscript", "onnxruntime") if not find_spec(package)]
    if missing:
        return f"{', '.join(missing)} not installed; pip install 'darknet-cfg[{EXTRAS[engine]}]'"
    return None


def _exported(network: Network) -> Path:
    """The network as a file of raw outputs, from the cache or made for it."""
    path = _cache_folder() / f"{Path(network.cfg.path).stem or 'network'}-{_digest(network)}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(network, path, Form("raw"))
    return path


def _cache_folder() -> Path:
    """Where exported networks are kept; a temporary folder where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darknet_py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"darknet_py-{os.getuid() if hasattr(os, 'getuid') else ''}"


def _digest(network: Network) -> str:
    """Of all that the exported file depends on: cfg, size, weights, and the packages that make it."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(f"{network.cfg.text}\n{network.size}\n{_versions()}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _versions() -> list[str]:
    found = []
    for package in ("darknet-cfg", "torch", "onnx", "onnxscript"):
        try:
            found.append(version(package))
        except PackageNotFoundError:  # run from a clone that is not installed
            found.append("")
    return found


def _graph(path: Path, engine: str, precision: str, network: Network, count: int) -> Graph:
    """The engine as a function of `count` images.

    Raises:
        DarknetError: it gives other numbers than the network.
    """
    session = SESSIONS[engine][precision](path, count)
    images = torch.rand((count, *network.input_shape[:3]), generator=torch.Generator().manual_seed(0))

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session(images.contiguous().numpy())]

    with torch.inference_mode():
        worst = difference(run(images), network(images))
    if not worst <= TOLERANCES[precision]:
        raise DarknetError(
            f"engine {engine}: its outputs differ from PyTorch's by {worst:.1e} of their largest value; "
            f"{TOLERANCES[precision]:.0e} is the limit; write another engine"
        )
    return run


def _onnxruntime(path: Path, count: int) -> Session:
    session = open_session(path)
    return lambda images: session.run(None, {"images": images})


class _SignalStack(ctypes.Structure):
    """stack_t of <signal.h>."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _own_signal_stack() -> Iterator[None]:
    """Keeps the stack on which this thread takes signals. OpenVINO lays one of its own for each model, and brings back
    the one before when the model is freed: that of a model freed earlier is gone, and Ctrl-C would end in a crash."""
    sigaltstack = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "sigaltstack", None)
    before = _SignalStack()
    if sigaltstack is not None:
        sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if sigaltstack is not None:
            sigaltstack(ctypes.byref(before), None)


def _openvino(path: Path, count: int, hint: str = "f32") -> Session:
    import openvino

    core = openvino.Core()
    model = core.read_model(os.fspath(path))
    model.reshape({"images": [count, *(axis.get_length() for axis in model.input("images").partial_shape[1:])]})
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    with _own_signal_stack():
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    outputs = range(len(model.outputs))

    def run(images: Floats) -> list[Floats]:
        request.infer([images])
        return [request.get_output_tensor(number).data.copy() for number in outputs]

    return run


SESSIONS: dict[str, dict[str, Callable[[Path, int], Session]]] = {
    "openvino": {"fp32": _openvino, "bf16": partial(_openvino, hint="bf16")},
    "onnxruntime": {"fp32": _onnxruntime},
}
"""Engine, precision → what opens a file for a fixed number of images."""
