"""Pictures come into the network's input as the later YOLOs' programs bring them there, and boxes go back as theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import REALDATA, needs_realdata
from yolos import YOLOS, arrays, cfg_of, content, drawn_weights, files_of, needs_yolos

import darknet_py
from darknet_py.boxes import centres, corners
from darknet_py.cfg import parse_text
from darknet_py.detector import Detector
from darknet_py.network import Network
from darknet_py.pictures.fit import FITS
from darknet_py.pictures.levels import Levels
from darknet_py.postprocess import from_letterbox

pytestmark = needs_yolos
HEAD = "[convolutional]\nfilters=6\nsize=1\n[yolo]\nclasses=1\nnum=1\nanchors=9,9\n"
NET = "[net]\nwidth=96\nheight=64\nchannels=3\nimage_fit={}\nchannel_order={}\ninput_max={}\n" + HEAD


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a .json file that fill the whole input: `auto` makes the input smaller, which a cfg cannot."""
    found = content(f"{name}.json").get("cases", [])
    stored = {key.split(".")[0].removeprefix("in_") for key in (arrays(YOLOS / f"{name}.npz") if found else ())}
    return [case for case in found if not varies(case) and str(case["case"]) in stored]


def varies(case: dict[str, Any]) -> bool:
    options = case.get("options", {}) | case
    return (
        bool(options.get("auto") or options.get("legacy"))
        or options.get("scaleup", True) is False
        or bool(options.get("scaleFill") or options.get("center", True) is False)
    )


def back(fit: str, boxes: Any, picture: tuple[int, int], size: tuple[int, int]) -> Any:
    """Boxes (n, 4), corners in the input in pixels → corners in the picture, as the postprocessing does it."""
    relative = centres(torch.tensor(boxes, dtype=torch.float32)) / torch.tensor([*size, *size])
    moved = from_letterbox(relative, torch.zeros(len(boxes), dtype=torch.int64), [picture], size, FITS[fit])
    result = corners(moved).clamp(0, 1) if FITS[fit].clips else corners(moved)
    return result.numpy() * [*picture, *picture]


@pytest.mark.parametrize("case", cases("yolov5/letterbox"), ids=lambda case: str(case["case"]))
def test_yolov5_letterboxes_a_picture(case: dict[str, Any]) -> None:
    numbers, key, (height, width) = arrays(YOLOS / "yolov5/letterbox.npz"), case["case"], case["new_hw"]
    assert np.array_equal(FITS["yolov5"](numbers[f"in_{key}"], width, height), numbers[f"out_{key}"])
    picture = case["in_hw"][::-1]
    moved = back("yolov5", numbers[f"boxes_{key}"], tuple(picture), (width, height))
    assert np.abs(moved - numbers[f"boxes_back_{key}"]).max() < 1e-4


@pytest.mark.parametrize("case", cases("yolov8/preprocess"), ids=lambda case: str(case["case"]))
def test_yolov8_letterboxes_a_picture(case: dict[str, Any]) -> None:
    numbers, key, (height, width) = arrays(YOLOS / "yolov8/preprocess.npz"), case["case"], case["new_shape_hw"]
    letterboxed = FITS["yolov8"](numbers[f"{key}.in_u8_hwc_bgr"], width, height)
    assert np.array_equal(letterboxed, numbers[f"{key}.letterboxed_u8_hwc_bgr"])
    picture = case["in_hw"][::-1]
    moved = back("yolov8", case["scale_boxes_in"], tuple(picture), (width, height))
    assert np.abs(moved - case["scale_boxes_out"]).max() < 1e-4


@pytest.mark.parametrize("case", cases("yolox/preprocess"), ids=lambda case: str(case["case"]))
def test_yolox_puts_a_picture_at_the_left_top(case: dict[str, Any]) -> None:
    numbers, key, (height, width) = arrays(YOLOS / "yolox/preprocess.npz"), case["case"], case["input_size_hw"]
    rgb = np.ascontiguousarray(numbers[f"{key}.in_u8_hwc"][..., ::-1])
    made = Levels("bgr", 255).values(FITS["yolox"](rgb, width, height))
    assert np.array_equal(made.transpose(2, 0, 1), numbers[f"{key}.out"])


@pytest.mark.parametrize(("fit", "order", "maximum"), [("yolov5", "rgb", 1), ("yolox", "bgr", 255)])
def test_a_detector_reads_from_the_cfg_how_pictures_come_in(fit: str, order: str, maximum: int) -> None:
    detector = Detector(Network(parse_text(NET.format(fit, order, maximum), Path("x.cfg"))))
    picture = np.full((50, 50, 3), (255, 51, 0), np.uint8)
    batch = detector.prepare([picture])[0]
    colour = torch.tensor([1, 0.2, 0]) if order == "rgb" else torch.tensor([0, 0.2, 1])
    assert torch.allclose(batch[:, 32, 32], colour * maximum)
    assert torch.allclose(batch[:, 0, 95], torch.full((3,), 114 / 255) * maximum)


def test_a_picture_of_16_bits_or_floats_is_letterboxed_like_one_of_bytes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    expected = Levels().values(FITS["yolov5"](picture, 64, 64))
    for same in (picture.astype(np.uint16) * 257, Levels().values(picture)):
        assert np.abs(Levels().values(FITS["yolov5"](same, 64, 64)) - expected).max() < 1 / 255


@needs_realdata
def test_yolov5n_finds_what_the_original_program_finds_in_pictures(tmp_path: Path) -> None:
    """Letterbox, network with drawn weights, thresholds, suppression, and the way back to the picture."""
    about, numbers = content("yolov5/pipeline.json"), arrays(YOLOS / "yolov5/pipeline.npz")
    settings, _, keys = files_of("yolov5/yolov5n")
    torch.save(drawn_weights(settings, keys), tmp_path / "original.pt")
    height, width = about["net_hw"]
    network = darknet_py.load(cfg_of("yolov5/yolov5n"), tmp_path / "original.pt", size=(width, height))
    missing = 0
    for case in about["cases"]:
        how, path = case["settings"], REALDATA / case["picture"]
        network.net = replace(network.net, best_class=0 if how.get("multi_label") else 1)
        detector = Detector(network)
        (found,) = detector(str(path), thresh=how["conf_thres"], nms=how["iou_thres"])
        number, setting = case["case"]
        conf_class = numbers[f"net_boxes_{number}_{setting}"][:, 4:]
        expected = np.concatenate((numbers[f"picture_boxes_{number}_{setting}"], conf_class), 1)
        made = np.concatenate((found.xyxy, found.confidences[:, None], found.class_ids[:, None]), 1)
        letterboxed = (detector.prepare([detector.read(str(path))])[0] * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(letterboxed, numbers[f"letterboxed_rgb_u8_{number}"])
        assert len(made) == len(expected) == case["n"]
        same = (np.abs(made[:, None] - expected[None]) < [0.02] * 4 + [1e-5, 0.5]).all(2)
        missing += len(expected) - int(same.any(0).sum())
    # The program rounds boxes as it moves them apart by their class; three pairs overlap by almost exactly .6.
    assert missing <= 0.003 * sum(case["n"] for case in about["cases"])
