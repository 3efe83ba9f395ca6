"""A training of seconds: the smallest network that normalises and detects, and its command."""

from __future__ import annotations

from pathlib import Path

from darknet_py.train import main

CFG = """[net]
batch=4
subdivisions=2
width=64
height=64
channels=3
momentum=0.9
decay=0.0005
hue=.1
saturation=1.5
exposure=1.5
learning_rate={rate}
burn_in=2
max_batches={iterations}
policy=constant
{extra}
[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=16
size=3
stride=4
pad=1
activation=leaky

[convolutional]
filters=33
size=1
activation=linear

[yolo]
mask=0,1,2
anchors=10,10, 20,20, 40,40
classes=6
num=3
jitter=.2
max=20
random={random}
"""


def write_cfg(folder: Path, iterations: int = 6, rate: str = "0.001", random: int = 0, extra: str = "") -> Path:
    path = folder / "tiny.cfg"
    path.write_text(CFG.format(rate=rate, iterations=iterations, random=random, extra=extra))
    return path


def run(data: Path, cfg: Path, out: Path, *arguments: str) -> int:
    return main([str(data), str(cfg), "--out", str(out), "--workers", "0", "--device", "cpu", *arguments])
