"""The files that `detector valid` writes, for evaluation by other programs: one format for each `eval` of a .data file.

Darknet: detector.c. Each writer takes where to write, the detections of each image, the images' paths and the classes'
names, and returns the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from darknet_py.detection_files import coco_ids, coco_image_id
from darknet_py.detections import Detections
from darknet_py.files import write_file

KITTI_CLASSES = ("car", "pedestrian", "cyclist")
BDD_CLASSES = ("bike", "bus", "car", "motor", "person", "rider", "traffic light", "traffic sign", "train", "truck")


def write_coco_results(
    path: str | os.PathLike[str], detections: Sequence[Detections], images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=coco`: the file that COCO's evaluation reads (detector.c:print_cocos), line by line as there.

    With 80 classes the category ids are COCO's, otherwise they count from 1. An image's id is the number in its name.
    """
    ids = coco_ids(len(names))
    lines = []
    for number, (found, image) in enumerate(zip(detections, images, strict=True), 1):
        boxes = _pixel_corners(found)
        boxes[:, 2:] -= boxes[:, :2]
        image_id = coco_image_id(image, number)
        lines += [
            f'{{"image_id":{image_id}, "category_id":{ids[class_id]}, "bbox":[{x:f}, {y:f}, {w:f}, {h:f}], '
            f'"score":{score:f}}}'
            for class_id, score, (x, y, w, h) in zip(
                found.class_ids.tolist(), found.confidences.tolist(), boxes.tolist(), strict=True
            )
        ]
    return [_write(path, "[\n" + ",\n".join(lines) + "\n]\n")]


def write_voc_results(
    prefix: str | os.PathLike[str], detections: Sequence[Detections], images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=voc`: a file `prefix` + name + `.txt` for each class (detector.c:print_detector_detections).

    A line is the image's name without its ending, confidence, left, top, right, bottom; pixels count from 1.
    """
    lines: list[list[str]] = [[] for _ in names]
    for found, image in zip(detections, images, strict=True):
        boxes = _pixel_corners(found, first=1).tolist()
        for class_id, score, (left, top, right, bottom) in zip(found.class_ids, found.confidences, boxes, strict=True):
            lines[class_id].append(f"{_stem(image)} {score:f} {left:f} {top:f} {right:f} {bottom:f}\n")
    return [_write(f"{os.fspath(prefix)}{name}.txt", "".join(text)) for name, text in zip(names, lines, strict=True)]


def write_imagenet_results(
    path: str | os.PathLike[str], detections: Sequence[Detections], images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=imagenet`: image and class, both from 1, confidence, corners (detector.c:print_imagenet_detections)."""
    lines = [
        f"{number} {class_id + 1} {score:f} {corners}\n"
        for number, found in enumerate(detections, 1)
        for class_id, score, corners in _rows(found, " ")
    ]
    return [_write(f"{os.fspath(path)}.txt", "".join(lines))]


def write_bdd_results(
    path: str | os.PathLike[str], detections: Sequence[Detections], images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=bdd`: JSON with path, BDD100K's name of the class, corners, score (detector.c:print_bdd_detections)."""
    classes = _class_names(BDD_CLASSES, names)
    lines = [
        f'\t{{\n\t\t"name":{json.dumps(image)},\n\t\t"category":"{classes[class_id]}",\n'
        f'\t\t"bbox":[{corners}],\n\t\t"score":{score:f}\n\t}}'
        for found, image in zip(detections, images, strict=True)
        for class_id, score, corners in _rows(found, ", ")
    ]
    return [_write(f"{os.fspath(path)}.json", "[\n" + ",\n".join(lines) + "\n]\n")]


def write_kitti_results(
    folder: str | os.PathLike[str], detections: Sequence[Detections], images: Sequence[str], names: Sequence[str]
) -> list[Path]:
    """`eval=kitti`: for each image a file data/NAME.txt, as KITTI reads it (detector.c:print_kitti_detections)."""
    classes = _class_names(KITTI_CLASSES, names)
    return [
        _write(
            Path(folder, "data", f"{_stem(image)}.txt"),
            "".join(
                f"{classes[class_id]} -1 -1 -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10 {score:f}\n"
                for class_id, score, corners in _rows(found, " ")
            ),
        )
        for found, image in zip(detections, images, strict=True)
    ]


Writer: TypeAlias = Callable[[Path, Sequence[Detections], Sequence[str], Sequence[str]], list[Path]]

FORMATS: dict[str, tuple[str, Writer]] = {
    "voc": ("comp4_det_test_", write_voc_results),
    "coco": ("coco_results", lambda path, *results: write_coco_results(f"{path}.json", *results)),
    "imagenet": ("imagenet-detection", write_imagenet_results),
    "bdd": ("bdd_results", write_bdd_results),
    "kitti": ("kitti_results", write_kitti_results),
}
"""`eval` → Darknet's name of the file (or of the folder, or what the files' names begin with), and the writer."""


def _write(path: str | os.PathLike[str], text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode("utf-8", "surrogateescape"))  # an image's name need not be UTF-8
    return Path(path)


def _stem(image: str) -> str:
    """The image's name up to its first dot."""
    return Path(image).name.split(".")[0]


def _class_names(benchmark: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """The benchmark's own names of its classes; those of a network with more classes are the network's."""
    return benchmark if len(names) <= len(benchmark) else names


def _rows(found: Detections, separator: str) -> Iterator[tuple[int, float, str]]:
    """Class, confidence, and left, top, right, bottom in pixels as text, of each box."""
    corners = (separator.join(f"{value:f}" for value in box) for box in _pixel_corners(found).tolist())
    yield from zip(found.class_ids.tolist(), found.confidences.tolist(), corners, strict=True)


def _pixel_corners(found: Detections, first: int = 0) -> NDArray[np.float32]:
    """(m, 4) float32 left, top, right, bottom in pixels, which count from `first`; clipped to the image."""
    with np.errstate(over="ignore"):  # a network at the beginning of its training gives boxes of any size
        xywh = (found.xywh * np.array([*found.size, *found.size], np.float32)).astype(np.float64)
    xywh[:, :2] += first
    half = xywh[:, 2:] / 2
    left_top = np.maximum((xywh[:, :2] - half).astype(np.float32), np.float32(first))
    right_bottom = np.minimum((xywh[:, :2] + half).astype(np.float32), np.array(found.size, np.float32))
    return np.concatenate((left_top, right_bottom), 1)
