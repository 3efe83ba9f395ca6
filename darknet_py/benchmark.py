"""Measures speed, side by side in one process, and prints ratios: absolute times of a shared machine mean little.

python -m darknet_py.benchmark --cfg cfg/yolov3-tiny.cfg
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from darknet_py.cfg import parse_cfg
from darknet_py.command import add_size, run_command
from darknet_py.data.dataset import open_dataset
from darknet_py.data.loader import default_workers, image_batches
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError
from darknet_py.inference.runner import PRECISIONS
from darknet_py.network import Network
from darknet_py.training.step import Trainer
from darknet_py.weights import load_weights, save_weights

ROUNDS = 5
PICTURE = (576, 768)  # height, width of the picture that is prepared


def interleaved(actions: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each action; they take turns, so that a slow spell of the machine meets all."""
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
    first = next(iter(times.values()))
    print(f"\n{title}")
    for name, value in times.items():
        print(f"  {name:44} {value:10.3f} ms   x{first / value:.2f}")


def _trained(cfg: str, size: tuple[int, int] | None) -> Network:
    """Random weights whose values keep their size from layer to layer, as trained ones do."""
    network = Network(parse_cfg(cfg), size=size).initialise(0).eval().requires_grad_(False)
    for layer in network.layers:
        if getattr(layer, "rolling_variance", None) is not None:
            layer.rolling_variance.fill_(1.0 / 3)  # type: ignore[operator]
    return network


@torch.inference_mode()
def measure_network(cfg: str, size: tuple[int, int] | None, device: str, batch: int, seconds: float) -> None:
    plain = _trained(cfg, size).to(device)
    width, height = plain.size
    images = torch.rand(batch, plain.net.channels, height, width, device=device)
    actions: dict[str, Callable[[], object]] = {}

    def add(name: str, network: Network, given: torch.Tensor) -> None:
        def action() -> None:
            network(given)
            if device != "cpu":
                torch.cuda.synchronize()

        actions[name] = action

    add("plain", plain, images)
    fused = _trained(cfg, size).to(device).fuse()
    add("fused", fused, images)
    last = images.to(memory_format=torch.channels_last)
    add("fused, channels last (the detector's)", _trained(cfg, size).to(device).fuse().channels_last(), last)
    for name in ("bf16",) if device == "cpu" else ("bf16", "fp16"):
        low = _trained(cfg, size).to(device).fuse().to(PRECISIONS[name]).channels_last()
        add(f"fused, channels last, {name}", low, last.to(PRECISIONS[name]))
    report(f"forward pass of {cfg}, {width}x{height}, batch {batch}, {device}", interleaved(actions, seconds))


@torch.inference_mode()
def measure_around(cfg: str, size: tuple[int, int] | None, seconds: float) -> None:
    """Before and after the network, on one core: Darknet's resize, and decoding with suppression of a usual number of boxes."""
    network = _trained(cfg, size)
    if not network.heads:
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = Detector(network)
    picture = np.random.default_rng(0).integers(0, 256, (*PICTURE, network.net.channels), dtype=np.uint8)
    heads = [_usual_head(head) for head in network(detector.prepare([picture]))]
    sizes = [(PICTURE[1], PICTURE[0])]
    found = len(detector.postprocess(heads, sizes, 0.25, 0.45)[0])
    candidates = len(detector.candidates(heads, 0.25).image)
    actions: dict[str, Callable[[], object]] = {
        "before and after": lambda: (detector.prepare([picture]), detector.postprocess(heads, sizes, 0.25, 0.45)),
        "before: Darknet's resize": lambda: detector.prepare([picture]),
        f"after: {candidates} candidates, {found} detections": lambda: detector.postprocess(heads, sizes, 0.25, 0.45),
        "(cv2.resize and division, not Darknet's numbers)": lambda: (
            cv2.resize(picture, network.size).astype(np.float32) / 255
        ),
    }
    report(
        f"around the network, one core, a {PICTURE[1]}x{PICTURE[0]} picture at {network.size[0]}x{network.size[1]}",
        interleaved(actions, seconds),
    )
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _usual_head(raw: torch.Tensor) -> torch.Tensor:
    """Values as of a trained network: one box in two hundred is an object."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(raw.shape, generator=generator)
    return values - 2.6 if raw.ndim == 4 else values


def measure_loading(cfg: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights"
        save_weights(_trained(cfg, None), path)
        megabytes = path.stat().st_size / 1e6
        actions: dict[str, Callable[[], object]] = {
            "numpy.fromfile": lambda: np.fromfile(path, np.float32),
            "build the network and load it": lambda: load_weights(Network(parse_cfg(cfg)), path),
        }
        report(f"loading {megabytes:.0f} MB", interleaved(actions, seconds))


def measure_import() -> None:
    def seconds_of(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - start) * 1000

    names = ("import torch", "import darknet_py")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            times[name].append(seconds_of(name))
    report("starting Python", {name: statistics.median(values) for name, values in times.items()})


def measure_training(cfg: str, data: str, device: str, seconds: float) -> None:
    """A mini-batch of training: the step in each precision and layout, and the pictures for it, by so many processes."""
    network = Network(parse_cfg(cfg))
    if not network.heads:
        raise DarknetError(f"{cfg}: --data measures the training of detectors, and this network has no detection head")
    dataset, net = open_dataset(data, "train"), network.net
    count = max(net.batch // net.subdivisions, 1)
    needs = network.head_layers()[-1].needs()
    first = next(image_batches(dataset, net, needs, mini_batch=count, seed=0, workers=0))
    images, truths = first.images.to(device), first.truths.to(device)
    actions: dict[str, Callable[[], object]] = {}

    def add(name: str, precision: str, *, channels_last: bool) -> None:
        own = Network(parse_cfg(cfg)).initialise(0).to(device)
        trainer = Trainer(own.channels_last() if channels_last else own, precision=precision)

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
            if taken == 2 * workers + 1:  # what was fetched beforehand
                start = time.perf_counter()
            if start and time.perf_counter() - start > seconds and taken > 3 * workers + 4:
                break
        times[f"pictures, {f'{workers} processes' if workers else 'in turn with the step'}"] = (
            (time.perf_counter() - start) * 1000 / (taken - 2 * workers - 1)
        )
        stream.close()  # type: ignore[attr-defined]
    size = f"{net.width}x{net.height}"
    report(f"training {cfg}, mini-batches of {count} pictures at {size}, {device}", times)
    for name, value in times.items():
        print(f"  {name:44} {count * 1000 / value:10.1f} pictures/s")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.benchmark",
        description="Measures speed, side by side in one run; xN: times as fast as the first line of its group.",
        epilog="example: python -m darknet_py.benchmark --cfg cfg/yolov3.cfg --batch 8",
    )
    result.add_argument("--cfg", default="cfg/yolov3-tiny.cfg", help="the network (default: %(default)s)")
    result.add_argument("--device", default="cpu", help="cpu, cuda … (default: %(default)s)")
    result.add_argument("--batch", type=int, default=1, help="pictures at once (default: %(default)s)")
    result.add_argument(
        "--seconds", type=float, default=3.0, help="for each thing that is measured (default: %(default)s)"
    )
    result.add_argument("--data", help="a .data file: training is measured, the step and the loading of pictures")
    add_size(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if given.data:
        measure_training(given.cfg, given.data, given.device, given.seconds)
        return 0
    measure_network(given.cfg, given.size, given.device, given.batch, given.seconds)
    measure_around(given.cfg, given.size, given.seconds)
    measure_loading(given.cfg, given.seconds)
    measure_import()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
