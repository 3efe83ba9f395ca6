"""The result of an evaluation: mAP, counts and curves; as JSON, and as the lines that `detector map` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]

JSON_KEYS = (
    *("metric", "mAP", "iou_thresh", "thresh", "points", "average_iou"),
    *("TP", "FP", "FN", "precision", "recall", "F1"),
)
CLASS_JSON_KEYS = {
    "name": "name", "AP": "AP", "TP": "TP", "FP": "FP", "ground_truth": "truths", "detections": "detections",
    "average_iou": "average_iou",
}  # in the file → here  # fmt: skip


@dataclass(frozen=True)
class ClassResult:
    """One class: `AP`, 0..1; `TP`, `FP`, `average_iou` above the confidence threshold; all `truths` and `detections`.

    precision, recall, confidences: (detections,) float64, the curve from the most confident detection on.
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
    confidences: Doubles = field(repr=False, compare=False)


@dataclass(frozen=True)
class MapResult:
    """The result of an evaluation: fractions of 1 throughout, and 0 where a division is by 0 (Darknet prints nan).

    Attributes:
        metric: "darknet", "voc" or "coco": whose rules gave `mAP` and the classes' `AP`. TP, FP, FN, average_iou and
            what follows from them (precision, recall, F1) follow Darknet's rules in all three.
        iou_thresh: the IoU that a detection needs. thresh: the confidence that TP, FP, FN need.
        points: recall points of AP; 0: the area under the curve.
        average_iou: of the detections above `thresh`; false positives count as 0.
        summary: COCO's twelve numbers, if that is the metric; None: there are no objects of this size.
        unreadable: images that could not be read; they count as images in which nothing was found.
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
        return sum(result.TP for result in self.classes)

    @property
    def FP(self) -> int:  # noqa: N802
        return sum(result.FP for result in self.classes)

    @property
    def FN(self) -> int:  # noqa: N802
        return self.truths - self.TP

    @property
    def truths(self) -> int:
        return sum(result.truths for result in self.classes)

    @property
    def detections(self) -> int:
        return sum(result.detections for result in self.classes)

    @property
    def precision(self) -> float:
        return ratio(self.TP, self.TP + self.FP)

    @property
    def recall(self) -> float:
        return ratio(self.TP, self.truths)

    @property
    def F1(self) -> float:  # noqa: N802
        return ratio(2 * self.precision * self.recall, self.precision + self.recall)

    def as_json(self) -> dict[str, Any]:
        """The numbers as they go into a JSON file."""
        numbers = {key: getattr(self, key) for key in JSON_KEYS}
        numbers |= {"coco": self.summary} if self.summary else {}
        numbers |= {"unreadable": self.unreadable} if self.unreadable else {}
        return numbers | {
            "classes": [{key: getattr(one, name) for key, name in CLASS_JSON_KEYS.items()} for one in self.classes]
        }

    def text(self) -> str:
        """The lines that `detector map` prints, with its own words and digits."""
        lines = [f" detections_count = {self.detections}, unique_truth_count = {self.truths}  "]
        for class_id, result in enumerate(self.classes):
            counts = f"(TP = {result.TP}, FP = {result.FP})"
            lines.append(f"class_id = {class_id}, name = {result.name}, ap = {result.AP * 100:2.2f}%   \t {counts} ")
        rates = f"precision = {self.precision:1.2f}, recall = {self.recall:1.2f}, F1-score = {self.F1:1.2f} "
        counts = f"TP = {self.TP}, FP = {self.FP}, FN = {self.FN}, average IoU = {self.average_iou * 100:2.2f} % "
        at_thresh = (
            f" for conf_thresh = {self.thresh:1.2f}, {rates}",
            f" for conf_thresh = {self.thresh:0.2f}, {counts}",
        )
        return "\n".join(
            [*lines, "", *at_thresh, "", *(self._coco_lines() if self.metric == "coco" else self._map_lines())]
        )

    def _coco_lines(self) -> list[str]:
        numbers = [f" {name:10} = {'-' if value is None else f'{value:.4f}'}" for name, value in self.summary.items()]
        return [*numbers, f" mean average precision (mAP@[.50:.95]) = {self.mAP:f}, or {self.mAP * 100:2.2f} % "]

    def _map_lines(self) -> list[str]:
        used = f"used {self.points} Recall-points " if self.points else "used Area-Under-Curve for each unique Recall "
        rule = " by the rules of PASCAL VOC" if self.metric == "voc" else ""
        mean = f" mean average precision (mAP@{self.iou_thresh:0.2f}){rule} = {self.mAP:f}, or {self.mAP * 100:2.2f} % "
        return [f" IoU threshold = {self.iou_thresh * 100:2.0f} %, {used}", mean]


def ratio(numerator: float, denominator: float) -> float:
    """0 where the denominator is."""
    return numerator / denominator if denominator else 0.0
