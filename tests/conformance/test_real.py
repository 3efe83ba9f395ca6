"""Real models on real images: the detections of `detector test`, from its own pixels and from JPEGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import KIT, cases, needs_kit, read_json

from darknet_py import Detections, Detector, load
from darknet_py.inference.runner import prepare
from darknet_py.pictures.read import read_image

# From the C program's own pixels: float32 forward passes of small networks; probabilities and relative coordinates.
TOLERANCE = 2e-5
NMS = 0.45  # the program's default
NEAR = 1e-4  # a probability as near to a threshold, or an overlap as near to nms, may fall on either side


def model_files(name: str) -> tuple[Path, Path, Path]:
    folder = KIT / "real" / name
    return next(folder.glob("*.cfg")), next(folder.glob("*.weights")), next(folder.glob("*.names"))


def detector_of(name: str, **options: Any) -> Detector:
    cfg, weights, names = model_files(name)
    return Detector(load(cfg, weights), names, **options)


def rows_of(found: Detections) -> np.ndarray:
    return np.concatenate((found.class_ids[:, None], found.confidences[:, None], found.xywh), 1)


def missing(wanted: np.ndarray, among: np.ndarray, thresh: float, tolerance: float) -> list[list[float]]:
    """Rows [class, prob, x, y, w, h] that have no equal among the others, except those at the threshold."""
    lost = []
    for row in wanted:
        same = among[among[:, 0] == row[0]]
        if not (len(same) and (np.abs(same - row).max(1) <= tolerance).any()) and row[1] > thresh + NEAR:
            lost.append(row.tolist())
    return lost


def real_case(name: str, letterbox: bool, detector: Detector | None = None) -> tuple[int, float]:
    """How many detections were compared, and the largest difference of a probability or coordinate."""
    golden = read_json("real/expected", name)
    detector = detector or detector_of(name, letterbox=letterbox)
    count, worst = 0, 0.0
    for file, sides in golden["images"].items():
        expected = sides["letter_box" if letterbox else "resize"]
        image = read_image(KIT / "real" / "images_stb_png" / f"{Path(file).stem}.png")
        raw, size = detector.runner(detector.prepare([image])), (image.shape[1], image.shape[0])
        for key in ("thresh_0.25", "thresh_0.005"):
            thresh = float(key.removeprefix("thresh_"))
            kinds = {"default": "detections"}
            if expected[key].get("detections_cfg_nms_kind"):
                kinds[detector.network.head_layers()[-1].nms_kind] = "detections_cfg_nms_kind"
            for kind, column in kinds.items():
                detector.nms_kind = kind
                ours = rows_of(detector.postprocess(raw, [size], thresh, NMS)[0])
                theirs = np.array(expected[key][column]).reshape(-1, 6)
                where = (file, key, kind)
                assert not missing(theirs, ours, thresh, TOLERANCE), where
                assert not missing(ours, theirs, thresh, TOLERANCE), where
                count += len(theirs)
                sure = theirs[theirs[:, 1] > thresh + NEAR]
                worst = max([worst, *(float(np.abs(ours[ours[:, 0] == row[0]] - row).max(1).min()) for row in sure)])
    return count, worst


@needs_kit
@pytest.mark.parametrize("letterbox", [False, True], ids=["resize", "letter_box"])
@pytest.mark.parametrize("name", cases("real/expected", "*.json"))
def test_detections_from_the_programs_pixels(name: str, letterbox: bool) -> None:
    real_case(name, letterbox)


@needs_kit
@pytest.mark.parametrize("name", cases("real/expected", "*.json"))
def test_detections_of_a_fused_network(name: str) -> None:
    cfg, weights, names = model_files(name)
    real_case(name, False, Detector(prepare(load(cfg, weights), batch=1, fused=True), names))


@needs_kit
def test_the_cfgs_own_suppression_is_the_default() -> None:
    golden = read_json("real/expected", "yolo-fastest-1.1")["images"]["dog.jpg"]["resize"]["thresh_0.25"]
    assert not golden["same_with_cfg_nms_kind"]
    detector = detector_of("yolo-fastest-1.1")
    found = detector(KIT / "real" / "images_stb_png" / "dog.png")[0]
    assert detector.nms_kind == "greedynms"
    assert len(found) == len(golden["detections_cfg_nms_kind"]) != len(golden["detections"])
    assert found.names[found[0].class_id] == found[0].name == "car"
    pixels = np.array(golden["detections_pixels"])[0, 2:]
    box = np.array(found[0].box)
    np.testing.assert_allclose(
        [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]], pixels, rtol=1e-4
    )


@needs_kit
@pytest.mark.parametrize("name", cases("real/expected", "*.json"))
def test_detections_from_jpegs(name: str) -> None:
    """OpenCV decodes JPEGs up to three levels differently: confident objects are the same, their boxes nearly so."""
    golden = read_json("real/expected", name)
    detector = detector_of(name, nms_kind="default")
    folder = KIT / "real" / "images"
    found = detector([folder / file for file in golden["images"]])
    for detections, sides in zip(found, golden["images"].values(), strict=True):
        theirs = np.array(sides["resize"]["thresh_0.25"]["detections"]).reshape(-1, 6)
        sure = theirs[theirs[:, 1] > 0.35]
        assert not missing(sure, rows_of(detections), 0.25, 0.05)


@needs_kit
@pytest.mark.parametrize("precision", ["bf16"])
def test_a_lower_precision_finds_the_same_sure_objects(precision: str) -> None:
    golden = read_json("real/expected", "yolo-fastest-1.1-xl")["images"]["dog.jpg"]["resize"]["thresh_0.25"][
        "detections"
    ]
    detector = detector_of("yolo-fastest-1.1-xl", precision=precision)
    found = detector(KIT / "real" / "images_stb_png" / "dog.png")[0]
    assert {int(row[0]) for row in golden if row[1] > 0.5} == {
        int(c) for c, p in zip(found.class_ids, found.confidences, strict=True) if p > 0.5
    }


@needs_kit
def test_raw_heads_and_layers_of_a_real_model() -> None:
    cfg, weights, _ = model_files("yolo-fastest-1.1")
    network = load(cfg, weights)
    kit = np.load(KIT / "real" / "expected" / "dog_input_resize_320x320.npz")
    images = torch.from_numpy(kit[kit.files[0]].reshape(1, 3, 320, 320))
    heads = np.load(KIT / "real" / "expected" / "dog_yolo-fastest-1.1_heads.npz")
    features = network.features(images, network.heads + [index - 1 for index in network.heads])
    for key in heads.files:
        kind, _, index = key.partition("_")
        if kind in ("out", "raw") and index.isdigit():
            ours = features[int(index) - (kind == "raw")].numpy().reshape(-1)
            theirs = heads[key].reshape(-1)
            assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max(), key
