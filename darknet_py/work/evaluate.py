"""What `python -m darknet_py.evaluate` and Darknet's `detector valid` and `recall` do."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

from darknet_py.cfg import parse_cfg
from darknet_py.choices import TOP
from darknet_py.command import UNREADABLE
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.survey import survey
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import DarknetError
from darknet_py.files import write_json
from darknet_py.layers import KINDS
from darknet_py.layers.needs import ClassNeeds
from darknet_py.measuring import evaluation
from darknet_py.measuring.accuracy import accuracy
from darknet_py.measuring.confusion import confusion_matrix
from darknet_py.measuring.evaluation import check_classes, dataset_truths, detect_images, measure
from darknet_py.measuring.plots import check_matplotlib, draw_confusion, draw_precision_recall
from darknet_py.measuring.result_files import FORMATS, write_coco_results, write_voc_results
from darknet_py.measuring.rules import RULES
from darknet_py.names import read_data
from darknet_py.network import load

OF_DETECTORS = (
    "metric",
    "iou_thresh",
    "thresh",
    "points",
    "annotations",
    "letterbox",
    "valid_results",
    "precision",
    "engine",
)
OF_CLASSIFIERS = ("top",)


def run(args: argparse.Namespace, given: Collection[str]) -> int:
    """Measures a detector or a classifier. given: the options with other values than their defaults. Returns the exit
    status."""
    if args.plots:
        check_matplotlib()
        Path(args.plots).mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    dataset = open_dataset(args.data, args.split)
    if not any(KINDS[section.name].head for section in parse_cfg(args.cfg).sections if section.name in KINDS):
        return _classify(args, given, dataset)
    _refuse(args, given, OF_CLASSIFIERS, "no classifier")
    detector = _detector(args, args.letterbox)
    names = detector.names
    truths = dataset_truths(dataset, args.limit, required=args.annotations is None)
    check_classes(truths, dataset, len(names))
    images = dataset.images[: len(truths)]
    found = detect_images(detector, images, RULES[args.metric])
    if args.valid_results:
        write = write_coco_results if args.valid_results.lower().endswith(".json") else write_voc_results
        write(args.valid_results, found.detections, images, names)
    limits = (args.iou_thresh, args.thresh)
    result = measure(found, truths, dataset, names, args.metric, *limits, args.points, args.annotations)
    print(result.text())
    print(f"Total Detection Time: {time.perf_counter() - start:.0f} Seconds")
    if args.json:
        write_json(args.json, result.as_json())
    if args.plots:
        folder = Path(args.plots)
        draw_precision_recall(folder, result)
        matrix = confusion_matrix(found.detections, truths, len(names), *limits)
        draw_confusion(folder / "confusion.png", matrix, names)
        print(f"plots in {folder}")
    return UNREADABLE if found.unreadable else 0


def _refuse(args: argparse.Namespace, given: Collection[str], options: Collection[str], kind: str) -> None:
    """Refuses options that have no use for a network of this kind, rather than leave them unread."""
    for name in options:
        if name in given:
            raise DarknetError(f"--{name.replace('_', '-')}: {args.cfg} is {kind}; leave this option out")


def _classify(args: argparse.Namespace, given: Collection[str], dataset: Dataset) -> int:
    """Measures a classifier."""
    _refuse(args, given, OF_DETECTORS, "a classifier")
    network = load(args.cfg, args.weights, device=args.device, size=args.size)
    survey(dataset, ClassNeeds(network.classes), network.size)
    top = args.top or read_data(args.data).count("top") or TOP
    result = accuracy(network, dataset, top, batch=args.batch, limit=args.limit)
    print(result.text())
    if args.json:
        write_json(args.json, result.as_json())
    if args.plots:
        folder = Path(args.plots)
        folder.mkdir(parents=True, exist_ok=True)
        draw_confusion(folder / "confusion.png", result.confusion(), result.names)
        print(f"plots in {folder}")
    return UNREADABLE if result.unreadable else 0


def _detector(args: argparse.Namespace, letterbox: bool | None) -> Detector:
    return load_detector(
        args.cfg,
        args.weights,
        data=args.data,
        device=args.device,
        size=args.size,
        letterbox=letterbox,
        precision=args.precision,
        engine=args.engine,
        batch=args.batch,
    )


def valid(args: argparse.Namespace) -> int:
    """Writes detections as `detector valid` does. Returns the exit status."""
    options = read_data(args.data)
    kind = options.get("eval", "voc")
    if kind not in FORMATS:  # Darknet takes any other word for voc
        raise DarknetError(f"{args.data}: eval={kind}: unknown format; write one of {', '.join(FORMATS)}")
    images = open_dataset(args.data, "valid").images[: args.limit]
    detector = _detector(args, None)
    found = detect_images(detector, images, RULES["coco" if kind == "coco" else "voc"])
    default_name, write = FORMATS[kind]
    target = Path(options.get("results") or "results", (args.out or default_name).lstrip("/"))
    written = write(target, found.detections, images, detector.names)
    print(f"results in {written[0]}{f' and {len(written) - 1} more' if len(written) > 1 else ''}")
    return UNREADABLE if found.unreadable else 0


def recall(args: argparse.Namespace) -> int:
    """Prints a line for each image, as `detector recall` does. Returns the exit status."""
    dataset = open_dataset(args.data, "valid")
    for so_far in evaluation.recall(_detector(args, letterbox=False), dataset, args.limit):
        tqdm.write(so_far.text())
    return 0
