"""Measures a network on a data set: mAP as `detector map`, PASCAL VOC or COCO has it, and what `detector valid` and `recall` give.

python -m darknet_py.evaluate data/obj.data cfg/yolov3.cfg backup/yolov3_last.weights --json result.json --plots plots
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from darknet_py.boxes import iou
from darknet_py.boxes import nms as suppress
from darknet_py.command import add_size, fraction, run_command
from darknet_py.data.dataset import SPLITS, Dataset, open_dataset
from darknet_py.data.truths import ImageTruths
from darknet_py.detect import UNREADABLE, make_detector
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError, ImageError
from darknet_py.inference.runner import PRECISIONS
from darknet_py.measuring.metrics import (
    Findings,
    Found,
    MapResult,
    Size,
    check_points,
    coco_metrics,
    confusion_matrix,
    darknet_map,
    voc_map,
)
from darknet_py.measuring.valid import FORMATS, write_coco_results, write_voc_results
from darknet_py.names import read_data
from darknet_py.network import Network
from darknet_py.pictures.images import Picture, letterbox, resize, to_picture
from darknet_py.pictures.outputs import write_json


class Rule(NamedTuple):
    """Which boxes are found: the least probability, the overlap of suppression, and whether that is measured in pixels.

    Darknet's DIoU depends on the picture's proportions, so the unit matters: `detector map` has parts of the picture, `detector
    valid` pixels.
    """

    thresh: float
    nms: float
    pixels: bool


# detector.c: validate_detector_map, validate_detector
RULES = {"darknet": Rule(0.005, 0.45, False), "voc": Rule(0.001, 0.6, True), "coco": Rule(0.001, 0.6, True)}
RECALL_THRESH, RECALL_IOU, RECALL_NMS = 0.001, 0.5, 0.4  # detector.c: validate_detector_recall


def evaluate(
    model: Network | Detector,
    dataset: Dataset,
    *,
    metric: str = "darknet",
    iou_thresh: float = 0.5,
    thresh: float = 0.25,
    points: int = 0,
    batch: int = 8,
    letterbox: bool | None = None,
    limit: int | None = None,
    annotations: str | os.PathLike[str] | None = None,
) -> MapResult:
    """Measures a model; for a loop that trains, too: a network is not touched, a fused copy of it does the work.

    Args:
        model: a network, which is not touched, or a detector.
        dataset: pictures and truths. limit: only so many of them, from the first on.
        metric: "darknet" (as `detector map`), "voc" or "coco".
        iou_thresh: overlap with a truth that a detection needs (COCO has its own ten). thresh: confidence for TP, FP, FN and what
            follows from them. points: recall points of AP, 0 for the area.
        batch, letterbox: see `Detector`; of a detector that is given, its own.
        annotations: for "coco", a COCO instances file whose truths count.

    Raises:
        DarknetError: the network has no detection head, the names are not its classes, or a label is wrong.
    """
    truths = read_truths(dataset, limit, required=annotations is None)
    detector = (
        model
        if isinstance(model, Detector)
        else Detector(model, dataset.names or None, batch=batch, letterbox=letterbox)
    )
    findings = find(detector, dataset.images[: len(truths)], RULES[metric])
    return measure(findings, truths, dataset, detector.names, metric, iou_thresh, thresh, points, annotations)


def measure(
    findings: Findings, truths: Sequence[ImageTruths], dataset: Dataset, names: Sequence[str], metric: str,
    iou_thresh: float, thresh: float, points: int, annotations: str | os.PathLike[str] | None = None,
) -> MapResult:  # fmt: skip
    """Findings against truths, by a metric's rules. A COCO data set brings its own file along.

    Raises:
        DarknetError: a truth is of no class of the network.
    """
    check_classes(truths, dataset, len(names))
    if metric == "darknet":
        result = darknet_map(findings.found, truths, names, iou_thresh, thresh, points)
    elif metric == "voc":
        result = voc_map(findings.found, truths, names, findings.sizes, iou_thresh, thresh, points)
    else:
        file = annotations or (dataset.source if dataset.kind == "coco" else None)
        images = dataset.images[: len(truths)]
        result = coco_metrics(findings.found, truths, names, findings.sizes, thresh, annotations=file, images=images)
    return replace(result, unreadable=len(findings.unreadable))


def read_truths(dataset: Dataset, limit: int | None = None, *, required: bool = True) -> list[ImageTruths]:
    """The truths of all pictures, or of the first `limit` ones.

    Raises:
        DarknetError: no picture has a label file though they are `required`, or one is malformed.
    """
    if required and dataset.kind == "none":
        raise DarknetError(
            f"{dataset.label_file(0)}: there are no labels; no picture of {dataset.source} has a label file"
        )
    return [dataset.truths(index) for index in range(len(dataset))[:limit]]


def check_classes(truths: Sequence[ImageTruths], dataset: Dataset, classes: int) -> None:
    """Raises DarknetError where a truth is of no class of the network; the C program reads and writes beside its tables then."""
    for index, one in enumerate(truths):
        wrong = (one.classes < 0) | (one.classes >= classes)
        if wrong.any():
            where = dataset.label_file(index)
            raise DarknetError(
                f"{where}: class {one.classes[wrong][0]}, but the network has {classes} classes, 0 to {classes - 1}"
            )


def find(detector: Detector, images: Sequence[str], rule: Rule) -> Findings:
    """Runs the detector over picture files, read ahead by threads. One that cannot be read is named on stderr; nothing is in it."""
    nothing = Found(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))
    found, sizes = [nothing] * len(images), [(1, 1)] * len(images)
    unreadable: list[str] = []
    for numbers, heads, batch_sizes in _batches(detector, images, unreadable, detector.letterbox):
        each = found_in(detector, heads, batch_sizes, rule)
        for number, one, size in zip(numbers, each, batch_sizes, strict=True):
            found[number], sizes[number] = one, size
    return Findings(found, sizes, unreadable)


def _batches(
    detector: Detector, images: Sequence[str], unreadable: list[str], letterboxed: bool
) -> Iterator[tuple[list[int], list[Tensor], list[Size]]]:
    """(numbers of the pictures, raw outputs of the heads, sizes of the pictures) for each batch; shows progress."""
    with tqdm(total=len(images), unit="image", disable=None) as bar:
        read = _read_ahead(detector, images, unreadable, letterboxed)
        while group := list(islice(read, detector.batch)):
            good = [(number, picture, size) for number, picture, size in group if picture is not None]
            if good:
                numbers, pictures, sizes = (list(column) for column in zip(*good, strict=True))
                with torch.inference_mode():
                    heads = detector.runner(detector.prepare(pictures))
                yield numbers, heads, sizes
            bar.update(len(group))


def _read_ahead(
    detector: Detector, images: Sequence[str], unreadable: list[str], letterboxed: bool
) -> Iterator[tuple[int, Picture | None, Size]]:
    """Pictures in order, of the network's size; read and resized while the network runs."""
    fit = letterbox if letterboxed else resize

    def read(path: str) -> tuple[Picture, Size]:
        picture = detector.read(path)
        return fit(picture, *detector.network.size), (picture.shape[1], picture.shape[0])

    with ThreadPoolExecutor(min(os.cpu_count() or 2, 8)) as pool:
        rest = iter(images)
        waiting: deque[tuple[str, Future[tuple[Picture, Size]]]] = deque()
        for number in range(len(images)):
            for path in islice(rest, max(2 * detector.batch - len(waiting), 0)):
                waiting.append((path, pool.submit(read, path)))
            path, future = waiting.popleft()
            try:
                yield number, *future.result()
            except ImageError as error:
                tqdm.write(f"error: {error}", file=sys.stderr)
                unreadable.append(path)
                yield number, None, (1, 1)


@torch.inference_mode()
def found_in(detector: Detector, heads: Sequence[Tensor], sizes: Sequence[Size], rule: Rule) -> list[Found]:
    """Heads' raw outputs → what is found in each picture, in the C program's raw order, on which `detector map`'s counts depend.

    Suppression sorts the boxes by class 0, then stably by class 1, and so on (box.c:do_nms_sort): by the last class's probability,
    equal ones by that of the class before, and so on. Then all classes of each box come, ascending.
    """
    candidates = detector.candidates(heads, rule.thresh)
    alive = (candidates.probs > 0).any(1)
    image, probs = candidates.image[alive], candidates.probs[alive]
    order = torch.from_numpy(np.lexsort((*-probs.T.cpu().numpy(), image.cpu().numpy()))).to(image.device)
    image, probs, xywh = image[order], probs[order], candidates.xywh[alive][order]
    if detector.letterbox and all(layer.corrected for layer in detector.network.head_layers()):
        parts = [to_picture(xywh[image == k], size, detector.network.size, True) for k, size in enumerate(sizes)]
        xywh = torch.cat(parts)  # `image` ascends
    row, label = (probs > 0).nonzero(as_tuple=True)
    score = probs[row, label]
    boxes = xywh * torch.tensor(sizes, device=xywh.device)[image].repeat(1, 2) if rule.pixels else xywh
    group = image[row] * len(detector.names) + label
    kept = suppress(boxes[row], score, group, rule.nms, detector.nms_kind, detector.beta_nms)
    row, label, score = row[kept], label[kept], score[kept]
    ends = torch.searchsorted(image[row], torch.arange(1, len(sizes), device=row.device)).tolist()
    columns = [np.split(part.cpu().numpy(), ends) for part in (label, score, xywh[row])]
    return [Found(*one) for one in zip(*columns, strict=True)]


class Recall(NamedTuple):
    """`detector recall` after some pictures: `correct` of `total` truths have a box; `proposals`: boxes; `iou`: sum of the best IoUs."""

    images: int
    correct: int
    total: int
    proposals: int
    iou: float

    def text(self) -> str:
        """The line that `detector recall` prints; the first picture is 0."""
        each = np.float32(self.proposals) / np.float32(self.images)
        best, part = (100 * value / max(self.total, 1) for value in (self.iou, self.correct))
        return f"{self.images - 1:5d} {self.correct:5d} {self.total:5d}\tRPs/Img: {each:.2f}\tIOU: {best:.2f}%\tRecall:{part:.2f}%"


def recall(detector: Detector, dataset: Dataset, limit: int | None = None) -> Iterator[Recall]:
    """How many truths have a box of any class, picture after picture (detector.c:validate_detector_recall).

    Boxes with an objectness over .001 count, suppressed by objectness at an IoU of .4; a truth has one if an IoU exceeds .5.
    Pictures are stretched, whatever the cfg says, as there.
    """
    truths = read_truths(dataset, limit)
    sofar = Recall(0, 0, 0, 0, 0.0)
    unreadable: list[str] = []
    for numbers, heads, _ in _batches(detector, dataset.images[: len(truths)], unreadable, letterboxed=False):
        with torch.inference_mode():
            candidates = detector.candidates(heads, -1.0)
            over = candidates.objectness > RECALL_THRESH
            image, xywh, objectness = candidates.image[over], candidates.xywh[over], candidates.objectness[over]
            kept = suppress(xywh, objectness, image, RECALL_NMS)
            image, xywh = image[kept].cpu(), xywh[kept].cpu()
        for place, number in enumerate(numbers):
            boxes, there = xywh[image == place], torch.from_numpy(truths[number].xywh)
            best = iou(there[:, None], boxes[None]).amax(1) if len(boxes) else torch.zeros(len(there))
            correct = int((best > RECALL_IOU).sum())
            sofar = Recall(
                number + 1, sofar.correct + correct, sofar.total + len(there), sofar.proposals + len(boxes), sofar.iou + float(best.sum())
            )  # fmt: skip
            yield sofar


def parser() -> argparse.ArgumentParser:
    result = _model_parser(
        "darknet_py.evaluate", "Measures a network on a data set: mAP as Darknet, PASCAL VOC or COCO define it."
    )
    result.epilog = "example: python -m darknet_py.evaluate data/obj.data cfg/yolov3.cfg backup/yolov3_last.weights --json result.json"
    what = result.add_argument_group("metric")
    what.add_argument("--metric", choices=tuple(RULES), default="darknet",
                      help="darknet: as `detector map`; voc: PASCAL VOC's rules; coco: by pycocotools (default: %(default)s)")  # fmt: skip
    what.add_argument(
        "--iou-thresh", type=fraction, default=0.5, help="overlap a detection needs (default: %(default)s)"
    )
    what.add_argument(
        "--thresh",
        type=fraction,
        default=0.25,
        help="confidence for TP, FP, FN, precision and recall (default: %(default)s)",
    )
    what.add_argument(
        "--points",
        type=int,
        default=0,
        help="recall points of AP: 11 (VOC 2007), 101 (COCO), 0: the area (default: %(default)s)",
    )
    what.add_argument(
        "--split", choices=SPLITS, default="valid", help="which list of the .data file (default: %(default)s)"
    )
    what.add_argument(
        "--annotations", metavar="FILE", help="with --metric coco: a COCO instances file whose truths count"
    )
    what.add_argument("--letterbox", action=argparse.BooleanOptionalAction,
                      help="keep the pictures' proportions, or stretch them (default: as the cfg's letter_box says)")  # fmt: skip
    out = result.add_argument_group("results")
    out.add_argument("--json", metavar="FILE", help="the numbers")
    out.add_argument("--plots", metavar="DIR", help="pictures: precision and recall, AP of each class, confusion matrix (needs matplotlib)")  # fmt: skip
    out.add_argument("--valid-results", metavar="FILE",
                     help="what `detector valid` writes: COCO results if the name ends in .json, otherwise VOC's file for each class, FILE "
                     "being the beginning of their names; not with --metric darknet, whose boxes are others")  # fmt: skip
    return result


def _model_parser(module: str, description: str) -> argparse.ArgumentParser:
    """What all three commands share."""
    result = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    result.add_argument("data", metavar="DATA", help="the .data file: valid=, train=, names=")
    result.add_argument("cfg", metavar="CFG", help="the network's .cfg")
    result.add_argument("weights", metavar="WEIGHTS", help="its .weights or .safetensors")
    how = result.add_argument_group("detection")
    add_size(how)  # type: ignore[arg-type]
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    how.add_argument(
        "--batch", type=int, default=8, help="pictures that pass the network at once (default: %(default)s)"
    )
    how.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="of the network's numbers (default: %(default)s, Darknet's)",
    )
    how.add_argument("--limit", type=_count, metavar="N", help="only the first N pictures")
    return result


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of pictures; write 1 or more")
    return int(text)


def _detector(given: argparse.Namespace, letterboxed: bool | None) -> Detector:
    rest = {"names": None, "strict": False, "nms_kind": None, "agnostic": False, "letterbox": letterboxed}
    return make_detector(argparse.Namespace(**vars(given) | rest))


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.valid_results and given.metric == "darknet":
        raise DarknetError(
            "--valid-results: `detector valid` finds other boxes than `detector map`; add --metric voc or --metric coco"
        )
    if given.annotations and given.metric != "coco":
        raise DarknetError("--annotations: only --metric coco reads a COCO file")
    check_points(given.points)
    start = time.perf_counter()
    dataset = open_dataset(given.data, given.split)
    detector = _detector(given, given.letterbox)
    truths = read_truths(dataset, given.limit, required=given.annotations is None)
    check_classes(truths, dataset, len(detector.names))
    images = dataset.images[: len(truths)]
    findings = find(detector, images, RULES[given.metric])
    if given.valid_results:
        _write_valid(given.valid_results, findings, images, detector.names)
    result = measure(
        findings,
        truths,
        dataset,
        detector.names,
        given.metric,
        given.iou_thresh,
        given.thresh,
        given.points,
        given.annotations,
    )
    print(result.text())
    print(f"Total Detection Time: {time.perf_counter() - start:.0f} Seconds")
    if given.json:
        write_json(Path(given.json), result.as_json())
    if given.plots:
        from darknet_py.measuring.plots import confusion, precision_recall

        folder = Path(given.plots)
        folder.mkdir(parents=True, exist_ok=True)
        precision_recall(folder, result)
        matrix = confusion_matrix(findings.found, truths, len(detector.names), given.iou_thresh, given.thresh)
        confusion(folder / "confusion.png", matrix, detector.names)
        print(f"plots in {folder}")
    return UNREADABLE if findings.unreadable else 0


def _write_valid(name: str, findings: Findings, images: Sequence[str], names: Sequence[str]) -> None:
    if name.lower().endswith(".json"):
        write_coco_results(name, findings, images, names)
    else:
        write_voc_results(name, findings, images, names)


def valid_main(arguments: Sequence[str] | None = None) -> int:
    """`detector valid`: writes what the .data file's `eval` says into its folder `results`; no truths are read."""
    parser = _model_parser(
        "darknet_py detector valid", "Writes detections for an evaluation elsewhere, as `detector valid` does."
    )
    parser.add_argument(
        "--out", metavar="NAME", help="the file's name without .json, or what the files' names begin with"
    )
    given = parser.parse_args(arguments)
    options = read_data(given.data)
    kind = options.get("eval", "voc")
    if kind not in FORMATS:  # Darknet takes any other word for voc
        raise DarknetError(
            f"{given.data}: eval={kind}: there are no results of this kind; write one of {', '.join(FORMATS)}"
        )
    images = open_dataset(given.data, "valid").images[: given.limit]
    detector = _detector(given, None)
    findings = find(detector, images, RULES["coco" if kind == "coco" else "voc"])
    usual, write = FORMATS[kind]
    written = write(Path(options.get("results") or "results", given.out or usual), findings, images, detector.names)
    print(f"results in {written[0]}{f' and {len(written) - 1} more' if len(written) > 1 else ''}")
    return UNREADABLE if findings.unreadable else 0


def recall_main(arguments: Sequence[str] | None = None) -> int:
    """`detector recall`: a line for each picture."""
    given = _model_parser(
        "darknet_py detector recall", "Counts the truths that have a box of any class, as `detector recall` does."
    ).parse_args(arguments)
    dataset = open_dataset(given.data, "valid")
    for sofar in recall(_detector(given, False), dataset, given.limit):
        tqdm.write(sofar.text())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
