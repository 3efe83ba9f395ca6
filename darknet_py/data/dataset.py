"""A data set: the pictures and truths that a .data file names, and which of the truths a network is trained on (Darknet: data.c).

dataset = open_dataset("data/obj.data", "train")
dataset.images[0], dataset.truths(0)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darknet_py.data.labels import (
    DataWarning,
    Truths,
    label_path,
    make_truths,
    read_coco,
    read_labels,
    read_voc,
    voc_path,
)
from darknet_py.errors import DarknetError
from darknet_py.names import find_beside, read_data, read_lines, read_names
from darknet_py.pictures.read import SUFFIXES

SPLITS = ("train", "valid")
TRUTH_SIZE = 6  # x, y, w, h, class, track_id


@dataclass(frozen=True)
class Dataset:
    """Pictures and where their truths are. Nothing is read before it is asked for, and nothing is kept: labels are never stale.

    Attributes:
        images: paths of the pictures. names: of the classes. source: the list, folder or file that names the pictures.
        kind: how the truths are kept: "txt" (Darknet), "xml" (Pascal VOC), "coco", or "none" (no picture has a label file).
        labels: what a classifier looks for in the paths: the .data file's `labels`, or the names.
        written: the pictures' paths as the list writes them, which is what a classifier's labels are looked for in.
        difficult: pictures in the same order, the label files of which hold the difficult objects (the .data file's `difficult`).
        given: the truths, where one file holds them all (COCO). names_file: that which names the classes.
    """

    images: list[str]
    names: list[str]
    source: str
    kind: str = "txt"
    labels: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    difficult: list[str] = field(default_factory=list)
    given: list[Truths] | None = None
    names_file: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def label_file(self, index: int) -> str:
        """The file that holds, or should hold, the truths of a picture."""
        image = self.images[index]
        if self.kind == "coco":
            return self.source
        return label_path(image) if self.kind != "xml" else voc_path(image) or label_path(image)

    def truths(self, index: int) -> Truths:
        """The truths of a picture; none if it has no label file.

        Raises:
            DarknetError: the label file is malformed.
        """
        if self.given is not None:
            return self.given[index]
        path = self.label_file(index)
        if not os.path.exists(path):
            return make_truths()
        if self.kind == "xml" and path.endswith(".xml"):
            return read_voc(path, self.names)[0]
        truths = read_labels(path)
        if self.difficult and os.path.exists(path := label_path(self.difficult[index])):
            more = read_labels(path)
            classes = np.concatenate((truths.classes, more.classes))
            hard_ones = np.arange(len(classes)) >= len(truths.classes)
            return make_truths(classes, np.concatenate((truths.xywh, more.xywh)), hard_ones)
        return truths


def open_dataset(data: str | os.PathLike[str], split: str = "train") -> Dataset:
    """The data set of a .data file.

    `train=` and `valid=` name a list of pictures (a path per line, from the current folder as in Darknet, or else from the list's
    folder, the .data file's folder or those around it), a folder of pictures (with all its folders), or a COCO instances file.
    Truths are Darknet's label files (`label_path`); only if no picture has one, Pascal VOC files (`voc_path`).

    Args:
        data: the .data file. split: "train" or "valid".

    Raises:
        DarknetError: a file is missing or wrong, or there is no picture.
    """
    if split not in SPLITS:
        raise DarknetError(f"split '{split}' is not known; write one of {', '.join(SPLITS)}")
    options = read_data(data)
    if not options.get(split):
        raise DarknetError(f"{data}: there is no '{split}='; write the list of pictures, e.g. {split}=data/{split}.txt")
    names = _names(data, options)
    source = find_beside(options[split], data)
    if source.suffix.lower() == ".json":
        return _coco(source, names)
    if source.is_dir():
        written = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        images = [str(source / one) for one in written]
    else:
        written = read_lines(source, "list of pictures")
        images = _located(written, source, data)
    if not images:
        raise DarknetError(
            f"{source}: {'no pictures in this folder' if source.is_dir() else 'this list names no picture'}"
        )
    difficult: list[str] = []
    if split == "valid" and options.get("difficult"):
        path = find_beside(options["difficult"], data)
        difficult = _located(read_lines(path, "list of pictures"), path, data)
        if len(difficult) != len(images):
            raise DarknetError(
                f"{path}: {len(difficult)} pictures, but {source} has {len(images)}; they must be the same ones"
            )
    labels = read_lines(find_beside(options["labels"], data), "list of labels") if options.get("labels") else names
    names_file = str(find_beside(options["names"], data)) if options.get("names") else os.fspath(data)
    return Dataset(
        images, names or labels, str(source), _kind(images), labels, written, difficult, names_file=names_file
    )


def _names(data: str | os.PathLike[str], options: dict[str, str]) -> list[str]:
    if options.get("names"):
        return read_names(find_beside(options["names"], data))
    classes = options.get("classes", "")
    return [str(index) for index in range(int(classes))] if classes.isdigit() else []


def _located(lines: Sequence[str], source: Path, data: str | os.PathLike[str]) -> list[str]:
    """The paths of a list as files: relative ones all start where the first that is found does."""
    around = [Path(), source.parent, *Path(data).resolve().parents[:4]]
    relative = (line for line in lines if not os.path.isabs(line))
    base = next((base for line in relative for base in around if (base / line).exists()), Path())
    return list(lines) if base == Path() else [os.path.join(base, line) for line in lines]


def _kind(images: Iterable[str]) -> str:
    if any(os.path.exists(label_path(image)) for image in images):
        return "txt"
    return "xml" if any(voc_path(image) for image in images) else "none"


def _coco(source: Path, names: list[str]) -> Dataset:
    """A COCO file's pictures: beside it, or where the usual layouts have them (`annotations/instances_val2017.json`, `val2017/`)."""
    coco = read_coco(source, names)
    if not coco.images:
        raise DarknetError(f"{source}: this file names no picture")
    split, root = source.stem.removeprefix("instances_"), source.resolve().parent
    around = [
        Path(),
        root,
        *(root.parent / part for part in ("", split, "images", f"images/{split}", split.split("_")[0])),
    ]
    around.append(root.parent / "images" / split.split("_")[0])
    base = next((base for image in coco.images for base in around if (base / image).exists()), root)
    images = coco.images if base == Path() else [str(base / image) for image in coco.images]
    return Dataset(images, coco.names, str(source), "coco", coco.names, coco.images, given=coco.truths)


def training_truths(
    truths: Truths, net_size: tuple[int, int], classes: int, max_boxes: int, rng: np.random.Generator, *, path: str = ""
) -> NDArray[np.float32]:
    """The truths that training sees of an augmented picture (data.c:fill_truth_detection).

    They are shuffled, the first `max_boxes` of them stay, and of those go: classes that the network does not have, boxes under one
    pixel of the network's input, centres outside (0, 1]. A width or height over 1 becomes 1. Difficult objects are left out before,
    as voc_label.py writes none. Wrong labels are named in a warning, once per file.

    Args:
        truths: of the picture, moved as its augmentation moved the pixels.
        net_size: (width, height) of the network's input, pixels. classes, max_boxes: the head's. path: of the label file.

    Returns:
        (m, 6) float32 rows x, y, w, h, class, track_id, as a truth of Darknet's network. track_id: the object's number in its file,
        plus 4000 times a hash of the file's path, under 4000.
    """
    order = rng.permutation(np.flatnonzero(~truths.difficult))[:max_boxes]
    numbers, xywh = truths.classes[order], truths.xywh[order]
    known = (numbers >= 0) & (numbers < classes)
    tiny = (xywh[:, 2:] < np.float32(1) / np.array(net_size, np.float32)).any(1)
    inside = ((xywh[:, :2] > 0) & (xywh[:, :2] <= 1)).all(1)
    if not known.all():
        _warn(f"{path}: class {numbers[~known][0]}, but the network has the classes 0 to {classes - 1}; left out")
    elif (~inside & ~tiny).any():
        _warn(f"{path}: a box lies outside the picture, or at its corner 0, 0; left out")
    kept = known & ~tiny & inside
    rows = np.empty((int(kept.sum()), TRUTH_SIZE), np.float32)
    rows[:, :2], rows[:, 2:4] = xywh[kept, :2], np.minimum(xywh[kept, 2:], 1)
    rows[:, 4], rows[:, 5] = numbers[kept], order[kept] + _track_base(path)
    return rows


def _track_base(path: str) -> int:
    """data.c:read_boxes, utils.c:custom_hash"""
    value = 5381
    for byte in os.fsencode(path):
        value = (value * 33 + (byte - 256 if byte > 127 else byte)) & 0xFFFFFFFFFFFFFFFF
    return value % 4000 * 4000


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=3)
