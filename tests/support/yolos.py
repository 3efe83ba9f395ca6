"""What the original programs of YOLOv5 to v8, YOLOX, Faster R-CNN and mmdetection's YOLOv3 compute (`../shared/yolos`;
its README describes the files), and the weights that they were given: drawn numbers, by each program's own names."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from kit import SHARED
from numpy.typing import NDArray
from project import CFGS
from torch import Tensor

YOLOS = SHARED / "yolos"
needs_yolos = pytest.mark.skipif(
    not YOLOS.is_dir(), reason="the numbers of the original programs are not available (set DARKNET_PY_SHARED)"
)


def rows(path: Path) -> list[dict[str, str]]:
    """A table with a line of names, which may come after comments and may begin with "#"; lines may have numbers."""
    lines = path.read_text().splitlines()
    while lines[0].startswith("# "):
        lines.pop(0)
    lines[0] = lines[0].removeprefix("#")
    return list(csv.DictReader(lines, delimiter="\t"))


def networks() -> list[str]:
    """The networks whose outputs are known, as paths without suffix below the folder; one skipped case without it."""
    found = [path.parent for path in YOLOS.glob("*/*/forward.npz")]
    found += [path.with_name(path.name.removesuffix(".forward.npz")) for path in YOLOS.glob("*/*.forward.npz")]
    found += [path.parent for path in YOLOS.glob("*/forward.npz")]
    return sorted(str(path.relative_to(YOLOS)) for path in found) or ["(no yolos)"]


def cfg_of(name: str) -> Path:
    """The cfg of a network of `networks`; of cfgs of the same network, the one in training form."""
    family, _, model = name.partition("/")
    spelled = {"yolox": f"yolox-{model}", "yolov8": f"yolov8{model}", "mmdet_yolov3": "yolov3-mmdet"}.get(family, model)
    training = CFGS / f"{spelled}-ota.cfg"
    return training if training.is_file() else CFGS / f"{spelled}.cfg"


def files_of(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]], list[dict[str, str]]]:
    """A network's settings, arrays and table of keys."""
    path = YOLOS / name
    if (path / "meta.json").is_file():
        meta, arrays, keys = path / "meta.json", path / "forward.npz", path / "keys.tsv"
    elif path.is_dir():
        meta, arrays, keys = path / "forward.json", path / "forward.npz", path / "yolov3_d53.keys.tsv"
    else:
        meta, arrays, keys = (path.with_name(path.name + end) for end in (".json", ".forward.npz", ".keys.tsv"))
    with np.load(arrays) as opened:
        return json.loads(meta.read_text()), dict(opened), rows(keys)


def drawn_weights(settings: dict[str, Any], keys: list[dict[str, str]]) -> dict[str, torch.Tensor]:
    """The weights of a network by the original program's names, as both recipes of the pages draw them; checked by
    their hash."""
    drawn = dict(_drawn(settings, keys) if "gains" in settings else _drawn_simply(settings, keys))
    body = b"".join(values.tobytes() for values in drawn.values())
    assert hashlib.sha256(body).hexdigest() == settings["weights_sha256"], "the recipe gives other numbers here"
    return {key: torch.from_numpy(values) for key, values in drawn.items()}


def _drawn(settings: dict[str, Any], keys: list[dict[str, str]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The recipe of YOLOv5, v6 and v7."""
    rng = np.random.Generator(np.random.PCG64(settings["seed"]))
    for row in (row for row in keys if row["in_recipe"] == "1"):
        key, shape, module = row["key"], _shape(row), row["module"]
        leaf, normal = key.rsplit(".", 1)[-1], lambda n=math.prod(shape): rng.standard_normal(n)  # noqa: B008
        if module == "BatchNorm2d":
            gain = _gain(settings["gains"]["bn"], key)
            values = _norm(leaf, gain, rng, math.prod(shape))
        elif leaf == "implicit":
            values = 0.1 * normal() + (module == "ImplicitM")
        elif leaf == "alpha":
            values = 1 + 0.1 * normal()
        elif leaf == "bias":
            values = 0.05 * normal()
        else:
            fan = shape[0] if module == "ConvTranspose2d" else math.prod(shape[1:])
            values = math.sqrt(_gain(settings["gains"]["conv"], key) / fan) * normal()
        yield key, values.astype(np.float32).reshape(shape)


def _drawn_simply(settings: dict[str, Any], keys: list[dict[str, str]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The recipe of the other programs."""
    rng = np.random.Generator(np.random.PCG64(settings["seed"]))
    for row in (row for row in keys if not row["key"].endswith("num_batches_tracked")):
        key, shape = row["key"], _shape(row)
        leaf, count = key.rsplit(".", 1)[-1], math.prod(shape)
        if key in settings.get("fixed_keys", ()):
            values = np.arange(count)
        elif row["kind"].endswith(":bn"):
            values = _norm(leaf, 1.0, rng, count, 0.05)
        elif leaf == "bias":
            values = 0.05 * rng.standard_normal(count)
        else:
            values = math.sqrt(settings.get("gain", 2.4) / math.prod(shape[1:])) * rng.standard_normal(count)
        yield key, values.astype(np.float32).reshape(shape)


def _norm(leaf: str, gain: float, rng: np.random.Generator, count: int, shift: float = 0.3) -> NDArray[np.float64]:
    """A tensor of a batch norm."""
    if leaf == "running_var":
        return 0.5 + rng.random(count)
    normal = rng.standard_normal(count)
    return {"weight": (1 + 0.1 * normal) * gain, "bias": shift * normal, "running_mean": 0.1 * normal}[leaf]


def _gain(gains: list[tuple[str, float]], key: str) -> float:
    return next((gain for text, gain in gains if text in key), 1.0)


def _shape(row: dict[str, str]) -> tuple[int, ...]:
    return () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x")))


def drawn_input(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """The picture that a network was given: (n, channels, height, width), 0..1."""
    values = np.random.Generator(np.random.PCG64(seed + 1000003)).random(math.prod(shape))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def drawn_picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture that is not stored: waves with six boxes and noise; (height, width, 3)."""
    rng, (y, x) = np.random.Generator(np.random.PCG64(seed)), np.mgrid[:height, :width]
    picture = np.stack([127 + 100 * np.sin(x / (5 + 2 * c) + c) * np.cos(y / (7 + c) - c) for c in range(3)], 2)
    for _ in range(6):
        left, top = rng.integers(0, width), rng.integers(0, height)
        columns, rows = rng.integers(3, max(4, width // 2)), rng.integers(3, max(4, height // 2))
        picture[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
    picture += rng.integers(-8, 9, picture.shape)
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def content(name: str) -> dict[str, Any]:
    """What a .json file of the folder says, by its path there; {} where the folder is absent."""
    path = YOLOS / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


@cache
def arrays(path: Path) -> dict[str, Any]:
    """The arrays of a .npz file, by name."""
    with np.load(path) as file:
        return dict(file)


def case_files(folder: str, pattern: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The files `pattern`.json of a folder, by name, with what they say; the arrays lie beside them."""
    paths = sorted((YOLOS / folder).glob(f"{pattern}.json"))
    return {path.stem: (path, json.loads(path.read_text())) for path in paths}


def tensors(path: Path) -> dict[str, Tensor]:
    """The arrays of a .npz file as tensors, by name."""
    return {name: torch.from_numpy(values) for name, values in arrays(path).items()}


def models(system: str) -> list[str]:
    """The networks of a system, as yolov6/yolov6n; one that is skipped where there is none."""
    return sorted(str(path.parent.relative_to(YOLOS)) for path in YOLOS.glob(f"{system}/*/keys.tsv")) or ["(no yolos)"]


def weights_of(model: str) -> dict[str, Any]:
    """The drawn weights of one of `models`, as arrays."""
    settings, _, keys = files_of(model)
    return {key: tensor.numpy() for key, tensor in drawn_weights(settings, keys).items()}


def augment_file(system: str) -> Path:
    """The numbers of augmentation for the OpenCV in use: 4 and 5 warp and turn colours a little differently."""
    of_opencv4 = YOLOS / system / "augment.opencv4.14.npz"
    return of_opencv4 if cv2.__version__ < "5" and of_opencv4.is_file() else YOLOS / system / "augment.npz"
