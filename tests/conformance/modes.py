"""Writes the table of docs/SPEED.md that says how far engines and number formats move detections and mAP.

    python tests/conformance/modes.py

Needs the conformance kit and the real data sets (`kit.py`): the models of COCO run over its 188 images.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

# ruff: noqa: E402
from kit import KIT, REALDATA

import darknet_py
from darknet_py.boxes import iou
from darknet_py.choices import CALIBRATED, ENGINES
from darknet_py.data.dataset import open_dataset
from darknet_py.detections import Detections
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError
from darknet_py.inference.exporting import export_onnx
from darknet_py.inference.quantised import quantise_onnx
from darknet_py.measuring.evaluation import RULES, dataset_truths, detect_images, measure
from darknet_py.names import read_names
from darknet_py.network import Network

MODES = list(product(reversed(ENGINES), ("fp32", "bf16")))
THRESH, SAME = 0.25, 0.95  # confidence, and the overlap of an object that both find
HEAD = """| model | engine | format | mAP@.5 | objects at .25 | found by both | largest change of a confidence |
|---|---|---|---|---|---|---|"""


def main() -> None:
    warnings.simplefilter("ignore")
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "coco.data"
        names = REALDATA / "coco" / "coco.names"
        data.write_text(f"valid = {REALDATA / 'coco' / 'val2017.list.txt'}\nnames = {names}\n")
        dataset = open_dataset(data, "valid")
    truths = dataset_truths(dataset)
    for cfg in sorted(KIT.glob("real/*/*.cfg")):
        network = darknet_py.load(cfg, next(cfg.parent.glob("*.weights")))
        if network.classes != len(dataset.names):
            continue
        exact: list[Detections] = []
        for engine, precision, detector in detectors(network, str(names)):
            found = detect_images(detector, dataset.images, RULES["darknet"])
            value = measure(found, truths, dataset, detector.names, "darknet", 0.5, THRESH, 0, None).mAP
            sure = [at_least(one, THRESH) for one in found.detections]
            exact = exact or sure
            pairs = [compared(*both) for both in zip(exact, sure, strict=True)]
            common, change = sum(count for count, _ in pairs), max(change for _, change in pairs)
            row = (cfg.stem, engine, precision, f"{value:.4f}", sum(map(len, sure)), common, f"{change:.1e}")
            print(f"| {' | '.join(map(str, row))} |", flush=True)


def detectors(network: Network, names: str) -> Iterator[tuple[str, str, Detector]]:
    """By every engine in every format; 8-bit numbers are calibrated on images of another data set."""
    for engine, precision in MODES:
        try:
            yield engine, precision, Detector(network, names=names, engine=engine, precision=precision)
        except DarknetError:  # the engine has no such format
            continue
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        export_onnx(network, source, names=read_names(names))
        exact = Detector(source)
        examples = sorted((REALDATA / "voc2007_subset").rglob("*.jpg"))[:CALIBRATED]
        quantise_onnx(source, target, [exact.prepare([exact.read(path)]) for path in examples])
        yield "onnxruntime", "int8", Detector(target)


def at_least(found: Detections, thresh: float) -> Detections:
    kept = found.confidences >= thresh
    columns = (found.class_ids[kept], found.confidences[kept], found.xywh[kept])
    return Detections(*columns, found.size, found.names)


def compared(exact: Detections, other: Detections) -> tuple[int, float]:
    """How many objects both find in an image, and how far their confidences differ at most."""
    if not len(exact) or not len(other):
        return 0, 0.0
    boxes, others = torch.from_numpy(exact.xywh)[:, None], torch.from_numpy(other.xywh)[None]
    overlap = np.where(exact.class_ids[:, None] == other.class_ids[None], iou(boxes, others).numpy(), 0)
    best = overlap.argmax(1)
    both = overlap.max(1) > SAME
    changes = np.abs(exact.confidences - other.confidences[best])[both]
    return int(both.sum()), float(changes.max(initial=0))


if __name__ == "__main__":
    main()
