"""Writes the tables of docs/SPEED.md that say how time and memory grow with images, pixels, boxes and layers.

python tests/conformance/growth.py
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from darknet_py.boxes import nms
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.data.shapes import write_dataset
from darknet_py.inference.runner import prepare
from darknet_py.network import Network

MODEL = ROOT / "cfg" / "yolov3-tiny.cfg"
BATCHES, SIZES = (1, 4, 16, 64), (320, 640, 1280)
BOXES, CLASSES = (100, 1_000, 10_000, 100_000), 80
LAYERS, IMAGES = (100, 1_000, 10_000), (10, 100, 1_000, 10_000)
LAYER = "[convolutional]\nfilters=4\nsize=1\nactivation=leaky\n"


def main() -> None:
    size = (320, 320)
    table("images in a batch", BATCHES, lambda count: (forward(count, size) / count, "ms an image"))
    table("width and height, pixels", SIZES, lambda side: (forward(1, (side, side)) / side**2 * 1e6, "ns a pixel"))
    table("boxes before suppression", BOXES, lambda count: (suppression(count) / count * 1e3, "us a box"))
    table("layers", LAYERS, lambda count: (building(count) / count, "ms a layer, to build"))
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), train=100, valid=1)
        pictures = sorted(Path(folder).rglob("train-*.*g"))[:100]
        table("image files", IMAGES, lambda count: detection(pictures, count))


def table(title: str, values: tuple[int, ...], measure: Callable[[int], tuple[float, str]]) -> None:
    print(f"\n| {title} | |\n|---|---|")
    for value in values:
        number, unit = measure(value)
        print(f"| {value:,} | {number:.3g} {unit} |", flush=True)


def milliseconds(action: Callable[[], object]) -> float:
    action()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def forward(count: int, size: tuple[int, int]) -> float:
    runner = prepare(Network(parse_cfg(MODEL), size=size).initialise(0).eval(), batch=count, fused=True)
    images = torch.rand(count, 3, size[1], size[0])
    return milliseconds(lambda: runner(images))


def suppression(count: int) -> float:
    generator = torch.Generator().manual_seed(0)
    xywh = torch.rand(count, 4, generator=generator) * torch.tensor([1, 1, 0.2, 0.2])
    groups = torch.randint(CLASSES, (count,), generator=generator)
    scores = torch.rand(count, generator=generator)
    return milliseconds(lambda: nms(xywh, scores, groups, 0.45))


def building(count: int) -> float:
    text = "[net]\nwidth=8\nheight=8\nchannels=4\n" + count * LAYER
    return milliseconds(lambda: Network(parse_text(text)))


def detection(pictures: list[Path], count: int) -> tuple[float, str]:
    """Of the whole command: its time and its greatest memory."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "pictures.txt"
        names.write_text("".join(f"{pictures[number % len(pictures)]}\n" for number in range(count)))
        command = ["detect", str(names), "--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights"]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, __file__, *command, "--names", "cfg/shapes.names", "--no-pictures", "--out", folder],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        elapsed = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return elapsed / count * 1000, f"ms a file, {elapsed:.1f} s in all; at most {megabytes:.0f} MB so far"


if __name__ == "__main__":
    if sys.argv[1:2] == ["detect"]:
        from darknet_py.detect import main as detect

        sys.exit(detect(sys.argv[2:]))
    main()
