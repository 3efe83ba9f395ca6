"""The files that `detector valid` writes for evaluations elsewhere, one format for each `eval` of a .data file (Darknet: detector.c).

Each writer takes where to write, what was found, the pictures' paths and the classes' names, and returns the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from darknet_py.files import write_file
from darknet_py.measuring.metrics import Findings, Found, Size
from darknet_py.pictures.outputs import COCO_IDS, image_id

KITTI = ("car", "pedestrian", "cyclist")
BDD = ("bike", "bus", "car", "motor", "person", "rider", "traffic light", "traffic sign", "train", "truck")


def write_coco_results(
    path: str | os.PathLike[str], findings: Findings, images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=coco`: the file that COCO's evaluation reads (detector.c:print_cocos), line by line as there.

    Of 80 classes the category ids are COCO's, of others they count from 1. A picture's id is the number in its name.
    """
    ids = COCO_IDS if len(names) == len(COCO_IDS) else list(range(1, len(names) + 1))
    lines = []
    for number, (found, size, image) in enumerate(zip(findings.found, findings.sizes, images, strict=True), 1):
        box = _pixel_corners(found, size)
        box[:, 2:] -= box[:, :2]
        name = image_id(image, number)
        lines += [
            f'{{"image_id":{name}, "category_id":{ids[label]}, "bbox":[{x:f}, {y:f}, {w:f}, {h:f}], "score":{prob:f}}}'
            for label, prob, (x, y, w, h) in zip(
                found.classes.tolist(), found.probs.tolist(), box.tolist(), strict=True
            )
        ]
    return [_write(path, "[\n" + ",\n".join(lines) + "\n]\n")]


def write_voc_results(
    prefix: str | os.PathLike[str], findings: Findings, images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=voc`: a file `prefix` + name + `.txt` for each class (detector.c:print_detector_detections).

    A line is the picture's name without its ending, probability, left, top, right, bottom; the first pixel is 1.
    """
    lines: list[list[str]] = [[] for _ in names]
    for found, size, image in zip(findings.found, findings.sizes, images, strict=True):
        stem = Path(image).name.split(".")[0]
        box = _pixel_corners(found, size, first=1)
        for label, prob, (left, top, right, bottom) in zip(found.classes, found.probs, box.tolist(), strict=True):
            lines[label].append(f"{stem} {prob:f} {left:f} {top:f} {right:f} {bottom:f}\n")
    return [_write(f"{os.fspath(prefix)}{name}.txt", "".join(text)) for name, text in zip(names, lines, strict=True)]


def write_imagenet_results(
    path: str | os.PathLike[str], findings: Findings, images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=imagenet`: the picture's number and the class, both from 1, probability, corners (detector.c:print_imagenet_detections)."""
    lines = [
        f"{number} {label + 1} {prob:f} {corners}\n"
        for number, (found, size) in enumerate(zip(findings.found, findings.sizes, strict=True), 1)
        for label, prob, corners in _rows(found, size, " ")
    ]
    return [_write(f"{os.fspath(path)}.txt", "".join(lines))]


def write_bdd_results(
    path: str | os.PathLike[str], findings: Findings, images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=bdd`: JSON with the picture's path, the class by BDD100K's name, corners, score (detector.c:print_bdd_detections)."""
    classes = _classes(BDD, names)
    lines = [
        f'\t{{\n\t\t"name":{json.dumps(image)},\n\t\t"category":"{classes[label]}",\n\t\t"bbox":[{corners}],\n\t\t"score":{prob:f}\n\t}}'
        for found, size, image in zip(findings.found, findings.sizes, images, strict=True)
        for label, prob, corners in _rows(found, size, ", ")
    ]
    return [_write(f"{os.fspath(path)}.json", "[\n" + ",\n".join(lines) + "\n]\n")]


def write_kitti_results(
    folder: str | os.PathLike[str], findings: Findings, images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=kitti`: a file for each picture, data/NAME.txt, with what KITTI's evaluation reads (detector.c:print_kitti_detections)."""
    classes = _classes(KITTI, names)
    return [
        _write(
            Path(folder, "data", Path(image).name.split(".")[0] + ".txt"),
            "".join(
                f"{classes[label]} -1 -1 -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10 {prob:f}\n"
                for label, prob, corners in _rows(found, size, " ")
            ),
        )
        for found, size, image in zip(findings.found, findings.sizes, images, strict=True)
    ]


FORMATS: dict[str, tuple[str, Callable[[Path, Findings, Sequence[str], Sequence[str]], list[Path]]]] = {
    "voc": ("comp4_det_test_", write_voc_results),
    "coco": ("coco_results", lambda path, *found: write_coco_results(f"{path}.json", *found)),
    "imagenet": ("imagenet-detection", write_imagenet_results),
    "bdd": ("bdd_results", write_bdd_results),
    "kitti": ("kitti_results", write_kitti_results),
}
"""`eval` → the name of the file (or of the folder, or what the files' names begin with) that Darknet gives it, and its writer."""


def _write(path: str | os.PathLike[str], text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode("utf-8", "surrogateescape"))  # a picture's name may be no UTF-8
    return Path(path)


def _classes(theirs: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """The data set's own names of its classes; those of a network with more classes are its own."""
    return theirs if len(names) <= len(theirs) else names


def _rows(found: Found, size: Size, between: str) -> Iterator[tuple[int, float, str]]:
    """Class, probability, and left, top, right, bottom in pixels as text, of each box."""
    corners = (between.join(f"{value:f}" for value in box) for box in _pixel_corners(found, size).tolist())
    yield from zip(found.classes.tolist(), found.probs.tolist(), corners, strict=True)


def _pixel_corners(found: Found, size: Size, first: int = 0) -> np.ndarray:
    """(m, 4) float32 left, top, right, bottom in pixels, the first of which is numbered `first`; clipped to the picture."""
    with np.errstate(over="ignore"):  # a network at the beginning of its training gives any size
        xywh = (found.xywh * np.array([*size, *size], np.float32)).astype(np.float64)
    xywh[:, :2] += first
    half = xywh[:, 2:] / 2
    left_top = np.maximum((xywh[:, :2] - half).astype(np.float32), np.float32(first))
    return np.concatenate(
        (left_top, np.minimum((xywh[:, :2] + half).astype(np.float32), np.array(size, np.float32))), 1
    )
