"""COCO's twelve numbers, worked out by pycocotools from detections and ground truth."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from darknet_py.data.truths import ImageTruths
from darknet_py.detections import Detections
from darknet_py.errors import DarknetError
from darknet_py.measuring.maps import darknet_map
from darknet_py.measuring.matching import clipped, detection_table, image_sizes, truth_table
from darknet_py.measuring.results import MapResult
from darknet_py.names import read_text
from darknet_py.pictures.resize import Size

NUMBERS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


def coco_map(
    detections: Sequence[Detections],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    thresh: float = 0.25,
    *,
    annotations: str | os.PathLike[str] | None = None,
    images: Sequence[str] = (),
) -> MapResult:
    """COCO's twelve numbers; AP is the mean over the IoUs .50, .55 … .95, and mAP over the classes with truths.

    Difficult truths are ignored as COCO's crowds are. The counts beside AP are Darknet's, at an IoU of .5.

    Args:
        detections, truths, classes, thresh: see `darknet_map`.
        annotations: a COCO instances file; its truths count in place of `truths` (with areas of outlines, and crowds).
        images: paths of the images, whose names `annotations` knows.

    Raises:
        DarknetError: pycocotools is not installed; or the annotations cannot be read, or lack an image or all of the
            classes.
    """
    try:
        COCO = importlib.import_module("pycocotools.coco").COCO  # noqa: N806
        COCOeval = importlib.import_module("pycocotools.cocoeval").COCOeval  # noqa: N806
    except ImportError:
        raise DarknetError("the COCO metric needs pycocotools; install it: pip install pycocotools") from None
    base = darknet_map(detections, truths, classes, 0.5, thresh, 101)
    with contextlib.redirect_stdout(None):
        ground_truth = COCO()
        if annotations is None:
            ground_truth.dataset = _dataset(truths, classes, [one.size for one in detections])
            image_ids: list[int] = list(range(1, len(truths) + 1))
            category_ids: Sequence[int | None] = range(1, len(classes) + 1)
        else:
            ground_truth.dataset = _read_annotations(annotations)
            image_ids = _image_ids(annotations, ground_truth.dataset, images)
            category_ids = _category_ids(annotations, ground_truth.dataset, classes)
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, _results(ground_truth, detections, image_ids, category_ids), "bbox")
        evaluation.params.imgIds = sorted(set(image_ids))
        evaluation.params.catIds = [category for category in category_ids if category is not None]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # by IoU, recall, class; of all areas, up to 100 detections in an image
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = np.zeros(len(classes))
    known = [category is not None for category in category_ids]
    per_class[known] = np.maximum(precision.mean((0, 1)), 0)  # -1: a class without truths
    results = [replace(result, AP=float(area)) for result, area in zip(base.classes, per_class, strict=True)]
    summary = {name: None if value < 0 else float(value) for name, value in zip(NUMBERS, evaluation.stats, strict=True)}
    return replace(base, metric="coco", classes=tuple(results), mAP=summary["AP"] or 0.0, summary=summary)


def _dataset(truths: Sequence[ImageTruths], classes: Sequence[str], sizes: Sequence[Size]) -> dict[str, Any]:
    """ImageTruths as the contents of a COCO annotation file; images and classes are numbered from 1."""
    table, difficult = truth_table(truths)
    size = image_sizes(table, sizes)
    sides = table.xywh[:, 2:] * size
    corner = table.xywh[:, :2] * size - sides / 2
    columns = (table.image, table.classes, np.concatenate((corner, sides), 1), sides.prod(1), difficult)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        "images": [{"id": number, "width": width, "height": height} for number, (width, height) in enumerate(sizes, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image + 1,
                "category_id": class_id + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, class_id, box, area, crowd) in enumerate(rows, 1)
        ],
    }


def _read_annotations(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path, "COCO annotation"))
        missing = [key for key in ("images", "annotations", "categories") if key not in content]
        for entry in [] if missing else [*content["images"], *content["annotations"], *content["categories"]]:
            if type(entry["id"]) is not int or abs(entry["id"]) >= 2**53:
                raise ValueError(f"'{str(entry['id'])[:40]}' is not an id")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DarknetError(f"{path}: this is not a COCO instances file: {error}") from None
    if missing:
        raise DarknetError(f"{path}: this is not a COCO instances file: it has no '{missing[0]}'")
    return {"info": {}, **content}


def _image_ids(path: str | os.PathLike[str], content: dict[str, Any], images: Sequence[str]) -> list[int]:
    """COCO's number of each image: by the file's name without its ending, and by its folders where several have it."""
    known: dict[str, list[tuple[list[str], int]]] = {}
    for image in content["images"]:
        words = _words(str(image["file_name"]))
        known.setdefault(words[0], []).append((words, int(image["id"])))
    found = []
    for image in images:
        words = _words(image)
        best = sorted((_common(words, theirs), number) for theirs, number in known.get(words[0], []))[::-1]
        if not best or (len(best) > 1 and best[0][0] == best[1][0]):
            raise DarknetError(f"{path}: there is no image {image}, or several of that name")
        found.append(best[0][1])
    if len(set(found)) < len(set(images)):
        raise DarknetError(f"{path}: two of the images are the same one there; only their folders differ")
    return found


def _words(path: str) -> list[str]:
    """A path from its end: the name without its ending, its folder …"""
    *folders, name = path.replace("\\", "/").split("/")
    return [Path(name).stem, *reversed(folders)]


def _common(words: list[str], others: list[str]) -> int:
    """How many they begin with."""
    pairs = zip(words, others, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _category_ids(
    path: str | os.PathLike[str], content: dict[str, Any], classes: Sequence[str]
) -> Sequence[int | None]:
    """COCO's number of each class: by name, or by order if there are as many of other names; None: not in the file."""
    known = {str(category["name"]): int(category["id"]) for category in content["categories"]}
    if len(known) == len(classes) and not set(known) <= set(classes):
        return sorted(known.values())
    if not set(known) & set(classes):
        raise DarknetError(f"{path}: none of its {len(known)} categories is among the {len(classes)} classes")
    return [known.get(name) for name in classes]


def _results(
    ground_truth: Any,
    detections: Sequence[Detections],
    image_ids: Sequence[int],
    category_ids: Sequence[int | None],
) -> Any:
    """Detections as pycocotools takes them: clipped to the image as in `detector valid`."""
    table, confidences = detection_table(detections)
    category = np.array([number or 0 for number in category_ids])[table.classes]
    known = np.array([number is not None for number in category_ids])[table.classes]
    if not known.any():
        empty = type(ground_truth)()
        empty.dataset = {key: ground_truth.dataset[key] for key in ("images", "categories")} | {"annotations": []}
        empty.createIndex()
        return empty
    size = image_sizes(table, [one.size for one in detections])
    box = clipped(table.xywh * np.tile(size, 2), size)
    columns = (np.array(image_ids)[table.image], box[:, :2], box[:, 2:] - box[:, :2], confidences, category)
    return ground_truth.loadRes(np.column_stack(columns).astype(np.float64)[known])
