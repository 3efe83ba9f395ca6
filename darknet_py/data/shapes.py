"""Draws images of shapes with exact labels: the data set of the bundled model, cfg/shapes.cfg, made anew wherever it is
needed.

write_dataset(Path("data/shapes"))          # images, labels, shapes.data
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.files import write_file
from darknet_py.pictures.read import Image
from darknet_py.pictures.write import write_image

NAMES = ("circle", "square", "triangle", "star", "ring", "cross")
WIDTH, HEIGHT = 256, 192
MAX_SHAPES = 6  # tried in an image; those that would cover others are left out
MIN_RADIUS, MAX_RADIUS = 0.12, 0.32  # of a shape, as fractions of the image's height
MAX_COVERED = 0.1  # fraction of a shape that a later one may cover
Mask: TypeAlias = NDArray[np.bool_]
Boxes: TypeAlias = NDArray[np.float64]


def draw_scene(rng: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> tuple[Image, Boxes]:
    """An image, (height, width, 3) uint8 RGB, and a row class, x, y, w, h for each of its shapes: centre and size as
    fractions of the image, exact to the pixel. A shape is wholly inside; where others cover it, the box is still that
    of the whole shape."""
    image = _paint(rng, height, width).astype(np.float32)
    _scribble(image, rng)
    masks: list[Mask] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MAX_SHAPES + 1))):
        label = int(rng.integers(len(NAMES)))
        mask = _shape(label, rng, height, width)
        covered = [np.count_nonzero(mask & other) / np.count_nonzero(other) for other in masks]
        if max(covered, default=0) > MAX_COVERED:
            continue
        masks.append(mask)
        labels.append(label)
        image[mask] = _paint(rng, height, width)[mask]
    if rng.random() < 0.3:
        cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.2)), dst=image)
    image += rng.normal(0, rng.uniform(0, 12), image.shape).astype(np.float32)
    rows = [(label, *_box(mask)) for label, mask in zip(labels, masks, strict=True)]
    return image.clip(0, 255).round().astype(np.uint8), np.array(rows, np.float64)


def _box(mask: Mask) -> tuple[float, float, float, float]:
    height, width = mask.shape
    columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    left, right, top, bottom = columns[0], columns[-1] + 1, lines[0], lines[-1] + 1
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def _shape(label: int, rng: np.random.Generator, height: int, width: int) -> Mask:
    radius = float(rng.uniform(MIN_RADIUS, MAX_RADIUS)) * height
    centre = np.array([rng.uniform(radius + 1, width - radius - 1), rng.uniform(radius + 1, height - radius - 1)])
    turn = float(rng.uniform(0, 2 * np.pi))
    canvas = np.zeros((height, width), np.uint8)
    name = NAMES[label]
    if name in ("circle", "ring"):
        middle = tuple(centre.round().astype(int).tolist())
        cv2.circle(canvas, middle, round(radius), 1, -1)
        if name == "ring":
            cv2.circle(canvas, middle, round(radius * float(rng.uniform(0.45, 0.65))), 0, -1)
        return canvas.astype(bool)
    cv2.fillPoly(canvas, [(centre + radius * _outline(name, turn)).round().astype(np.int32)], 1)
    return canvas.astype(bool)


def _outline(name: str, turn: float) -> Boxes:
    """The corners (n, 2) of a shape of radius 1."""
    if name == "cross":
        arm = 0.3
        quarter = np.array([[arm, arm], [arm, 1], [-arm, 1]]) / np.hypot(1, arm)
        turns = turn + np.arange(4) * np.pi / 2
        return np.concatenate([quarter @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in turns])
    corners, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[name]
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), 1)


def _paint(rng: np.random.Generator, height: int, width: int) -> Image:
    """A sheet of plain colour, a gradient, stripes, squares or clouds of two colours."""
    first, second = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[:height, :width]
    turn = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    kind = int(rng.integers(5))
    if kind == 0:
        mix = np.zeros((height, width))
    elif kind == 1:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 2:
        mix = np.sin(along * 2 * np.pi / rng.uniform(6, 30)) > 0
    elif kind == 3:
        across = y * np.cos(turn) - x * np.sin(turn)
        side = rng.uniform(4, 20)
        mix = (along // side + across // side) % 2
    else:
        coarse = rng.uniform(0, 1, (int(rng.integers(3, 12)), int(rng.integers(3, 12))))
        mix = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    if kind >= 2:  # textures are faint beside what tells a shape from its background
        second = first + (second - first) * 0.4
    return np.asarray(first + (second - first) * np.asarray(mix, np.float64)[..., None]).clip(0, 255).astype(np.uint8)


def _scribble(image: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Lines and arcs that are no shape."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        colour = rng.uniform(0, 255, 3).tolist()
        ends = rng.uniform(0, 1, (2, 2)) * (width, height)
        (x1, y1), (x2, y2) = ends.astype(int).tolist()
        thickness = int(rng.integers(1, 4))
        if rng.random() < 0.5:
            cv2.line(image, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)
        else:
            axes = (abs(x1 - x2) + 1, abs(y1 - y2) + 1)
            cv2.ellipse(
                image,
                (x1, y1),
                axes,
                0,
                float(rng.uniform(0, 90)),
                float(rng.uniform(120, 200)),
                colour,
                thickness,
                cv2.LINE_AA,
            )


def write_dataset(folder: Path, train: int = 2000, valid: int = 200, seed: int = 0) -> Path:
    """Draws the images and their labels into a folder → its .data file. The same seed gives the same images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    lists: dict[str, list[str]] = {"train": [], "valid": []}
    for number in tqdm(range(train + valid), desc="drawing", unit="images", disable=None):
        split = "train" if number < train else "valid"
        image, rows = draw_scene(np.random.default_rng([seed, number]))
        name = f"{split}-{number:05d}"
        write_image(folder / "images" / f"{name}.png", image)
        labels = [f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:]) for row in rows]
        _write_lines(folder / "labels" / f"{name}.txt", labels)
        lists[split].append(f"images/{name}.png")
    for split, lines in lists.items():
        _write_lines(folder / f"{split}.txt", lines)
    _write_lines(folder / "shapes.names", NAMES)
    data = folder / "shapes.data"
    options = [
        f"classes = {len(NAMES)}",
        "train = train.txt",
        "valid = valid.txt",
        "names = shapes.names",
        "backup = backup",
    ]
    _write_lines(data, options)
    return data


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_file(path, "".join(f"{line}\n" for line in lines))
