"""Whole runs, model and images in, numbers out: those of `detector map`, `detector valid` and `detector recall`."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kit import KIT, REALDATA, SHARED, needs_kit, needs_realdata, read_json
from stb_jpeg import convert, read_jpeg

from darknet_py import Detections, Detector, Network, load
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.measuring.evaluation import RULES, dataset_truths, detect_images, evaluate, measure, recall
from darknet_py.measuring.result_files import (
    write_coco_results,
)
from darknet_py.measuring.results import MapResult
from darknet_py.names import read_names

# mAP as the program prints it has six decimals.
PRINTED = 1.5e-6
# OpenCV's pixels of a JPEG file are up to three levels off those of the program's own decoder: boxes at a threshold
# come and go, and in a class with few truths one of them moves AP by much.
DECODER = 0.005
# Probabilities of float32 that two programs compute alike differ by as much.
EDGE = 2e-6

GOLDEN = {"coco": "map_coco", "voc2007_subset": "map_voc2007"}
SMALLEST = "yolo-lite-trial3_voc"
LISTS = {"coco": "val2017.list.txt", "voc2007_subset": "test2007.list.txt"}
NAMES = {
    "coco": REALDATA / "weights" / "names" / "coco.names",
    "voc2007_subset": REALDATA / "voc2007_subset" / "voc.names",
}


def real_dataset(folder: Path, name: str, root: Path) -> Dataset:
    """One of the real data sets, with the images of its list under `root`."""
    path = folder / f"{name}.data"
    path.write_text(f"valid = {root / LISTS[name]}\nnames = {NAMES[name]}\n")
    return open_dataset(path, "valid")


def decode(name: str, target: Path) -> Path:
    """A real data set's list with its images as PNG files of the program's pixels, beside its labels."""
    source = REALDATA / name
    files = (source / LISTS[name]).read_text().split()
    written = [str(Path(file).with_suffix(".png")) for file in files]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(convert, [source / file for file in files], [target / file for file in written], chunksize=4))
    (target / "labels").symlink_to(source / "labels")
    (target / LISTS[name]).write_text("".join(f"{target / file}\n" for file in written))
    return target


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a real data set decoded as the program decodes it, once: a minute on two cores for 438 images."""
    return cache(lambda name: decode(name, tmp_path_factory.mktemp(name)))


def kit_dataset(folder: Path, images_of: str = "images_stb_png") -> Dataset:
    """The kit's seven images with the labels of kit/map, side by side as in a user's folder."""
    (folder / "images").mkdir()
    shutil.copytree(KIT / "map" / "labels", folder / "labels")
    images = []
    for name in read_json("map", "map_results")["images_order"]:
        source = next((KIT / "real" / images_of).glob(f"{Path(name).stem}.*"))
        (folder / "images" / source.name).symlink_to(source)
        images.append(str(folder / "images" / source.name))
    return Dataset(images, read_names(KIT / "real" / "yolo-fastest-1.1" / "coco.names"), str(folder))


def kit_model(name: str) -> Network:
    folder = KIT / "real" / name
    return load(next(folder.glob("*.cfg")), next(folder.glob("*.weights")))


def kit_runs() -> list[tuple[str, int]]:
    if not KIT.is_dir():
        return [("(no kit)", 0)]
    return sorted({(run["model"], run["letter_box_in_cfg"]) for run in read_json("map", "map_results")["runs"]})


@needs_kit
@pytest.mark.parametrize(("model", "letter_box"), kit_runs())
def test_the_kits_runs_of_detector_map(tmp_path: Path, model: str, letter_box: int) -> None:
    """From the program's own pixels: every printed digit."""
    dataset = kit_dataset(tmp_path)
    detector = Detector(kit_model(model), dataset.names, letterbox=bool(letter_box))
    truths, found = dataset_truths(dataset), detect_images(detector, dataset.images, RULES["darknet"])
    for run in read_json("map", "map_results")["runs"]:
        if (run["model"], run["letter_box_in_cfg"]) != (model, letter_box):
            continue
        ours = measure(
            found, truths, dataset, dataset.names, "darknet", run["iou_thresh"], run["thresh"], run["points"]
        )
        assert (run["TP"], run["FP"], run["FN"]) == (ours.TP, ours.FP, ours.FN)
        assert (ours.detections, ours.truths) == (run["detections_count"], run["unique_truth_count"])
        assert ours.mAP == pytest.approx(run["mAP"], abs=PRINTED)
        assert ours.average_iou * 100 == pytest.approx(run["average_iou_percent"], abs=0.0051)
        shown = {row["class_id"]: row for row in run["per_class"]}
        for label, measured in enumerate(ours.classes):
            theirs = shown.get(label, {"ap_percent": 0.0, "TP": 0, "FP": 0})
            assert (theirs["TP"], theirs["FP"]) == (measured.TP, measured.FP), measured.name
            assert pytest.approx(theirs["ap_percent"], abs=0.0051) == measured.AP * 100, measured.name


@needs_kit
def test_jpeg_files_as_the_program_decodes_them() -> None:
    """Pixel by pixel."""
    for path in (KIT / "real" / "images").iterdir():
        theirs = cv2.imread(str(KIT / "real" / "images_stb_png" / f"{path.stem}.png"))[..., ::-1]
        np.testing.assert_array_equal(read_jpeg(path), theirs, path.name)


def golden_runs(file: str) -> list[dict[str, Any]]:
    path = REALDATA / "expected" / f"{file}.json"
    return json.loads(path.read_text())["runs"] if path.is_file() else []


def real_runs() -> list[tuple[str, str, int]]:
    """A case for each model and way of resizing."""
    cases = {
        (name, run["model"], run["letter_box_in_cfg"]) for name, file in GOLDEN.items() for run in golden_runs(file)
    }
    return sorted(cases) or [("(no data)", "", 0)]


def real_detector(run: dict[str, Any], dataset: Dataset) -> Detector:
    network = load(SHARED / run["cfg"], SHARED / run["weights"])
    return Detector(network, dataset.names, letterbox=bool(run["letter_box_in_cfg"]))


def at_the_edge(detections: list[Detections], thresh: float) -> int:
    """How many detections are so near to the threshold that the last digits of float32 decide."""
    return sum(int((np.abs(found.confidences - thresh) < EDGE).sum()) for found in detections)


def assert_as_the_program_says(result: MapResult, run: dict[str, Any], edge: int) -> None:
    """mAP to the printed digits, each class's AP, the counts but for detections at the edge of the threshold."""
    assert result.mAP == pytest.approx(run["mAP"], abs=PRINTED)
    assert result.truths == run["unique_truth_count"]
    counts = [(result.TP, run["TP"]), (result.FP, run["FP"]), (result.FN, run["FN"])]
    shown = {row["class_id"]: row for row in run["per_class"]}
    for label, measured in enumerate(result.classes):
        assert shown[label]["ap_percent"] == pytest.approx(measured.AP * 100, abs=0.0051), measured.name
        counts += [(measured.TP, shown[label]["TP"]), (measured.FP, shown[label]["FP"])]
    assert all(abs(ours - theirs) <= edge for ours, theirs in counts), counts
    if not edge:
        assert result.average_iou * 100 == pytest.approx(run["average_iou_percent"], abs=0.0051)


@needs_realdata
@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "letter_box"), real_runs())
def test_real_models_on_real_images(
    tmp_path: Path, decoded: Callable[[str], Path], name: str, model: str, letter_box: int
) -> None:
    """What `detector map` says, from the pixels that it saw."""
    dataset = real_dataset(tmp_path, name, decoded(name))
    runs = [run for run in golden_runs(GOLDEN[name]) if (run["model"], run["letter_box_in_cfg"]) == (model, letter_box)]
    detector, truths = real_detector(runs[0], dataset), dataset_truths(dataset)
    found = detect_images(detector, dataset.images, RULES["darknet"])
    for run in runs:
        ours = measure(
            found, truths, dataset, dataset.names, "darknet", run["iou_thresh"], run["conf_thresh"], run["points"]
        )
        assert abs(ours.detections - run["detections_count"]) <= 1  # that one is at .005
        assert_as_the_program_says(ours, run, at_the_edge(found.detections, run["conf_thresh"]))


@needs_realdata
def test_a_real_model_on_jpeg_files(tmp_path: Path) -> None:
    """As users run it, with OpenCV's decoder: near the program's figure."""
    dataset = real_dataset(tmp_path, "voc2007_subset", REALDATA / "voc2007_subset")
    run = next(run for run in golden_runs("map_voc2007") if run["model"] == SMALLEST)
    ours = evaluate(real_detector(run, dataset), dataset)
    assert ours.mAP == pytest.approx(run["mAP"], abs=DECODER)


@needs_realdata
@pytest.mark.slow
@pytest.mark.parametrize("model", ["yolo-fastest-1.1", "yolo-lite-trial6_coco", "MobileNetV2-YOLOv3-Nano-coco"])
def test_coco_results_are_those_of_detector_valid(tmp_path: Path, decoded: Callable[[str], Path], model: str) -> None:
    """Row by row, but for the last digits of float32: hundredths of a pixel, and rows at the threshold."""
    golden = json.loads(gzip.decompress((REALDATA / "expected" / "coco_results" / f"{model}.json.gz").read_bytes()))
    run = next(run for run in golden_runs("map_coco") if run["model"] == model)
    dataset = real_dataset(tmp_path, "coco", decoded("coco"))
    detections = detect_images(real_detector(run, dataset), dataset.images, RULES["coco"]).detections
    write_coco_results(tmp_path / "r.json", detections, dataset.images, [""] * 80)
    ours = [row for row in json.loads((tmp_path / "r.json").read_text()) if row["score"] >= 0.005]
    assert len(ours) == pytest.approx(len(golden), abs=at_the_edge(detections, 0.005))
    rows: dict[tuple[int, int], list[list[float]]] = {}
    for row in ours:
        rows.setdefault((row["image_id"], row["category_id"]), []).append([*row["bbox"], row["score"]])
    for row in golden:
        if row["score"] > 0.005 + EDGE:
            same = np.array(rows[row["image_id"], row["category_id"]])
            far = np.abs(same - [*row["bbox"], row["score"]])
            assert (far <= [0.01, 0.01, 0.01, 0.01, 1e-5]).all(1).any(), row


@needs_realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("yolo-lite-trial3_voc", "  249   319   577\tRPs/Img: 81.60\tIOU: 49.90%\tRecall:55.29%"),
        ("MobileNetV2-YOLOv3-Nano-voc", "  249   487   577\tRPs/Img: 22.35\tIOU: 66.02%\tRecall:84.40%"),
        ("yolo-fastest_voc", "  249   481   577\tRPs/Img: 26.27\tIOU: 66.17%\tRecall:83.36%"),
    ],
)
def test_recall_is_that_of_detector_recall(
    tmp_path: Path, decoded: Callable[[str], Path], model: str, line: str
) -> None:
    """The last line of AlexeyAB 59596d7, -O3 without AVX and OpenCV, run on the JPEG files of voc2007_subset."""
    dataset = real_dataset(tmp_path, "voc2007_subset", decoded("voc2007_subset"))
    *_, last = recall(
        real_detector(next(run for run in golden_runs("map_voc2007") if run["model"] == model), dataset), dataset
    )
    assert last.text() == line
