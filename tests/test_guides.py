"""The guides' examples work as they are written."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from project import ROOT, python


def blocks_of(guide: str) -> list[str]:
    text = (ROOT / "docs" / "guide" / guide).read_text(encoding="utf-8")
    return re.findall(r"```(?:python)?\n(.*?)```", text, re.DOTALL)


def test_the_guides_layer_works(tmp_path: Path) -> None:
    code, cfg = blocks_of("add-a-layer.md")[:2]
    (tmp_path / "gain.py").write_text(code)
    (tmp_path / "gain.cfg").write_text(cfg)
    use = """
import gain, torch, darknet_py
network = darknet_py.load("gain.cfg")
print(network(torch.ones(1, 3, 8, 8))[0].unique().tolist())
"""
    done = python("-c", use, cwd=tmp_path)
    assert done.stdout == "[2.0]\n", done.stderr


def test_the_guides_head_learns(tmp_path: Path) -> None:
    for name, block in zip(("center.py", "center.cfg", "train_center.py"), blocks_of("add-a-head.md"), strict=True):
        (tmp_path / name).write_text(block, encoding="utf-8")
    drawn = python("-m", "darknet_py.shapes", "shapes", "--train", "40", "--valid", "8", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    arguments = ("shapes/shapes.data", "center.cfg", "--out", "out", "--workers", "0", "--device", "cpu")
    done = python("train_center.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 60
    assert sum(losses[-10:]) / 10 < sum(losses[:3]) / 3 / 2
