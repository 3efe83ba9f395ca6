"""How good detections are, measured against truths: mAP as `detector map`, PASCAL VOC and COCO define it (Darknet: detector.c).

Pure functions: what a network found in each picture and what is there go in, numbers come out.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from darknet_py.boxes import iou
from darknet_py.data.truths import ImageTruths
from darknet_py.errors import DarknetError
from darknet_py.names import read_text

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

COCO_NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")  # fmt: skip


Size = tuple[int, int]


class Found(NamedTuple):
    """What was found in one picture, in Darknet's raw order: box after box, and each box's classes ascending.

    classes: (m,) int64. probs: (m,) float32, 0..1. xywh: (m, 4) float32, centre and size as parts of the picture.
    """

    classes: Ints
    probs: Floats
    xywh: Floats


class Findings(NamedTuple):
    """What was found in each picture, the pictures' (width, height) in pixels, and the paths of those that could not be read."""

    found: list[Found]
    sizes: list[Size]
    unreadable: list[str]


@dataclass(frozen=True)
class ClassResult:
    """One class: `AP` (0..1); `TP`, `FP` and `average_iou` over the confidence threshold; `truths` and `detections` in all.

    precision, recall, probs: (detections,) float64, the curve from the surest detection on.
    """

    name: str
    AP: float
    TP: int
    FP: int
    truths: int
    detections: int
    average_iou: float
    precision: Doubles = field(repr=False, compare=False)
    recall: Doubles = field(repr=False, compare=False)
    probs: Doubles = field(repr=False, compare=False)


@dataclass(frozen=True)
class MapResult:
    """What an evaluation gives; parts of 1 throughout, and 0 where a division has nothing to divide by (Darknet prints nan).

    Attributes:
        metric: "darknet", "voc" or "coco": which rule gave `mAP` and the classes' `AP`. TP, FP, FN, average_iou and what follows
            from them (precision, recall, F1) follow Darknet's rule in all three.
        iou_thresh: the overlap a detection needs. thresh: the confidence that TP, FP, FN need. points: recall points of AP; 0: area.
        average_iou: of the detections over `thresh`; those that are wrong count as 0.
        summary: the twelve numbers of COCO, where that is the metric; None: there are no objects of this size.
        unreadable: pictures that could not be read; they count as pictures in which nothing was found.
    """

    metric: str
    iou_thresh: float
    thresh: float
    points: int
    classes: tuple[ClassResult, ...]
    mAP: float  # noqa: N815
    average_iou: float
    summary: dict[str, float | None] = field(default_factory=dict)
    unreadable: int = 0

    @property
    def TP(self) -> int:  # noqa: N802
        return sum(one.TP for one in self.classes)

    @property
    def FP(self) -> int:  # noqa: N802
        return sum(one.FP for one in self.classes)

    @property
    def FN(self) -> int:  # noqa: N802
        return self.truths - self.TP

    @property
    def truths(self) -> int:
        return sum(one.truths for one in self.classes)

    @property
    def detections(self) -> int:
        return sum(one.detections for one in self.classes)

    @property
    def precision(self) -> float:
        return _ratio(self.TP, self.TP + self.FP)

    @property
    def recall(self) -> float:
        return _ratio(self.TP, self.truths)

    @property
    def F1(self) -> float:  # noqa: N802
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    def as_json(self) -> dict[str, Any]:
        """The numbers as they go into a JSON file."""
        keys = (
            "metric",
            "mAP",
            "iou_thresh",
            "thresh",
            "points",
            "average_iou",
            "TP",
            "FP",
            "FN",
            "precision",
            "recall",
            "F1",
        )
        per_class = ("name", "AP", "TP", "FP", "truths", "detections", "average_iou")
        result = {key: getattr(self, key) for key in keys}
        result |= {"coco": self.summary} if self.summary else {}
        result |= {"unreadable": self.unreadable} if self.unreadable else {}
        return result | {"classes": [{key: getattr(one, key) for key in per_class} for one in self.classes]}

    def text(self) -> str:
        """The lines that `detector map` prints, with its own words and digits."""
        lines = [f" detections_count = {self.detections}, unique_truth_count = {self.truths}  "]
        for number, one in enumerate(self.classes):
            count = f"(TP = {one.TP}, FP = {one.FP})"
            lines.append(f"class_id = {number}, name = {one.name}, ap = {one.AP * 100:2.2f}%   \t {count} ")
        rates = f"precision = {self.precision:1.2f}, recall = {self.recall:1.2f}, F1-score = {self.F1:1.2f} "
        counts = f"TP = {self.TP}, FP = {self.FP}, FN = {self.FN}, average IoU = {self.average_iou * 100:2.2f} % "
        lines += [
            "",
            f" for conf_thresh = {self.thresh:1.2f}, {rates}",
            f" for conf_thresh = {self.thresh:0.2f}, {counts}",
            "",
        ]
        if self.metric == "coco":
            lines += [
                f" {name:10} = {'-' if value is None else f'{value:.4f}'}" for name, value in self.summary.items()
            ]
            return "\n".join(
                [*lines, f" mean average precision (mAP@[.50:.95]) = {self.mAP:f}, or {self.mAP * 100:2.2f} % "]
            )
        used = f"used {self.points} Recall-points " if self.points else "used Area-Under-Curve for each unique Recall "
        rule = " by the rules of PASCAL VOC" if self.metric == "voc" else ""
        mean = f" mean average precision (mAP@{self.iou_thresh:0.2f}){rule} = {self.mAP:f}, or {self.mAP * 100:2.2f} % "
        return "\n".join([*lines, f" IoU threshold = {self.iou_thresh * 100:2.0f} %, {used}", mean])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


class _Rows(NamedTuple):
    """The rows of all pictures in one: which picture, and what `Found` or `ImageTruths` say of it."""

    image: Ints
    classes: Ints
    xywh: Floats


class _Pairs(NamedTuple):
    """Detections and truths of the same picture: (p,) their rows, and their IoU. In order of `row`, then of `truth`."""

    row: Ints
    truth: Ints
    iou: Floats


def _rows(items: Sequence[Found] | Sequence[ImageTruths]) -> _Rows:
    if not items:
        return _Rows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    image = np.repeat(np.arange(len(items)), [len(one.classes) for one in items])
    return _Rows(image, np.concatenate([one.classes for one in items]), np.concatenate([one.xywh for one in items]))


def _difficult(truths: Sequence[ImageTruths]) -> Bools:
    return _concatenated([one.difficult for one in truths]).astype(np.bool_)


def _concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if len(arrays) else np.zeros(0, np.float32)


def _sizes_of(rows: _Rows, sizes: Sequence[tuple[int, int]]) -> Doubles:
    """(m, 2) width and height of each row's picture."""
    return np.array(sizes, np.float64).reshape(-1, 2)[rows.image]


def _pairs(found: _Rows, truths: _Rows, *, same_class: bool = True) -> _Pairs:
    """All pairs in the same picture (and of the same class)."""
    keys = [rows.image * (1 << 32) + rows.classes if same_class else rows.image for rows in (found, truths)]
    order = np.argsort(keys[1], kind="stable")
    start = np.searchsorted(keys[1][order], keys[0])
    count = np.searchsorted(keys[1][order], keys[0], "right") - start
    row = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    truth = order[np.repeat(start, count) + within]
    overlap = iou(torch.from_numpy(found.xywh[row]), torch.from_numpy(truths.xywh[truth]))
    return _Pairs(row, truth, overlap.numpy())


def _best(pairs: _Pairs, count: int, good: Bools) -> tuple[Ints, Floats]:
    """For each of `count` detections, of its `good` pairs the truth with the best IoU (the first of equals), and that IoU; -1: none."""
    row, truth, overlap = pairs.row[good], pairs.truth[good], pairs.iou[good]
    order = np.lexsort((-overlap, row))
    rows, first = np.unique(row[order], return_index=True)
    match, best = np.full(count, -1), np.zeros(count, np.float32)
    match[rows], best[rows] = truth[order][first], overlap[order][first]
    return match, best


def _first(match: Ints) -> Bools:
    """Which detections, in the given order, are the first that was matched to their truth."""
    result = np.zeros(len(match), np.bool_)
    truths, index = np.unique(match, return_index=True)
    result[index[truths >= 0]] = True
    return result


def average_precision(hits: Bools, truths: int, points: int = 0) -> tuple[float, Doubles, Doubles]:
    """One class's average precision, and its curve.

    Args:
        hits: (m,) whether each detection is right, the surest first. truths: objects of the class.
        points: 0: the area under the curve, precision made monotone (VOC 2010, ImageNet); otherwise so many recall points, each
            with the best precision at its recall or more (VOC 2007: 11, COCO: 101).

    Returns:
        AP in 0..1 (0 without truths), precision (m,), recall (m,).
    """
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    recall = right / truths if truths else np.zeros(len(hits))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if not len(hits) or not truths:
        area = 0.0
    elif points == 0:
        area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    else:
        index = np.searchsorted(recall, np.arange(points) / (points - 1))
        area = float(np.append(best, 0.0)[index].mean())
    return area, precision, recall


def check_points(points: int) -> None:
    """0, or at least the two ends of the curve.

    Raises:
        DarknetError: neither.
    """
    if points < 0 or points == 1:
        raise DarknetError(f"points={points}: write 0 (area under the curve), 11 (VOC 2007) or 101 (COCO)")


def darknet_map(
    detections: Sequence[Found],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
) -> MapResult:
    """mAP and counts exactly as `detector map` works them out (detector.c:validate_detector_map).

    A detection belongs to the truth of its class with the best IoU over `iou_thresh`; another truth is not tried. AP takes the
    detections in order of probability, equal ones in raw order; mAP is the mean over all classes, those without truths count 0.
    TP and FP are counted on their own: a detection over `thresh` is right if no EARLIER row of its picture, in raw order and of
    any probability, belongs to the same truth. Difficult truths do not count; a detection that meets none but such ones is left
    out of AP, but is an FP over `thresh`, as in Darknet with `difficult=` in the .data file.

    Args:
        detections, truths: one of each for each picture. classes: the names; all class numbers lie below their count.
        iou_thresh: IoU must exceed it. thresh: probability that TP, FP, FN and the average IoU need. points: see `average_precision`.
    """
    check_points(points)
    found, there = _rows(detections), _rows(truths)
    probs = _concatenated([one.probs for one in detections])
    difficult = _difficult(truths)
    pairs = _pairs(found, there)
    over = pairs.iou > np.float32(iou_thresh)
    match, best = _best(pairs, len(probs), over & ~difficult[pairs.truth])
    ignored = np.zeros(len(probs), np.bool_)
    ignored[pairs.row[over & difficult[pairs.truth]]] = True
    ignored &= match < 0
    sure = probs > np.float32(thresh)
    right = sure & _first(match)
    count = len(classes)
    results = []
    by_class = _by_class(found.classes, probs, count)
    for number, name in enumerate(classes):
        rows = by_class[number][~ignored[by_class[number]]]
        total = int(np.count_nonzero((there.classes == number) & ~difficult))
        area, precision, recall = average_precision(_first(match[rows]), total, points)
        mine = found.classes == number
        tp, fp = int(np.count_nonzero(mine & right)), int(np.count_nonzero(mine & sure & ~right))
        mean_iou = _ratio(float(best[mine & right].sum(dtype=np.float64)), tp + fp)
        results.append(
            ClassResult(
                name, area, tp, fp, total, len(rows), mean_iou, precision, recall, probs[rows].astype(np.float64)
            )
        )
    mean_iou = _ratio(float(best[right].sum(dtype=np.float64)), int(np.count_nonzero(sure)))
    mean = _ratio(sum(one.AP for one in results), count)
    return MapResult("darknet", iou_thresh, thresh, points, tuple(results), mean, mean_iou)


def _by_class(labels: Ints, probs: Floats, count: int) -> list[Ints]:
    """For each class its rows, the surest first, equal ones in their order."""
    order = np.argsort(-probs, kind="stable")
    order = order[np.argsort(labels[order], kind="stable")]
    return np.split(order, np.searchsorted(labels[order], np.arange(1, count)))


def voc_map(
    detections: Sequence[Found],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
) -> MapResult:
    """mAP by the rules of PASCAL VOC (its development kit's VOCevaldet): 11 points are VOC 2007's, the area that of 2010 and later.

    A detection belongs to the truth of its class with the best IoU, if that is `iou_thresh` or more; the surest detection of a
    truth is right, others are wrong, and those of difficult truths are ignored. Boxes count whole pixels: both edges belong to
    them. mAP is the mean over the classes that have truths. Counts beside AP are Darknet's.

    Args:
        sizes: (width, height) of each picture, pixels. The others: see `darknet_map`.
    """
    base = darknet_map(detections, truths, classes, iou_thresh, thresh, points)
    found, there = (_whole_pixels(_rows(items), sizes) for items in (detections, truths))
    probs = _concatenated([one.probs for one in detections])
    difficult = _difficult(truths)
    pairs = _pairs(found, there)
    match, _ = _best(pairs, len(probs), pairs.iou >= np.float32(iou_thresh))
    ignored = (match >= 0) & difficult[match] if len(difficult) else np.zeros(len(probs), np.bool_)
    by_class = _by_class(found.classes, probs, len(classes))
    results = []
    for one, every in zip(base.classes, by_class, strict=True):
        rows = every[~ignored[every]]
        area, precision, recall = average_precision(_first(match[rows]), one.truths, points)
        results.append(
            replace(
                one,
                AP=area,
                detections=len(rows),
                precision=precision,
                recall=recall,
                probs=probs[rows].astype(np.float64),
            )
        )
    return replace(base, metric="voc", classes=tuple(results), mAP=_mean_of_present(results))


def _whole_pixels(rows: _Rows, sizes: Sequence[tuple[int, int]]) -> _Rows:
    """Boxes in pixels, no further than the first and the last, and one wider and higher, as both edges belong to them."""
    size = _sizes_of(rows, sizes)
    box = clipped(rows.xywh * np.tile(size, 2), size - 1)
    sides = box[:, 2:] - box[:, :2]
    return rows._replace(xywh=np.concatenate((box[:, :2] + sides / 2, sides + 1), 1, dtype=np.float32))


def _mean_of_present(results: Sequence[ClassResult]) -> float:
    present = [one.AP for one in results if one.truths]
    return _ratio(sum(present), len(present))


def coco_metrics(
    detections: Sequence[Found],
    truths: Sequence[ImageTruths],
    classes: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    thresh: float = 0.25,
    *,
    annotations: str | os.PathLike[str] | None = None,
    images: Sequence[str] = (),
) -> MapResult:
    """COCO's twelve numbers by pycocotools; AP is the mean over the IoUs .50, .55 … .95, and mAP over the classes with truths.

    Difficult truths are ignored as COCO's crowds are. Counts beside AP are Darknet's, at an IoU of .5.

    Args:
        sizes: (width, height) of each picture, pixels. The others: see `darknet_map`.
        annotations: a COCO instances file; its truths count in place of `truths` (with the areas of outlines, and crowds).
        images: paths of the pictures, whose names `annotations` knows.

    Raises:
        DarknetError: pycocotools is not installed, or the annotations cannot be read, or do not know a picture or the classes.
    """
    try:
        COCO = importlib.import_module("pycocotools.coco").COCO  # noqa: N806
        COCOeval = importlib.import_module("pycocotools.cocoeval").COCOeval  # noqa: N806
    except ImportError:
        raise DarknetError("the COCO metric needs pycocotools; install it: pip install pycocotools") from None
    base = darknet_map(detections, truths, classes, 0.5, thresh, 101)
    with contextlib.redirect_stdout(None):
        truth = COCO()
        truth.dataset = _coco_dataset(truths, classes, sizes) if annotations is None else _read_annotations(annotations)
        truth.createIndex()
        ids = list(range(1, len(truths) + 1)) if annotations is None else _image_ids(annotations, truth.dataset, images)
        numbers = (
            range(1, len(classes) + 1) if annotations is None else _category_ids(annotations, truth.dataset, classes)
        )
        evaluation = COCOeval(truth, _coco_results(truth, detections, sizes, ids, numbers), "bbox")
        evaluation.params.imgIds = sorted(set(ids))
        evaluation.params.catIds = [one for one in numbers if one is not None]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][
        :, :, :, 0, -1
    ]  # by IoU, recall, class; of all areas, up to 100 detections a picture
    per_class = np.zeros(len(classes))
    per_class[[one is not None for one in numbers]] = np.maximum(
        precision.mean((0, 1)), 0
    )  # -1: a class without truths
    results = [replace(one, AP=float(area)) for one, area in zip(base.classes, per_class, strict=True)]
    twelve = {
        name: None if value < 0 else float(value) for name, value in zip(COCO_NUMBERS, evaluation.stats, strict=True)
    }
    return replace(base, metric="coco", classes=tuple(results), mAP=twelve["AP"] or 0.0, summary=twelve)


def _coco_dataset(
    truths: Sequence[ImageTruths], classes: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Truths as the contents of a COCO annotation file; pictures and classes are numbered from 1."""
    there = _rows(truths)
    size = _sizes_of(there, sizes)
    sides = there.xywh[:, 2:] * size
    corner = there.xywh[:, :2] * size - sides / 2
    difficult = _difficult(truths)
    columns = (there.image, there.classes, np.concatenate((corner, sides), 1), sides.prod(1), difficult)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        "images": [{"id": number, "width": width, "height": height} for number, (width, height) in enumerate(sizes, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image + 1,
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(rows, 1)
        ],
    }


def _read_annotations(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path, "COCO annotation"))
        missing = [key for key in ("images", "annotations", "categories") if key not in content]
    except (ValueError, TypeError) as error:
        raise DarknetError(f"{path}: this is not a COCO instances file: {error}") from None
    if missing:
        raise DarknetError(f"{path}: this is not a COCO instances file: it has no '{missing[0]}'")
    return {"info": {}, **content}


def _image_ids(path: str | os.PathLike[str], content: dict[str, Any], images: Sequence[str]) -> list[int]:
    """COCO's number of each picture, by the file's name without its ending."""
    known = {Path(str(one["file_name"])).stem: int(one["id"]) for one in content["images"]}
    names = [Path(one).stem for one in images]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DarknetError(
            f"{path}: knows no picture {unknown[0]} ({len(unknown)} of {len(names)} are not in this file)"
        )
    return [known[name] for name in names]


def _category_ids(
    path: str | os.PathLike[str], content: dict[str, Any], classes: Sequence[str]
) -> Sequence[int | None]:
    """COCO's number of each class: by the name, or by the order where as many have other names; None: not in the file."""
    known = {str(one["name"]): int(one["id"]) for one in content["categories"]}
    if len(known) == len(classes) and not set(known) <= set(classes):
        return sorted(known.values())
    if not set(known) & set(classes):
        raise DarknetError(f"{path}: none of its {len(known)} categories is among the {len(classes)} classes")
    return [known.get(name) for name in classes]


def _coco_results(
    truth: Any,
    detections: Sequence[Found],
    sizes: Sequence[tuple[int, int]],
    ids: Sequence[int],
    numbers: Sequence[int | None],
) -> Any:
    """Detections as pycocotools takes them: clipped to the picture as `detector valid` does."""
    found = _rows(detections)
    number = np.array([one or 0 for one in numbers])[found.classes]
    known = np.array([one is not None for one in numbers])[found.classes]
    if not known.any():
        empty = type(truth)()
        empty.dataset = {
            "images": truth.dataset["images"],
            "categories": truth.dataset["categories"],
            "annotations": [],
        }
        empty.createIndex()
        return empty
    size = _sizes_of(found, sizes)
    box = clipped(found.xywh * np.tile(size, 2), size)
    probs = _concatenated([one.probs for one in detections])
    rows = np.column_stack((np.array(ids)[found.image], box[:, :2], box[:, 2:] - box[:, :2], probs, number)).astype(
        np.float64
    )
    return truth.loadRes(rows[known])


def clipped(xywh: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """(m, 4) boxes in pixels → left, top, right, bottom, no further than their pictures (detector.c:print_cocos).

    Args:
        size: (m, 2) or (2,) width and height of the pictures.
    """
    half = xywh[:, 2:] / 2
    return np.concatenate((np.maximum(xywh[:, :2] - half, 0), np.minimum(xywh[:, :2] + half, size)), 1)


def confusion_matrix(
    detections: Sequence[Found],
    truths: Sequence[ImageTruths],
    classes: int,
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
) -> Ints:
    """What was taken for what: (classes+1, classes+1), truth by row, detection by column; the last of each is "nothing".

    Detections over `thresh` and truths of any class are joined one to one, the pair with the best IoU first. Difficult truths are
    not counted, nor what is joined with them.
    """
    sure = [Found(*(part[one.probs > np.float32(thresh)] for part in one)) for one in detections]
    found, there = _rows(sure), _rows(truths)
    difficult = _difficult(truths)
    pairs = _pairs(found, there, same_class=False)
    row, truth = _one_to_one(pairs, pairs.iou > np.float32(iou_thresh))
    result = np.zeros((classes + 1, classes + 1), np.int64)
    counts = ~difficult[truth]
    np.add.at(result, (there.classes[truth[counts]], found.classes[row[counts]]), 1)
    missed, extra = ~difficult, np.ones(len(found.image), np.bool_)
    missed[truth], extra[row] = False, False
    np.add.at(result[:, classes], there.classes[missed], 1)
    np.add.at(result[classes], found.classes[extra], 1)
    return result


def _one_to_one(pairs: _Pairs, good: Bools) -> tuple[Ints, Ints]:
    """The greedy matching by IoU. In each round those pairs join that are the best of both sides; a few rounds do."""
    order = np.argsort(-pairs.iou[good], kind="stable")
    row, truth = pairs.row[good][order], pairs.truth[good][order]
    rows, truths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while len(row):
        joined = _first(row) & _first(truth)
        rows.append(row[joined])
        truths.append(truth[joined])
        free = ~np.isin(row, row[joined]) & ~np.isin(truth, truth[joined])
        row, truth = row[free], truth[free]
    return np.concatenate(rows), np.concatenate(truths)
