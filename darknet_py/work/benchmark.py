"""What `python -m darknet_py.benchmark` does: things measured in turn, and ratios."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from darknet_py.cfg import parse_cfg
from darknet_py.data.dataset import open_dataset
from darknet_py.data.loader import default_workers, image_batches
from darknet_py.detector import Detector
from darknet_py.devices import pick_device
from darknet_py.errors import DarknetError
from darknet_py.files import replacing
from darknet_py.inference.deploy import deployed
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.measuring.plots import check_matplotlib, draw_speeds
from darknet_py.network import Network
from darknet_py.peers import Model, compare
from darknet_py.training.step import Trainer
from darknet_py.weights import load_weights, save_weights
from darknet_py.work.benchmark_gpu import measure_gpu, usual_head, usual_network

ROUNDS = 5
IMAGE = (576, 768)  # height, width of the image that is prepared


def interleaved(actions: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each action; they take turns, so that a slow spell of the machine hits them all."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(ROUNDS):
        for name, action in actions.items():
            end = time.perf_counter() + seconds / ROUNDS
            while True:
                start = time.perf_counter()
                action()
                now = time.perf_counter()
                times[name].append((now - start) * 1000)
                if now > end:
                    break
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, times: dict[str, float]) -> None:
    """Prints milliseconds, and how many times as fast as the first line each one is."""
    first = next(iter(times.values()))
    print(f"\n{title}")
    for name, value in times.items():
        print(f"  {name:44} {value:10.3f} ms   x{first / value:.2f}")


@torch.inference_mode()
def measure_network(cfg: str, size: tuple[int, int] | None, batch: int, seconds: float) -> None:
    """The forward pass: as trained, with batch norm folded, in the detector's memory layout, in lower precision."""
    trained = usual_network(cfg, size)
    width, height = trained.size
    images = torch.rand(batch, trained.net.channels, height, width)
    actions: dict[str, Callable[[], object]] = {}

    def add(name: str, network: Network, images: torch.Tensor) -> None:
        actions[name] = lambda: network(images)

    add("as trained", trained, images)
    add("batch norm folded", deployed(usual_network(cfg, size)), images)
    channels_last = images.to(memory_format=torch.channels_last)
    folded = deployed(usual_network(cfg, size)).channels_last()
    add("folded, channels last (the detector's)", folded, channels_last)
    low = deployed(usual_network(cfg, size)).to(torch.bfloat16).channels_last()
    add("folded, channels last, bf16", low, channels_last.to(torch.bfloat16))
    report(f"forward pass of {cfg}, {width}x{height}, batch {batch}, cpu", interleaved(actions, seconds))


@torch.inference_mode()
def measure_around(cfg: str, size: tuple[int, int] | None, seconds: float) -> None:
    """Around the network, on one core: Darknet's resize, then decoding and suppressing a usual number of boxes."""
    network = usual_network(cfg, size)
    if not network.heads:
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = Detector(network)
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE, network.net.channels), dtype=np.uint8)
    heads = [usual_head(head) for head in network(detector.prepare([image]))]
    sizes = [(IMAGE[1], IMAGE[0])]
    detections = len(detector.postprocess(heads, sizes, 0.25, 0.45)[0])
    candidates = len(detector.candidates(heads, 0.25).image)
    actions: dict[str, Callable[[], object]] = {
        "before and after": lambda: (detector.prepare([image]), detector.postprocess(heads, sizes, 0.25, 0.45)),
        "before: Darknet's resize": lambda: detector.prepare([image]),
        f"after: {candidates} candidates, {detections} detections": lambda: detector.postprocess(
            heads, sizes, 0.25, 0.45
        ),
        "(cv2.resize and division, not Darknet's numbers)": lambda: (
            cv2.resize(image, network.size).astype(np.float32) / 255
        ),
    }
    report(
        f"around the network, one core, a {IMAGE[1]}x{IMAGE[0]} image at {network.size[0]}x{network.size[1]}",
        interleaved(actions, seconds),
    )
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def measure_loading(cfg: str, seconds: float) -> None:
    """Building the network and loading its weights, against reading the bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights"
        save_weights(usual_network(cfg, None), path)
        megabytes = path.stat().st_size / 1e6
        actions: dict[str, Callable[[], object]] = {
            "numpy.fromfile": lambda: np.fromfile(path, np.float32),
            "build the network and load it": lambda: load_weights(Network(parse_cfg(cfg)), path),
        }
        report(f"loading {megabytes:.0f} MB", interleaved(actions, seconds))


def measure_import() -> None:
    """`import darknet_py`, against `import torch` alone."""

    def milliseconds_of(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - start) * 1000

    names = ("import torch", "import darknet_py")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            times[name].append(milliseconds_of(name))
    report("starting Python", {name: statistics.median(values) for name, values in times.items()})


def measure_peers(
    cfg: str, size: tuple[int, int] | None, batch: int, seconds: float, against: dict[str, str]
) -> dict[str, Any]:
    """The network, raw outputs only, in what others use: each engine in a process of its own, all in turn.

    against: engine → the Python that has it, or its program.
    """
    network, threads = usual_network(cfg, size), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        weights, onnx = Path(folder) / "model.weights", Path(folder) / "model.onnx"
        save_weights(network, weights)
        export_onnx(network, onnx, Form("raw"))
        text = Path(folder) / "model.cfg"  # OpenCV takes the size from the file
        text.write_text(network.cfg.with_options({-1: dict(zip(("width", "height"), network.size, strict=True))}).text)
        model = Model(str(text), str(weights), str(onnx), network.size, network.classes)
        engines = ["darknet_py", *against]
        speeds, missing = compare(
            model, engines, batch=batch, threads=threads, seconds=seconds / ROUNDS, places=against
        )
    first = next(iter(speeds.values())).milliseconds
    print(f"\n{cfg}, {network.size[0]}x{network.size[1]}, batch {batch}, cpu, {threads} threads, float32")
    for name, speed in speeds.items():
        low, high = min(speed.blocks), max(speed.blocks)
        note = f"   {speed.disturbed} of {len(speed.blocks)} blocks disturbed" if speed.disturbed else ""
        value, title = speed.milliseconds, speed.title(name)
        print(f"  {title:34} {value:9.2f} ms ({low:.2f} to {high:.2f})  x{first / value:.2f}{note}")
    for name, reason in missing.items():
        print(f"  {name}: left out: {reason}")
    return {
        "cfg": cfg,
        "size": network.size,
        "batch": batch,
        "threads": threads,
        "milliseconds": {name: speed.blocks for name, speed in speeds.items()},
        "versions": {name: speed.version for name, speed in speeds.items()},
    }


def _group(measured: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """A title, and the median milliseconds of each engine."""
    title = f"{Path(measured['cfg']).stem}, {measured['size'][0]}, batch {measured['batch']}"
    return title, {name: statistics.median(blocks) for name, blocks in measured["milliseconds"].items()}


def measure_training(cfg: str, data: str, device: str, seconds: float) -> None:
    """Training, per mini-batch: the step in each precision and memory layout, and loading with various workers."""
    network = Network(parse_cfg(cfg))
    if not network.heads:
        raise DarknetError(f"{cfg}: --data measures the training of detectors, but this network has no detection head")
    dataset, net = open_dataset(data, "train"), network.net
    count = max(net.batch // net.subdivisions, 1)
    needs = network.head_layers()[-1].needs()
    first = next(image_batches(dataset, net, needs, mini_batch=count, seed=0, workers=0))
    images, truths = first.images.to(device), first.truths.to(device)
    actions: dict[str, Callable[[], object]] = {}

    def add(name: str, precision: str, *, channels_last: bool) -> None:
        trained = Network(parse_cfg(cfg)).initialise(0).to(device)
        trainer = Trainer(trained.channels_last() if channels_last else trained, precision=precision)

        def action() -> None:
            trainer.accumulate(images, truths)
            trainer.update()
            if device != "cpu":
                torch.cuda.synchronize()

        actions[name] = action

    add("step, float32", "fp32", channels_last=False)
    add("step, float32, channels last (the default)", "fp32", channels_last=True)
    for name in ("bf16",) if device == "cpu" else ("bf16", "fp16"):
        add(f"step, {name}, channels last", name, channels_last=True)
    times = interleaved(actions, seconds)
    for workers in sorted({0, 1, 2, default_workers()}):
        stream = image_batches(dataset, net, needs, mini_batch=count, seed=0, workers=workers)
        taken, start = 0, 0.0
        for _ in stream:
            taken += 1
            if taken == 2 * workers + 1:  # the prefetched mini-batches are consumed
                start = time.perf_counter()
            if start and time.perf_counter() - start > seconds and taken > 3 * workers + 4:
                break
        times[f"loading, {f'{workers} workers' if workers else 'in the training process'}"] = (
            (time.perf_counter() - start) * 1000 / (taken - 2 * workers - 1)
        )
        stream.close()  # type: ignore[attr-defined]
    size = f"{net.width}x{net.height}"
    report(f"training {cfg}, mini-batches of {count} images at {size}, {device}", times)
    for name, value in times.items():
        print(f"  {name:44} {count * 1000 / value:10.1f} images/s")


def run(args: argparse.Namespace) -> int:
    """Measures what the arguments ask for. Returns the exit status."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    device = pick_device(args.device)
    results: object = None
    if args.against:
        if args.chart:
            check_matplotlib()
        speeds = [
            measure_peers(cfg, args.size, batch, args.seconds, args.against) for cfg in args.cfg for batch in args.batch
        ]
        if args.chart:
            draw_speeds(Path(args.chart), [_group(measured) for measured in speeds])
        results = speeds
    elif args.data:
        for cfg in args.cfg:
            measure_training(cfg, args.data, str(device), args.seconds)
    elif device.type != "cpu":
        results = measure_gpu(args.cfg, args.size, device, args.batch, args.seconds, args.compile)
    else:
        for cfg in args.cfg:
            for batch in args.batch:
                measure_network(cfg, args.size, batch, args.seconds)
            measure_around(cfg, args.size, args.seconds)
            measure_loading(cfg, args.seconds)
        measure_import()
    if args.json:
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return 0
