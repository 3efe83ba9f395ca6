"""mAP, counts and curves: equal to `detector map` on its own detections, to VOC's rules, and to COCO's own program."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import REALDATA, needs_realdata

from darknet_py import DarknetError, Detections
from darknet_py.data.labels import label_path, read_labels
from darknet_py.data.truths import ImageTruths, make_truths
from darknet_py.data.voc import read_voc
from darknet_py.measuring import plots
from darknet_py.measuring.coco import coco_map
from darknet_py.measuring.confusion import confusion_matrix
from darknet_py.measuring.maps import average_precision, darknet_map, voc_map
from darknet_py.measuring.results import MapResult
from darknet_py.names import read_names

AP = 1e-9  # percent; both count in float64
IOU = 1e-4  # percent; the program adds up to 1200 IoUs in float32

MAP_DETECTIONS = REALDATA / "expected" / "map_detections"


def found(*rows: Sequence[float], size: tuple[int, int] = (100, 100)) -> Detections:
    """Rows class, confidence, x, y, w, h."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    columns = (table[:, 0].astype(np.int64), table[:, 1].astype(np.float32), table[:, 2:].astype(np.float32))
    return Detections(*columns, size, [])


def truth(*rows: Sequence[float], difficult: Sequence[bool] | None = None) -> ImageTruths:
    """Rows class, x, y, w, h."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return make_truths(table[:, 0], table[:, 1:], difficult)


def read_detections(path: Path) -> tuple[dict[str, Any], list[Detections], list[Path]]:
    """A file of the C program's detections: what it says of itself, the detections, and the images."""
    data = path.read_bytes()
    content = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    root = REALDATA / content["list"].split("/")[1]
    return (
        content,
        [found(*image["detections"]) for image in content["images"]],
        [root / image["file"] for image in content["images"]],
    )


@needs_realdata
@pytest.mark.parametrize(
    "file", sorted(path.name for path in MAP_DETECTIONS.iterdir()) if MAP_DETECTIONS.is_dir() else ["(no data)"]
)
def test_the_programs_own_detections_give_the_programs_numbers(file: str) -> None:
    content, detections, images = read_detections(MAP_DETECTIONS / file)
    truths = [read_labels(path) if Path(path := label_path(str(image))).exists() else make_truths() for image in images]
    golden = json.loads((REALDATA / "expected" / f"map_{file.split('.')[0]}.json").read_text())
    runs = [run for run in golden["runs"] if all(run[key] == content[key] for key in ("model", "letter_box_in_cfg"))]
    assert runs
    for run in runs:
        names = [row["name"] for row in run["per_class"]]
        ours = darknet_map(detections, truths, names, run["iou_thresh"], run["conf_thresh"], run["points"])
        assert (run["TP"], run["FP"], run["FN"]) == (ours.TP, ours.FP, ours.FN)
        assert (ours.detections, ours.truths) == (run["detections_count"], run["unique_truth_count"])
        assert ours.mAP == pytest.approx(run["mAP"], abs=1e-11)
        assert ours.average_iou * 100 == pytest.approx(run["average_iou_percent"], abs=IOU)
        assert [ours.precision, ours.recall, ours.F1] == pytest.approx(
            [run["precision"], run["recall"], run["f1"]], abs=1e-7
        )
        for result, theirs in zip(ours.classes, run["per_class"], strict=True):
            counts = {key: theirs[key] for key in ("TP", "FP", "truths", "detections")}
            assert {key: getattr(result, key) for key in counts} == counts, theirs["name"]
            assert pytest.approx(theirs["ap_percent"], abs=AP) == result.AP * 100, theirs["name"]
            assert result.average_iou * 100 == pytest.approx(theirs["average_iou_percent"], abs=IOU), theirs["name"]


BOX = (0.5, 0.5, 0.2, 0.2)
NEAR = (0.51, 0.5, 0.2, 0.2)


def test_counts_go_by_raw_order_and_ap_by_confidence() -> None:
    """The first row takes the truth although it is below `thresh`; the confident one is no TP, but first in AP."""
    result = darknet_map([found((0, 0.1, *NEAR), (0, 0.9, *BOX))], [truth((0, *BOX))], ["a"])
    assert (result.TP, result.FP, result.FN) == (0, 1, 1)
    assert result.mAP == 1.0
    result = darknet_map([found((0, 0.9, *BOX), (0, 0.1, *NEAR))], [truth((0, *BOX))], ["a"])
    assert (result.TP, result.FP, result.FN, result.average_iou) == (1, 0, 0, pytest.approx(1.0))


def test_a_second_detection_is_wrong_even_if_another_truth_would_do() -> None:
    both = truth((0, *BOX), (0, 0.53, 0.5, 0.2, 0.2))
    result = darknet_map([found((0, 0.9, *BOX), (0, 0.8, *NEAR))], [both], ["a"])
    assert (result.TP, result.FP, result.FN) == (1, 1, 1)


def test_the_iou_must_exceed_the_threshold_and_the_class_must_be_right() -> None:
    half = (0.5, 0.5, 0.2, 0.1)  # an IoU of .5
    assert darknet_map([found((0, 0.9, *half))], [truth((0, *BOX))], ["a"], iou_thresh=0.49).TP == 1
    assert darknet_map([found((0, 0.9, *half))], [truth((0, *BOX))], ["a"], iou_thresh=0.501).TP == 0
    assert darknet_map([found((1, 0.9, *BOX))], [truth((0, *BOX))], ["a", "b"]).TP == 0
    assert darknet_map([found((0, 0.9, *BOX)), found()], [truth(), truth((0, *BOX))], ["a"]).TP == 0, "another image"


def test_classes_without_truths_count_in_darknets_mean_and_not_in_vocs() -> None:
    items = [found((0, 0.9, *BOX))], [truth((0, *BOX))], ["a", "b"]
    assert darknet_map(*items).mAP == 0.5
    assert voc_map(*items).mAP == 1.0


def test_nothing_found_and_no_truths() -> None:
    for result in (
        darknet_map([found()], [truth()], ["a"]),
        darknet_map([], [], ["a"]),
        voc_map([found()], [truth()], ["a"]),
    ):
        assert (result.mAP, result.TP, result.FP, result.FN) == (0, 0, 0, 0)
        assert (result.precision, result.recall, result.F1, result.average_iou) == (0, 0, 0, 0)
        assert "precision = 0.00" in result.text()
    assert darknet_map([found()], [truth((0, *BOX))], ["a"]).FN == 1


def test_difficult_truths_are_neither_missed_nor_punished_in_ap() -> None:
    """Darknet leaves their detections out of AP, but counts them as FP over `thresh`."""
    truths = truth((0, *BOX), (0, 0.1, 0.1, 0.1, 0.1), difficult=[False, True])
    result = darknet_map([found((0, 0.9, 0.1, 0.1, 0.1, 0.1), (0, 0.8, *BOX))], [truths], ["a"])
    assert (result.TP, result.FP, result.FN, result.truths, result.detections) == (1, 1, 0, 1, 1)
    assert result.mAP == 1.0


@pytest.mark.parametrize(
    ("points", "expected"), [(0, (1 + 2 / 3) / 4), (11, (3 + 3 * 2 / 3) / 11), (101, (26 + 25 * 2 / 3) / 101)]
)
def test_average_precision_of_a_curve_worked_out_by_hand(points: int, expected: float) -> None:
    """Right, wrong, right, of four truths: recall .25 at precision 1, then .5 at 2/3, and no more."""
    area, precision, recall = average_precision(np.array([True, False, True]), 4, points)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [0.25, 0.25, 0.5])
    assert area == pytest.approx(expected)


@pytest.mark.parametrize("points", [1, -3])
def test_points_that_make_no_curve_are_refused(points: int) -> None:
    with pytest.raises(DarknetError, match=f"points={points}: write 0"):
        darknet_map([], [], ["a"], points=points)


def voc_rules(detections: Sequence[Detections], truths: Sequence[ImageTruths], label: int, points: int) -> float:
    """VOCevaldet, one detection after the other, on whole pixels counted from 1."""
    rows = [
        (float(confidence), k, box)
        for k, image in enumerate(detections)
        for class_id, confidence, box in zip(image.class_ids, image.confidences, image.xywh, strict=True)
        if class_id == label
    ]
    rows.sort(key=lambda row: -row[0])
    truths_of = []
    for image, image_truths in zip(detections, truths, strict=True):
        of_class = image_truths.classes == label
        xywh, hard = image_truths.xywh[of_class], image_truths.difficult[of_class]
        centre, half = xywh[:, :2] * image.size, xywh[:, 2:] * image.size / 2
        truths_of.append((centre - half + 1, centre + half + 1, hard, np.zeros(len(hard), bool)))
    total = sum(int((~hard).sum()) for _, _, hard, _ in truths_of)
    hits = []
    for _, k, (x, y, w, h) in rows:
        width, height = detections[k].size
        low = np.array([max((x - w / 2) * width + 1, 1), max((y - h / 2) * height + 1, 1)])
        high = np.array([min((x + w / 2) * width + 1, width), min((y + h / 2) * height + 1, height)])
        first, last, hard, taken = truths_of[k]
        sides = np.maximum(np.minimum(high, last) - np.maximum(low, first) + 1, 0)
        shared = sides.prod(1)
        overlap = shared / ((high - low + 1).prod() + (last - first + 1).prod(1) - shared)
        best = int(overlap.argmax()) if len(overlap) else -1
        if best >= 0 and overlap[best] >= 0.5:
            if hard[best]:
                continue
            hits.append(not taken[best])
            taken[best] = True
        else:
            hits.append(False)
    if not total:
        return 0.0
    right = np.cumsum(hits)
    recall, precision = right / total, right / np.arange(1, len(hits) + 1)
    if points:
        return sum(max(precision[recall >= t], default=0.0) for t in np.arange(points) / (points - 1)) / points
    steps = np.concatenate(([0.0], recall, [1.0]))
    heights = np.concatenate(([0.0], precision, [0.0]))
    for k in range(len(heights) - 2, -1, -1):
        heights[k] = max(heights[k], heights[k + 1])
    return float(((steps[1:] - steps[:-1]) * heights[1:]).sum())


@needs_realdata
@pytest.mark.parametrize("points", [0, 11])
def test_vocs_metric_follows_its_rules_with_difficult_objects(points: int) -> None:
    _, detections, images = read_detections(MAP_DETECTIONS / "voc2007.MobileNetV2-YOLOv3-Nano-voc.json")
    root = REALDATA / "voc2007_subset"
    names = read_names(root / "voc.names")
    read = [read_voc(root / "Annotations" / f"{image.stem}.xml", names) for image in images]
    truths = [image_truths for image_truths, _ in read]
    detections = [replace(image, size=size) for image, (_, size) in zip(detections, read, strict=True)]
    assert sum(int(image_truths.difficult.sum()) for image_truths in truths) == 114
    ours = voc_map(detections, truths, names, points=points)
    expected = [voc_rules(detections, truths, label, points) for label in range(20)]
    np.testing.assert_allclose([result.AP for result in ours.classes], expected, atol=1e-12)
    present = [value for value, result in zip(expected, ours.classes, strict=True) if result.truths]
    assert len(present) == 18
    assert ours.mAP == pytest.approx(np.mean(present))


def test_cocos_metric_of_perfect_and_of_missing_detections() -> None:
    pytest.importorskip("pycocotools")
    truths = [truth((0, *BOX), (1, 0.2, 0.2, 0.1, 0.3)), truth((1, *BOX))]
    perfect = [
        Detections(objects.classes, np.ones(len(objects.classes), np.float32), objects.xywh, size, [])
        for objects, size in zip(truths, [(640, 480), (500, 333)], strict=True)
    ]
    result = coco_map(perfect, truths, ["a", "b", "c"])
    assert result.mAP == pytest.approx(1.0)
    assert [row.AP for row in result.classes] == pytest.approx([1, 1, 0])
    assert result.summary["AP75"] == pytest.approx(1.0)
    assert "mAP@[.50:.95]" in result.text()
    assert result.as_json()["coco"]["AR100"] == pytest.approx(1.0)
    nothing = [found(size=image.size) for image in perfect]
    assert coco_map(nothing, truths, ["a", "b"]).mAP == 0


@needs_realdata
def test_cocos_metric_with_cocos_own_annotations() -> None:
    """The official file has crowds and areas of outlines; the label files, made from it, give nearly the same AP."""
    pytest.importorskip("pycocotools")
    _, detections, images = read_detections(MAP_DETECTIONS / "coco.yolo-fastest-1.1-xl.json.gz")
    file = REALDATA / "coco" / "annotations" / "instances_val2017_subset.json"
    known = {image["file_name"]: (image["width"], image["height"]) for image in json.loads(file.read_text())["images"]}
    detections = [replace(found, size=known[image.name]) for found, image in zip(detections, images, strict=True)]
    names = read_names(REALDATA / "weights" / "names" / "coco.names")
    truths = [read_labels(path) if Path(path := label_path(str(image))).exists() else make_truths() for image in images]
    plain = coco_map(detections, truths, names)
    official = coco_map(detections, truths, names, annotations=file, images=[str(image) for image in images])
    assert official.mAP == pytest.approx(plain.mAP, abs=0.01)
    assert official.summary["AP50"] == pytest.approx(darknet_map(detections, truths, names, points=101).mAP, abs=0.02)
    with pytest.raises(DarknetError, match=r"there is no image dog.jpg, or several of that name"):
        coco_map(detections, truths, names, annotations=file, images=["dog.jpg", *map(str, images[1:])])
    with pytest.raises(DarknetError, match="none of its 80 categories is among the 2 classes"):
        coco_map(detections, truths, ["x", "y"], annotations=file, images=[str(image) for image in images])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (
        "pycocotools",
        "pycocotools.coco",
        "matplotlib",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(DarknetError, match="pip install pycocotools"):
        coco_map([found()], [truth()], ["a"])
    with pytest.raises(DarknetError, match="pip install matplotlib"):
        plots.draw_confusion(tmp_path / "c.png", np.zeros((2, 2), np.int64), ["a"])


def test_the_confusion_matrix_says_what_each_truth_was_detected_as() -> None:
    truths = [truth((0, *BOX), (1, 0.2, 0.2, 0.2, 0.2)), truth((1, *BOX))]
    detections = [
        found((1, 0.9, *BOX), (0, 0.8, *NEAR), (0, 0.1, 0.2, 0.2, 0.2, 0.2)),
        found((1, 0.9, 0.9, 0.9, 0.1, 0.1)),
    ]
    matrix = confusion_matrix(detections, truths, 2)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 2], [1, 1, 0]]  # the exact box wins, whatever its class


def test_the_confusion_matrix_matches_as_the_greedy_loop_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        xywh = np.concatenate((rng.uniform(0.3, 0.7, (24, 2)), rng.uniform(0.2, 0.5, (24, 2))), 1)
        detections, truths = (
            found(*((k % 3, 0.9, *xywh[k]) for k in range(12))),
            truth(*((k % 3, *xywh[k]) for k in range(12, 24))),
        )
        matrix = confusion_matrix([detections], [truths], 3, iou_thresh=0.3)
        expected = np.zeros((4, 4), np.int64)
        left = (
            {k: int(c) for k, c in enumerate(detections.class_ids)},
            {k: int(c) for k, c in enumerate(truths.classes)},
        )
        overlaps = ((_iou(a, b), i, j) for i, a in enumerate(detections.xywh) for j, b in enumerate(truths.xywh))
        for overlap, i, j in sorted(overlaps, reverse=True):
            if overlap > 0.3 and i in left[0] and j in left[1]:
                expected[left[1].pop(j), left[0].pop(i)] += 1
        for label in left[1].values():
            expected[label, 3] += 1
        for label in left[0].values():
            expected[3, label] += 1
        assert matrix.tolist() == expected.tolist()


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2) - np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    shared = float(sides.clip(0).prod())
    return shared / float(a[2:].prod() + b[2:].prod() - shared)


def example(classes: int) -> tuple[MapResult, np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    names = [f"class {k}" for k in range(classes)]
    boxes = np.concatenate((rng.uniform(0.2, 0.8, (400, 2)), rng.uniform(0.1, 0.3, (400, 2))), 1)
    labels = rng.integers(0, classes, 400)
    truths = truth(*np.column_stack((labels, boxes)))
    detections = found(*np.column_stack((labels, rng.uniform(0, 1, 400), boxes + rng.normal(0, 0.02, boxes.shape))))
    return darknet_map([detections], [truths], names), confusion_matrix([detections], [truths], classes), names


@pytest.mark.parametrize("classes", [1, 5, 80])
def test_charts_of_results(tmp_path: Path, classes: int) -> None:
    pytest.importorskip("matplotlib")
    cv2 = pytest.importorskip("cv2")
    result, matrix, names = example(classes)
    confusion = plots.draw_confusion(tmp_path / "confusion.png", matrix, names)
    for path in [*plots.draw_precision_recall(tmp_path, result), confusion]:
        chart = cv2.imread(str(path))
        assert min(chart.shape[:2]) > 300
        assert chart.std() > 5, "something is drawn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ap.png", "confusion.png", "precision_recall.png"]


def test_the_result_in_words_and_as_json() -> None:
    result = darknet_map([found((0, 0.9, *BOX), (1, 0.8, *BOX))], [truth((0, *BOX))], ["cat", "dog"], thresh=0.3)
    text = result.text()
    assert "class_id = 0, name = cat, ap = 100.00%   \t (TP = 1, FP = 0) " in text
    assert " for conf_thresh = 0.30, precision = 0.50, recall = 1.00, F1-score = 0.67 " in text
    assert " for conf_thresh = 0.30, TP = 1, FP = 1, FN = 0, average IoU = 50.00 % " in text
    assert " mean average precision (mAP@0.50) = 0.500000, or 50.00 % " in text
    numbers = result.as_json()
    assert numbers["mAP"] == 0.5
    assert numbers["classes"][1] == {
        "name": "dog", "AP": 0.0, "TP": 0, "FP": 1, "ground_truth": 0, "detections": 1, "average_iou": 0.0,
    }  # fmt: skip
    assert json.loads(json.dumps(numbers)) == numbers
