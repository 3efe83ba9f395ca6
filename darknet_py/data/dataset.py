"""A data set: the images and truths that a .data file names (Darknet: data.c).

dataset = open_dataset("data/obj.data", "train")
dataset.images[0], dataset.truths(0)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from darknet_py.choices import SPLITS
from darknet_py.data.coco import read_coco
from darknet_py.data.labels import label_path, read_labels
from darknet_py.data.truths import DataWarning, ImageTruths, make_truths
from darknet_py.data.voc import read_voc, voc_path, voc_size
from darknet_py.errors import DarknetError
from darknet_py.files import folders_around
from darknet_py.names import DataFile, find_beside, find_files, read_data, read_lines, read_names
from darknet_py.pictures.addresses import is_address, shown
from darknet_py.pictures.read import read_image
from darknet_py.pictures.sources import SUFFIXES

MAX_UNNAMED = 100_000  # classes without names


@dataclass(frozen=True)
class Dataset:
    """Images, and where their truths are. Truths are read when asked for and not kept, so they are never stale.

    Attributes:
        images: paths of the images.
        names: names of the classes.
        source: the list, folder or file that names the images.
        kind: format of the truths: "txt" (Darknet), "xml" (Pascal VOC), "coco", or "none" (no image has a label file).
        labels: what a classifier looks for in the paths: the .data file's `labels`, or the names.
        written: the paths as the list writes them, in which a classifier's labels are looked for.
        difficult: images in the same order, whose label files hold the difficult objects (`difficult` in a .data file).
        loaded: the truths, where one file holds them all (COCO). sizes: of the images, as that file says them.
        names_file: the file that names the classes.
    """

    images: list[str]
    names: list[str]
    source: str
    kind: str = "txt"
    labels: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    difficult: list[str] = field(default_factory=list)
    loaded: list[ImageTruths] | None = None
    sizes: list[tuple[int, int]] = field(default_factory=list)
    names_file: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def label_file(self, index: int) -> str:
        """The file that holds, or should hold, the truths of an image."""
        image = self.images[index]
        if self.kind == "coco":
            return self.source
        return label_path(image) if self.kind != "xml" else voc_path(image) or label_path(image)

    def truths(self, index: int) -> ImageTruths:
        """The truths of an image; none if it has no label file.

        Raises:
            DarknetError: the label file is malformed.
        """
        if self.loaded is not None:
            return self.loaded[index]
        path = self.label_file(index)
        if not os.path.exists(path):
            return make_truths()
        if self.kind == "xml" and path.endswith(".xml"):
            return read_voc(path, self.names, lambda: picture_size(self.images[index]))[0]
        truths = read_labels(path)
        if self.difficult and os.path.exists(path := label_path(self.difficult[index])):
            difficult = read_labels(path)
            classes = np.concatenate((truths.classes, difficult.classes))
            is_difficult = np.arange(len(classes)) >= len(truths.classes)
            return make_truths(classes, np.concatenate((truths.xywh, difficult.xywh)), is_difficult)
        return truths

    def written_size(self, index: int) -> tuple[int, int] | None:
        """(width, height) of an image as its annotation says, pixels; None: it says nothing."""
        path = self.label_file(index)
        if self.kind != "xml" or not path.endswith(".xml"):
            return self.sizes[index] if self.sizes else None
        size = voc_size(path)
        return size if min(size) else None

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The data set of some of the images."""
        lists: dict[str, Any] = {
            name: [values[index] for index in indices]
            for name in ("images", "written", "difficult", "loaded", "sizes")
            if (values := getattr(self, name))
        }
        return replace(self, **lists)

    def written_path(self, index: int) -> str:
        """An image's path as its list writes it."""
        return (self.written or self.images)[index]


def open_dataset(data: str | os.PathLike[str], split: str = "train") -> Dataset:
    """The data set of a .data file.

    `train=` and `valid=` name a list of images (a path per line, from the current folder as in Darknet, or else from
    the list's folder, the .data file's folder or those around it), a folder of images (with all its folders), or a COCO
    instances file. Truths are Darknet's label files (`label_path`); only if no image has one, Pascal VOC files
    (`voc_path`).

    Args:
        data: the .data file. split: "train" or "valid".

    Raises:
        DarknetError: a file is missing or wrong, or there is no image.
    """
    if split not in SPLITS:
        raise DarknetError(f"there is no split '{split}'; write one of {', '.join(SPLITS)}")
    options = read_data(data)
    if not options.get(split):
        raise DarknetError(f"{data}: there is no '{split}='; write the list of images, e.g. {split}=data/{split}.txt")
    names = _names(data, options)
    source = find_beside(options[split], data)
    if source.suffix.lower() == ".json":
        return _coco(source, names)
    if os.path.isdir(source):
        try:
            found = [path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise DarknetError(f"{source}: cannot read this folder: {error}") from None
        written = sorted(str(path.relative_to(source)) for path in found)
        images = [str(source / name) for name in written]
    else:
        written = read_lines(source, "list of images")
        if address := next(filter(is_address, written), None):
            raise DarknetError(f"{source}: {shown(address)}: a data set needs files; download the images first")
        images = _as_files(written, source, data)
    if not images:
        what = "no images in this folder" if os.path.isdir(source) else "this list names no image"
        raise DarknetError(f"{source}: {what}")
    difficult: list[str] = []
    if split == "valid" and options.get("difficult"):
        path = find_beside(options["difficult"], data)
        difficult = _as_files(read_lines(path, "list of images"), path, data)
        if len(difficult) != len(images):
            raise DarknetError(
                f"{path}: {len(difficult)} images, but {source} has {len(images)}; both must list the same ones"
            )
    labels = read_lines(find_beside(options["labels"], data), "list of labels") if options.get("labels") else names
    names_file = str(find_beside(options["names"], data)) if options.get("names") else os.fspath(data)
    return Dataset(
        images, names or labels, str(source), _kind(images), labels, written, difficult, names_file=names_file
    )


def _names(data: str | os.PathLike[str], options: DataFile) -> list[str]:
    classes = options.count("classes")
    if options.get("names"):
        names = read_names(find_beside(options["names"], data))
        if classes not in (None, len(names)):
            text = f"{options.where('classes')}: but {options['names']} has {len(names)} names; correct one of them"
            warnings.warn(text, DataWarning, stacklevel=2)  # one place, so that it is shown once
        return names
    if (classes or 0) > MAX_UNNAMED:
        raise DarknetError(f"{options.where('classes')}: so many classes need names; write names=")
    return [str(index) for index in range(classes or 0)]


def _as_files(lines: Sequence[str], source: Path, data: str | os.PathLike[str]) -> list[str]:
    """The images of a list: from the current folder, as in Darknet, or else the list's, or those around `data`."""
    here, *around = folders_around(data)
    return find_files(lines, [here, source.parent, *around])


def _kind(images: Iterable[str]) -> str:
    if any(os.path.exists(label_path(image)) for image in images):
        return "txt"
    return "xml" if any(voc_path(image) for image in images) else "none"


def _coco(source: Path, names: list[str]) -> Dataset:
    """A COCO file's images: beside it, or where the usual layouts have them (`annotations/instances_val2017.json`,
    `val2017/`)."""
    coco = read_coco(source, names)
    if not coco.images:
        raise DarknetError(f"{source}: this file names no image")
    split, folder = source.stem.removeprefix("instances_"), source.resolve().parent
    subset = split.split("_")[0]
    usual = ("", split, "images", f"images/{split}", subset, f"images/{subset}")
    images = find_files(coco.images, [folder, Path(), *(folder.parent / name for name in usual)])
    return Dataset(
        images, coco.names, str(source), "coco", coco.names, coco.images, loaded=coco.truths, sizes=coco.sizes
    )


def picture_size(path: str) -> tuple[int, int]:
    """(width, height) of an image file, pixels, turned upright as its EXIF data say.

    Raises:
        ImageError: it cannot be read.
    """
    height, width = read_image(path).shape[:2]
    return width, height
