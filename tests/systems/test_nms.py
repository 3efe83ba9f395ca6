"""Of given boxes, the objects that the later YOLOs' programs report: thresholds, classes, suppression, and how many.

They shift boxes by their class and suppress all of an image at once; in float32 that rounds the boxes of high classes.
Here classes are suppressed apart, exactly: the goldens of 80 classes say how many boxes differ for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from yolos import YOLOS, arrays, content, needs_yolos

from darknet_py import Detector
from darknet_py.cfg import parse_text
from darknet_py.detections import Detections
from darknet_py.layers import Candidates
from darknet_py.network import Network
from darknet_py.postprocess import Suppression, best_class, postprocess

pytestmark = needs_yolos
MAX_DET, MAX_NMS = 300, 30000  # of YOLOv5 to v8


def read(name: str, key: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, case) for case in content(f"{name}.json").get(key, [])]


def run_name(value: Any) -> str:
    return value["key"] if isinstance(value, dict) else ""


def objects(boxes: Tensor, scores: Tensor, how: dict[str, Any], max_det: int | None = MAX_DET) -> list[Detections]:
    """What is found in images whose boxes are (n, k, 4) and whose classes' scores are (n, k, classes)."""
    image, box = torch.ones(boxes.shape[:2]).nonzero(as_tuple=True)
    probs = scores[image, box] * (scores[image, box] > how["conf_thres"])
    candidates = Candidates(image, boxes[image, box], probs.amax(1), probs)
    if not how.get("multi_label"):
        candidates = best_class(candidates)
    if "max_nms" in how:
        candidates = in_torch_order(candidates)
    if (classes := how.get("classes")) is not None:
        wanted = torch.isin(torch.arange(scores.shape[2]), torch.tensor(classes))
        candidates = candidates._replace(probs=candidates.probs * wanted)
    most = how.get("max_nms", MAX_NMS if max_det else None)
    suppression = Suppression(how["iou_thres"], agnostic=bool(how.get("agnostic")), most=most)
    names = [str(number) for number in range(scores.shape[2])]
    return postprocess(candidates, [(1, 1)] * len(boxes), names, suppression, None, how.get("max_det", max_det))


def in_torch_order(candidates: Candidates) -> Candidates:
    """A row for each box and class, sorted as the original sorts them: boxes of equal scores stand in no defined order,
    and which of them are among the first `max_nms` depends on it."""
    box, class_id = candidates.probs.nonzero(as_tuple=True)
    order = candidates.probs[box, class_id].argsort(descending=True)
    box, class_id = box[order], class_id[order]
    only = torch.zeros(len(box), candidates.probs.shape[1]).scatter_(
        1, class_id[:, None], candidates.probs[box, class_id][:, None]
    )
    return Candidates(candidates.image[box], candidates.xywh[box], candidates.objectness[box], only)


def rows(found: Detections) -> NDArray[np.float32]:
    """(m, 6): corners, confidence, class; the most confident first."""
    result = np.concatenate((found.xyxy, found.confidences[:, None], found.class_ids[:, None]), 1)
    return result[np.argsort(-found.confidences, kind="stable")]


def differing(found: Detections, expected: NDArray[np.float32]) -> int:
    """How many of the expected rows are missing, or how many too many there are; whichever is more."""
    made = rows(found)
    same = (np.abs(made[:, None] - expected[None]) <= 1e-4 + 1e-6 * np.abs(expected[None])).all(2)
    return max(len(expected) - int(same.any(0).sum()), len(made) - int(same.any(1).sum()))


def scored(rows: NDArray[np.float32], one_class_is_objectness: bool = False) -> tuple[Tensor, Tensor]:
    """(n, k, 5 + classes) → boxes, scores."""
    values = torch.from_numpy(rows)
    if one_class_is_objectness and rows.shape[2] == 6:
        return values[..., :4], values[..., 4:5]
    return values[..., :4], values[..., 4:5] * values[..., 5:]


@pytest.mark.parametrize(("name", "case"), [c for v in (5, 6, 7) for c in read(f"yolov{v}/nms", "cases")])
def test_yolov5_to_v7_report_these_objects(name: str, case: dict[str, Any]) -> None:
    numbers, key = arrays(YOLOS / f"{name}.npz"), f"nc{case['nc']}"
    given = numbers[f"in_{key}"]
    found = objects(*scored(given, one_class_is_objectness=name == "yolov7/nms"), case["settings"])
    for place, (image, count) in enumerate(zip(found, case["counts"], strict=True)):
        expected = numbers[f"out_{key}_{case['case']}_{place}"]
        assert len(image) == len(expected) == count
        assert np.allclose(rows(image), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("name", "case"), [c for v in (5, 6, 7) for c in read(f"yolov{v}/nms80", "cases")])
def test_80_classes_differ_in_the_boxes_that_the_class_offset_rounds_alone(name: str, case: dict[str, Any]) -> None:
    numbers = arrays(YOLOS / f"{name}.npz")
    found = objects(*scored(numbers["in"]), case["settings"])
    for place, (image, allowed) in enumerate(zip(found, case["differs_from_exact_per_class"], strict=True)):
        expected = numbers[f"out_{case['case']}_{place}"]
        assert differing(image, expected) <= (3 if allowed is None else allowed)  # None: not counted there


@pytest.mark.parametrize(("name", "run"), read("yolov8/nms", "runs"), ids=run_name)
def test_yolov8_reports_these_objects(name: str, run: dict[str, Any]) -> None:
    numbers = arrays(YOLOS / f"{name}.npz")
    given = torch.from_numpy(numbers[run["key"].split(".")[0] + ".in"]).transpose(1, 2)
    found = objects(given[..., :4], given[..., 4:], run["options"])
    for place, (image, count) in enumerate(zip(found, run["rows"], strict=True)):
        expected = numbers[f"{run['key']}.im{place}"]
        assert len(image) == len(expected) == count
        assert np.allclose(rows(image), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "run"),
    read("yolox/postprocess", "runs"),
    ids=run_name,
)
def test_yolox_reports_these_objects(name: str, run: dict[str, Any]) -> None:
    numbers = arrays(YOLOS / f"{name}.npz")
    how = {"conf_thres": run["conf_thre"], "iou_thres": run["nms_thre"], "agnostic": run["class_agnostic"]}
    found = objects(*scored(numbers[run["key"].split(".")[0] + ".in"]), how, max_det=None)
    for place, (image, count) in enumerate(zip(found, run["rows"], strict=True)):
        expected = numbers[f"{run['key']}.im{place}"]
        expected = np.concatenate((expected[:, :4], expected[:, 4:5] * expected[:, 5:6], expected[:, 6:]), 1)
        assert len(image) == len(expected) == count
        assert np.allclose(rows(image), expected, rtol=1e-6, atol=1e-4)


def mmdet_detector(how: dict[str, Any], path: Path) -> Detector:
    """MMDetection's YOLOv3 heads for 5 classes at 128x96, on convolutions of stride 8, 16 and 32."""
    net = {
        "width": 128, "height": 96, "channels": 3, "image_fit": "mmdet", "nms": how["nms"]["iou_threshold"],
        "agnostic": int(how["nms"].get("class_agnostic", False)), "max_det": how["max_per_img"],
        "max_nms": how["nms_pre"], "objectness_thresh": max(how["conf_thr"], 0), "class_thresh": how["score_thr"],
    }  # fmt: skip
    text = "[net]\n" + "".join(f"{name}={value}\n" for name, value in net.items())
    for stride, mask in ((8, "0,1,2"), (2, "3,4,5"), (2, "6,7,8")):
        text += "[route]\nlayers=-2\n" if mask != "0,1,2" else ""
        text += f"[convolutional]\nfilters=30\nsize=1\nstride={stride}\n"
        text += f"[yolo]\nclasses=5\nnum=9\nmask={mask}\nanchors={ANCHORS}\n"
    return Detector(Network(parse_text(text, str(path))))


ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"


@pytest.mark.parametrize(("name", "run"), read("mmdet_yolov3/decode", "runs"), ids=run_name)
def test_mmdetection_reports_these_objects(name: str, run: dict[str, Any], tmp_path: Path) -> None:
    numbers, detector = arrays(YOLOS / f"{name}.npz"), mmdet_detector(run["cfg"], tmp_path / "mmdet.cfg")
    maps = [torch.from_numpy(numbers[f"map_{stride}"]) for stride in (8, 16, 32)]
    scale = content(f"{name}.json")["scale_factor_wh"] if run["rescale"] else [1, 1]
    found = detector.postprocess(maps, [(128, 96)] * len(maps[0]), 0.0, None)
    for place, (image, count) in enumerate(zip(found, run["n"], strict=True)):
        expected = numbers[f"{run['key']}.im{place}"]
        made = rows(image)
        made[:, :4] /= np.tile(scale, 2)
        assert len(made) == len(expected) == count
        assert np.allclose(made, expected, rtol=1e-5, atol=1e-3)


def test_a_single_class_of_yolov7_counts_by_its_objectness_alone(tmp_path: Path) -> None:
    text = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=6\nsize=1\nstride=32\n"
    head = "[yolo]\nclasses=1\nnum=1\nanchors=8,8\n"
    raw = torch.zeros(1, 6, 1, 1)
    raw[0, 4], raw[0, 5] = 2.0, 1.0
    objectness, class_prob = (float(raw[0, channel].sigmoid()) for channel in (4, 5))
    for loss, expected in (("", objectness * class_prob), ("loss=yolov5\n", objectness * class_prob),
                           ("loss=yolov7\n", objectness)):  # fmt: skip
        detector = Detector(Network(parse_text(text + head + loss, str(tmp_path / "one.cfg"))))
        (found,) = detector.postprocess([raw], [(32, 32)], 0.1, None)
        assert found.confidences == pytest.approx([expected], abs=1e-6), loss
