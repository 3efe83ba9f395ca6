"""The command that measures a detector or a classifier on a data set, and Darknet's `detector valid` and `recall`.

python -m darknet_py.evaluate data/obj.data cfg/yolov3.cfg backup/yolov3_last.weights --json result.json --plots plots
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.choices import SPLITS, TOP
from darknet_py.command import add_inference, add_size, check_files, fraction, lasting, positive, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable
from darknet_py.measuring.rules import RULES, check_points
from darknet_py.metadata import is_safetensors


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
        help="keep the images' aspect ratio, or stretch them (default: as the cfg's letter_box and image_fit say)",
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
    check_files(args.cfg, args.weights, data=args.data)
    return args


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
    given = {name for name, value in vars(args).items() if value != parser().get_default(name)}
    with lasting():
        from darknet_py.work.evaluate import run

    return run(args, given)


def valid_main(arguments: Sequence[str] | None = None) -> int:
    """`detector valid`: writes what the .data file's `eval` says into its folder `results`; no ground truth is read."""
    parser = _model_parser(
        "darknet_py detector valid", "Writes detections for evaluation by another program, as `detector valid` does."
    )
    parser.add_argument(
        "--out", metavar="NAME", help="the file's name without .json, or what the files' names begin with"
    )
    args = _parsed(parser, arguments)
    with lasting():
        from darknet_py.work.evaluate import valid

    return valid(args)


def recall_main(arguments: Sequence[str] | None = None) -> int:
    """`detector recall`: a line for each image."""
    parser = _model_parser(
        "darknet_py detector recall",
        "Counts the ground-truth boxes that have a box of any class, as `detector recall` does.",
    )
    args = _parsed(parser, arguments)
    with lasting():
        from darknet_py.work.evaluate import recall

    return recall(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
