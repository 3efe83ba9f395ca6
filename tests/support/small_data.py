"""Small data sets: images of noise, and a .data file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_noise(path: Path, seed: int = 0) -> Path:
    """Writes an image of noise, 96x64, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8))
    return path


def data_file(folder: Path, **options: str) -> Path:
    """Writes obj.data with the given options, and its obj.names: cat and dog."""
    (folder / "obj.names").write_text("cat\ndog\n")
    lines = {"classes": "2", "names": "obj.names", **options}
    (folder / "obj.data").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    return folder / "obj.data"
