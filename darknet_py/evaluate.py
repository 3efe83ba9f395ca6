"""The command that measures a detector or a classifier on a data set, and Darknet's `detector valid` and `recall`.

python -m darknet_py.evaluate data/obj.data cfg/yolov3.cfg backup/yolov3_last.weights --json result.json --plots plots
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from darknet_py.cfg import parse_cfg
from darknet_py.command import UNREADABLE, add_inference, add_size, fraction, positive, run_command
from darknet_py.data.dataset import SPLITS, Dataset, open_dataset
from darknet_py.data.survey import survey
from darknet_py.detector import Detector, load_detector
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable, write_json
from darknet_py.layers import KINDS
from darknet_py.layers.needs import ClassNeeds
from darknet_py.measuring.accuracy import TOP, accuracy
from darknet_py.measuring.confusion import confusion_matrix
from darknet_py.measuring.evaluation import RULES, check_classes, dataset_truths, detect_images, measure, recall
from darknet_py.measuring.maps import check_points
from darknet_py.measuring.plots import check_matplotlib, draw_confusion, draw_precision_recall
from darknet_py.measuring.result_files import FORMATS, write_coco_results, write_voc_results
from darknet_py.metadata import is_safetensors
from darknet_py.names import read_data
from darknet_py.network import load

OF_DETECTORS = ("metric", "iou_thresh", "thresh", "points", "annotations", "letterbox", "valid_results", "precision")
OF_CLASSIFIERS = ("top",)


def parser() -> argparse.ArgumentParser:
    result = _model_parser(
        "darknet_py.evaluate",
        "Measures a network on a data set: mAP as Darknet, PASCAL VOC or COCO define it, or a classifier's accuracy.",
    )
    result.epilog = (
        "example: python -m darknet_py.evaluate data/obj.data cfg/yolov3.cfg yolov3_last.weights --json result.json"
    )
    metric = result.add_argument_group("metric")
    metric.add_argument(
        "--metric",
        choices=tuple(RULES),
        default="darknet",
        help="darknet: as `detector map`; voc: PASCAL VOC's rules; coco: by pycocotools (default: %(default)s)",
    )
    metric.add_argument(
        "--iou-thresh",
        type=fraction,
        default=0.5,
        help="IoU with a ground-truth box that a detection needs (default: %(default)s)",
    )
    metric.add_argument(
        "--thresh",
        type=fraction,
        default=0.25,
        help="confidence for TP, FP, FN, precision and recall (default: %(default)s)",
    )
    metric.add_argument(
        "--points",
        type=int,
        default=0,
        help="recall points of AP: 11 (VOC 2007), 101 (COCO), 0: the area under the curve (default: %(default)s)",
    )
    metric.add_argument(
        "--split", choices=SPLITS, default="valid", help="which list of the .data file (default: %(default)s)"
    )
    metric.add_argument(
        "--annotations", metavar="FILE", help="with --metric coco: a COCO instances file whose ground truth counts"
    )
    metric.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help="of a classifier: a class among the K most probable ones is right, too (default: the .data file's top, or "
        f"{TOP})",
    )
    metric.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the images' aspect ratio, or stretch them (default: as the cfg's letter_box says)",
    )
    results = result.add_argument_group("results")
    results.add_argument("--json", metavar="FILE", help="the numbers as JSON")
    results.add_argument(
        "--plots", metavar="DIR", help="charts of precision and recall, AP, and the confusion matrix (needs matplotlib)"
    )
    results.add_argument(
        "--valid-results",
        metavar="FILE",
        help="what `detector valid` writes: COCO results if the name ends in .json, otherwise VOC's, a file per class, "
        "whose names begin with FILE; not with --metric darknet, which finds other boxes",
    )
    return result


def _model_parser(module: str, description: str) -> argparse.ArgumentParser:
    """What all three commands share."""
    result = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    result.add_argument("data", metavar="DATA", help="the .data file: valid=, train=, names=")
    result.add_argument("cfg", metavar="CFG", help="the network's .cfg, or a .safetensors that carries it")
    result.add_argument("weights", metavar="WEIGHTS", nargs="?", help="its weights (default: the .safetensors)")
    detection = result.add_argument_group("detection")
    add_size(detection)
    add_inference(detection)
    detection.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    return result


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(arguments)
    if args.weights is None:
        if not is_safetensors(args.cfg):
            parser.error("the following arguments are required: WEIGHTS (only a .safetensors is a model by itself)")
        args.weights = args.cfg
    return args


def _detector(args: argparse.Namespace, letterbox: bool | None) -> Detector:
    return load_detector(
        args.cfg,
        args.weights,
        data=args.data,
        device=args.device,
        size=args.size,
        letterbox=letterbox,
        precision=args.precision,
        batch=args.batch,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parsed(parser(), arguments)
    if args.valid_results and args.metric == "darknet":
        raise DarknetError(
            "--valid-results: `detector valid` finds other boxes than `detector map`; add --metric voc or --metric coco"
        )
    if args.annotations and args.metric != "coco":
        raise DarknetError("--annotations: only --metric coco reads a COCO file")
    check_points(args.points)
    check_writable(args.json)
    if args.plots:
        check_matplotlib()
        Path(args.plots).mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    dataset = open_dataset(args.data, args.split)
    if not any(KINDS[section.name].head for section in parse_cfg(args.cfg).sections if section.name in KINDS):
        return _classify(args, dataset)
    _refuse(args, OF_CLASSIFIERS, "no classifier")
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


def _refuse(args: argparse.Namespace, options: Sequence[str], kind: str) -> None:
    """Refuses options that have no use for a network of this kind, rather than leave them unread."""
    defaults = parser()
    for name in options:
        if getattr(args, name) != defaults.get_default(name):
            raise DarknetError(f"--{name.replace('_', '-')}: {args.cfg} is {kind}; leave this option out")


def _classify(args: argparse.Namespace, dataset: Dataset) -> int:
    """Measures a classifier."""
    _refuse(args, OF_DETECTORS, "a classifier")
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


def valid_main(arguments: Sequence[str] | None = None) -> int:
    """`detector valid`: writes what the .data file's `eval` says into its folder `results`; no ground truth is read."""
    parser = _model_parser(
        "darknet_py detector valid", "Writes detections for evaluation by another program, as `detector valid` does."
    )
    parser.add_argument(
        "--out", metavar="NAME", help="the file's name without .json, or what the files' names begin with"
    )
    args = _parsed(parser, arguments)
    options = read_data(args.data)
    kind = options.get("eval", "voc")
    if kind not in FORMATS:  # Darknet takes any other word for voc
        raise DarknetError(f"{args.data}: eval={kind}: unknown format; write one of {', '.join(FORMATS)}")
    images = open_dataset(args.data, "valid").images[: args.limit]
    detector = _detector(args, None)
    found = detect_images(detector, images, RULES["coco" if kind == "coco" else "voc"])
    default_name, write = FORMATS[kind]
    target = Path(options.get("results") or "results", args.out or default_name)
    written = write(target, found.detections, images, detector.names)
    print(f"results in {written[0]}{f' and {len(written) - 1} more' if len(written) > 1 else ''}")
    return UNREADABLE if found.unreadable else 0


def recall_main(arguments: Sequence[str] | None = None) -> int:
    """`detector recall`: a line for each image."""
    parser = _model_parser(
        "darknet_py detector recall",
        "Counts the ground-truth boxes that have a box of any class, as `detector recall` does.",
    )
    args = _parsed(parser, arguments)
    dataset = open_dataset(args.data, "valid")
    for so_far in recall(_detector(args, letterbox=False), dataset, args.limit):
        tqdm.write(so_far.text())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
