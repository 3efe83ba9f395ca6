"""Pictures come into the network's input as the later YOLOs' programs bring them there, and boxes go back as theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from augmenting import NET, needs, rng
from kit import REALDATA, needs_realdata
from recipes import digest
from replayed import corners_in, rgb
from yolos import YOLOS, arrays, cfg_of, content, drawn_picture, drawn_weights, files_of, needs_yolos

import darknet_py
from darknet_py.boxes import centres, corners
from darknet_py.cfg import parse_text
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import recipe_for
from darknet_py.data.augment.steps import LoadedImage
from darknet_py.data.truths import make_truths
from darknet_py.detector import Detector
from darknet_py.network import Network
from darknet_py.pictures.fit import FITS
from darknet_py.pictures.levels import Levels
from darknet_py.postprocess import from_letterbox

pytestmark = needs_yolos
HEAD = "[convolutional]\nfilters=6\nsize=1\n[yolo]\nclasses=1\nnum=1\nanchors=9,9\n"
Case: TypeAlias = dict[str, Any]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation
MARGINS = content("yolov6/schedule.json").get("letterbox_pad_v6_vs_v5", {})  # left and top, of both programs
CFG = "[net]\nwidth=96\nheight=64\nchannels=3\nimage_fit={}\nchannel_order={}\ninput_max={}\n" + HEAD


def cases(name: str, lacks: Callable[[Case], str]) -> list[Any]:
    """All cases of a .json file, as parameters; one that lacks something is skipped, and says why."""
    return [
        pytest.param(case, id=str(case["case"]), marks=[pytest.mark.skip(reason=reason)] if reason else [])
        for case in content(f"{name}.json").get("cases", [])
        for reason in [lacks(case)]
    ]


def no_form(case: Case) -> str:
    """What of a case no cfg can say."""
    options = case.get("options", {}) | case
    if options.get("scaleFill"):
        return "scaleFill: with --stretch images are resized as Darknet does, not as OpenCV does"
    if options.get("center", True) is False:
        return "center=False: no image_fit has rounded sizes and the left top"
    if options.get("scaleup", True) is False and min(np.divide(case["out_hw"], case["in_hw"])) > 1:
        return "scaleup=False: no image_fit leaves small images as small as they are"
    return ""


def no_boxes(case: Case) -> str:
    return "no boxes are known" if case.get("auto") and "scale_boxes_in" not in case else ""


def no_margins(case: Case) -> str:
    return no_form(case) or ("" if str(case["case"]) in MARGINS else "YOLOv6's margins are not known")


def size_of(case: Case) -> tuple[int, int]:
    """(width, height) of the input. With `auto` the program chooses one for each picture, as `--size` does here."""
    height, width = case["input_size_hw"] if "input_size_hw" in case else case["out_hw"]
    return width, height


def picture_of(case: Case, stored: dict[str, Any], name: str) -> Any:
    """The case's picture; a large one is not stored, but drawn from its seed."""
    return stored[name] if name in stored else drawn_picture(case["picture_seed"], *case["in_hw"])


def assert_same(
    made: Any, stored: dict[str, Any], name: str, expected_digest: list[float], rounding: float = 0
) -> None:
    """It is the array of this name, or, where that is not stored, has its digest."""
    if name in stored:
        assert np.allclose(made, stored[name], rtol=0, atol=rounding)
    else:
        assert digest(made) == pytest.approx(expected_digest, rel=1e-12, abs=rounding)


def back(fit: str, boxes: Any, picture_hw: list[int], size: tuple[int, int]) -> Any:
    """Boxes (n, 4), corners in the input in pixels → corners in the picture, as the postprocessing does it."""
    picture = (picture_hw[1], picture_hw[0])
    relative = centres(torch.tensor(boxes, dtype=torch.float32)) / torch.tensor([*size, *size])
    moved = from_letterbox(relative, torch.zeros(len(boxes), dtype=torch.int64), [picture], size, FITS[fit])
    result = corners(moved).clamp(0, 1) if FITS[fit].clips else corners(moved)
    return result.numpy() * [*picture, *picture]


@pytest.mark.parametrize("case", cases("yolov5/letterbox", no_form))
def test_yolov5_letterboxes_a_picture(case: Case) -> None:
    numbers, (auto, _, key) = arrays(YOLOS / "yolov5/letterbox.npz"), str(case["case"]).rpartition("_")
    before, after = (numbers[f"{auto}_{part}_{key}".lstrip("_")] for part in ("in", "out"))
    assert np.array_equal(FITS["yolov5"](before, *size_of(case)), after)


@pytest.mark.parametrize("case", cases("yolov5/letterbox", no_boxes))
def test_yolov5_brings_boxes_back_to_a_picture(case: Case) -> None:
    numbers, key = arrays(YOLOS / "yolov5/letterbox.npz"), case["case"]
    moved = back("yolov5", numbers[f"boxes_{key}"], case["in_hw"], size_of(case))
    assert np.abs(moved - numbers[f"boxes_back_{key}"]).max() < 1e-4


@pytest.mark.parametrize("case", cases("yolov8/preprocess", no_form))
def test_yolov8_letterboxes_a_picture(case: Case) -> None:
    numbers, key = arrays(YOLOS / "yolov8/preprocess.npz"), case["case"]
    made = FITS["yolov8"](picture_of(case, numbers, f"{key}.in_u8_hwc_bgr"), *size_of(case))
    assert_same(made, numbers, f"{key}.letterboxed_u8_hwc_bgr", case["letterboxed_digest"])


@pytest.mark.parametrize("case", cases("yolov8/preprocess", no_boxes))
def test_yolov8_brings_boxes_back_to_a_picture(case: Case) -> None:
    moved = back("yolov8", case["scale_boxes_in"], case["in_hw"], size_of(case))
    assert np.abs(moved - case["scale_boxes_out"]).max() < 1e-4


@pytest.mark.parametrize("case", cases("yolox/preprocess", no_form))
def test_yolox_puts_a_picture_at_the_left_top(case: Case) -> None:
    """`legacy`: the releases to 0.1.0, whose input a cfg can say, too; they divide by 255 in another order."""
    numbers, key = arrays(YOLOS / "yolox/preprocess.npz"), case["case"]
    levels = Levels("rgb", 1, *IMAGENET) if case["legacy"] else Levels("bgr", 255)
    made = levels.values(FITS["yolox"](rgb(picture_of(case, numbers, f"{key}.in_u8_hwc")), *size_of(case)))
    assert_same(made.transpose(2, 0, 1), numbers, f"{key}.out", case["digest"], 1e-6 if case["legacy"] else 0)


@pytest.mark.parametrize("program", ["yolov5", "yolov6"])
@pytest.mark.parametrize("case", cases("yolov5/letterbox", no_margins))
def test_labels_of_a_single_training_image_lie_where_the_program_puts_them(program: str, case: Case) -> None:
    """YOLOv6 puts them by whole margins, as the image; YOLOv5 by half pixels where these are odd."""
    margins = MARGINS[str(case["case"])][program == "yolov5"]
    loaded = np.rint(np.multiply(case["in_hw"], case["ratio"])).astype(int)
    net = replace(NET, augmentation=program, zoom=(1.0, 1.0), translate=0.0, flip=0)
    truths = make_truths([0], [[0.5, 0.5, 1, 1]])
    image = LoadedImage(np.full((*loaded, 3), 255, np.uint8), truths, "", "", Dice.of(rng()))
    made = recipe_for(net, needs())(iter([image]), size_of(case), rng())
    assert corners_in(made)[0] == pytest.approx([*margins, *(loaded[::-1] + margins)], abs=1e-3)


@pytest.mark.parametrize(("program", "inner"), [("yolov5", 49), ("yolov6", 49), ("yolov7", 49), ("yolov8", 50)])
@pytest.mark.parametrize("rows", [77, 78])
def test_a_single_training_image_is_as_large_as_in_a_mosaic(program: str, inner: int, rows: int) -> None:
    """49.28 or 49.92 pixels high: YOLOv5 to v7 drop the fraction, YOLOv8 rounds up."""
    net = replace(NET, augmentation=program, zoom=(1.0, 1.0), translate=0.0, flip=0)
    image = LoadedImage(np.full((rows, 100, 3), 255, np.uint8), make_truths(), "", "", Dice.of(rng()))
    made = recipe_for(net, needs())(iter([image]), (64, 64), rng())
    assert (made.image == 255).all((1, 2)).sum() == inner


@pytest.mark.parametrize(("fit", "order", "maximum"), [("yolov5", "rgb", 1), ("yolox", "bgr", 255)])
def test_a_detector_reads_from_the_cfg_how_pictures_come_in(fit: str, order: str, maximum: int) -> None:
    detector = Detector(Network(parse_text(CFG.format(fit, order, maximum), Path("x.cfg"))))
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
