"""A network or detector measured on a data set: mAP by the rules of Darknet, PASCAL VOC or COCO, and `detector recall`.

result = evaluate(network, open_dataset("data/obj.data", "valid"))
print(result.mAP, result.text())
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from darknet_py.boxes import iou
from darknet_py.data.dataset import Dataset
from darknet_py.data.truths import ImageTruths
from darknet_py.detections import Detections
from darknet_py.detector import Detector
from darknet_py.errors import CfgWarning, DarknetError, ImageError
from darknet_py.layers import Candidates
from darknet_py.layers.image_input import BEST_ALWAYS
from darknet_py.measuring.coco import coco_map
from darknet_py.measuring.maps import darknet_map, voc_map
from darknet_py.measuring.results import MapResult
from darknet_py.measuring.rules import RULES, Rule
from darknet_py.network import Network
from darknet_py.pictures.fit import DarknetFit, Fit
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Size
from darknet_py.pictures.threads import batched, read_ahead
from darknet_py.postprocess import Objects, Suppression, by_image, chosen, postprocess, suppressed

STRETCHED = DarknetFit(keeps_aspect=False)
RECALL_THRESH, RECALL_IOU, RECALL_NMS = 0.001, 0.5, 0.4  # detector.c: validate_detector_recall


class DatasetDetections(NamedTuple):
    """The detections in each image of a data set, in Darknet's raw order, and the images that could not be read."""

    detections: list[Detections]
    unreadable: list[str]


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
    """Measures a model, even in the middle of its training: a network is left untouched, see `Detector`.

    Args:
        model: a network, or a detector, of which the metric's rule replaces `agnostic`.
        dataset: images and truths. limit: only the first so many of them.
        metric: "darknet" (as `detector map`), "voc" or "coco".
        iou_thresh: IoU with a truth that a detection needs (COCO has its own ten). thresh: confidence for TP, FP, FN
            and what follows from them. points: recall points of AP; 0: the area under the curve.
        batch, letterbox: see `Detector`; a detector has its own.
        annotations: for "coco", a COCO instances file whose truths count.

    Raises:
        DarknetError: the network has no detection head, the names are not its classes, or a label is wrong.
    """
    truths = dataset_truths(dataset, limit, required=annotations is None)
    if isinstance(model, Network):
        model = Detector(model, dataset.names or None, batch=batch, letterbox=letterbox)
    found = detect_images(model, dataset.images[: len(truths)], RULES[metric])
    return measure(found, truths, dataset, model.names, metric, iou_thresh, thresh, points, annotations)


def measure(
    found: DatasetDetections,
    truths: Sequence[ImageTruths],
    dataset: Dataset,
    names: Sequence[str],
    metric: str,
    iou_thresh: float,
    thresh: float,
    points: int,
    annotations: str | os.PathLike[str] | None = None,
) -> MapResult:
    """Detections against truths, by a metric's rules. A COCO data set brings its own annotations.

    Raises:
        DarknetError: the network does not have the class of a truth.
    """
    check_classes(truths, dataset, len(names))
    if annotations is None and not any(len(truth.classes) for truth in truths):
        text = "none of the images has a box in its labels, so these numbers measure nothing; name images with objects"
        warnings.warn(f"{dataset.source}: {text}", CfgWarning, stacklevel=2)
    if metric == "darknet":
        result = darknet_map(found.detections, truths, names, iou_thresh, thresh, points)
    elif metric == "voc":
        result = voc_map(found.detections, truths, names, iou_thresh, thresh, points)
    else:
        annotations = annotations or (dataset.source if dataset.kind == "coco" else None)
        images = dataset.images[: len(truths)]
        result = coco_map(found.detections, truths, names, thresh, annotations=annotations, images=images)
    return replace(result, unreadable=len(found.unreadable))


def dataset_truths(dataset: Dataset, limit: int | None = None, *, required: bool = True) -> list[ImageTruths]:
    """The truths of all images, or of the first `limit` ones.

    Raises:
        DarknetError: no image has a label file though they are `required`, or one is malformed.
    """
    if required and dataset.kind == "none":
        raise DarknetError(
            f"{dataset.label_file(0)}: there are no labels; no image of {dataset.source} has a label file"
        )
    return [dataset.truths(index) for index in range(len(dataset))[:limit]]


def check_classes(truths: Sequence[ImageTruths], dataset: Dataset, classes: int) -> None:
    """The C program reads and writes outside its tables where a class is too large.

    Raises:
        DarknetError: the network does not have the class of a truth.
    """
    for index, truth in enumerate(truths):
        wrong = (truth.classes < 0) | (truth.classes >= classes)
        if wrong.any():
            raise DarknetError(
                f"{dataset.label_file(index)}: class {truth.classes[wrong][0]}, but the network has {classes} classes, "
                f"0 to {classes - 1}"
            )


def detect_images(detector: Detector, images: Sequence[str], rule: Rule) -> DatasetDetections:
    """Runs the detector over image files. One that cannot be read is named on stderr; nothing is detected in it."""
    nothing = Detections(
        np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32), (1, 1), detector.names
    )
    results = DatasetDetections([nothing] * len(images), [])
    net = detector.net
    thresh = rule.thresh if net.valid_thresh is None else net.valid_thresh
    nms = rule.nms if net.valid_nms is None else net.valid_nms
    detector.runner.check_limits(thresh, nms)
    suppression = Suppression(nms, detector.nms_kind, detector.beta_nms, pixels=rule.pixels, most=net.max_nms)
    for numbers, raw, sizes in _run(detector, images, results.unreadable, detector.fit):
        with torch.inference_mode():
            candidates = raw_order(detector.candidates(raw, thresh))
            candidates = chosen(candidates, net, best=net.best_class == BEST_ALWAYS)
            found = postprocess(candidates, sizes, detector.names, suppression, detector.fitted, net.max_det)
        for number, detections in zip(numbers, found, strict=True):
            results.detections[number] = detections
    return results


def raw_order(candidates: Candidates) -> Candidates:
    """The candidates in the order that Darknet's suppression leaves them in, on which the TP of `detector map` depend.

    Darknet sorts the boxes by class 0, then stably by class 1, and so on (box.c:do_nms_sort): the result is in order of
    the last class's probability, equal ones of that of the class before, and so on.
    """
    alive = (candidates.probs > 0).any(1)
    image, xywh, objectness, probs = (column[alive] for column in candidates)
    order = torch.from_numpy(np.lexsort((*-probs.T.cpu().numpy(), image.cpu().numpy()))).to(image.device)
    return Candidates(image[order], xywh[order], objectness[order], probs[order])


def _run(
    detector: Detector, images: Sequence[str], unreadable: list[str], fit: Fit
) -> Iterator[tuple[list[int], list[Tensor], list[Size]]]:
    """(numbers of the images, raw outputs of the heads, sizes of the images) of each batch; shows progress.

    Images that cannot be read are named on stderr and added to `unreadable`.
    """

    def read(path: str) -> tuple[Image, Size]:
        image = detector.read(path)
        return fit(image, *detector.network.size), (image.shape[1], image.shape[0])

    with tqdm(total=len(images), unit="image", disable=None) as bar:
        for batch in batched(enumerate(read_ahead(images, read, 2 * detector.batch)), detector.batch):
            good = []
            for number, (path, content) in batch:
                if isinstance(content, ImageError):
                    tqdm.write(f"error: {content}", file=sys.stderr)
                    unreadable.append(path)
                else:
                    good.append((number, *content))
            if good:
                numbers, fitted, sizes = (list(column) for column in zip(*good, strict=True))
                yield numbers, detector.runner(detector.as_batch(fitted)), sizes
            bar.update(len(batch))


class Recall(NamedTuple):
    """`detector recall` after so many images.

    correct: truths that are found, of `total`. proposals: boxes. iou: sum of the truths' best IoUs.
    """

    images: int
    correct: int
    total: int
    proposals: int
    iou: float

    def text(self) -> str:
        """The line that `detector recall` prints; the first image is 0."""
        per_image = np.float32(self.proposals) / np.float32(self.images)
        iou_percent, recall_percent = (100 * value / max(self.total, 1) for value in (self.iou, self.correct))
        counts = f"{self.images - 1:5d} {self.correct:5d} {self.total:5d}"
        return f"{counts}\tRPs/Img: {per_image:.2f}\tIOU: {iou_percent:.2f}%\tRecall:{recall_percent:.2f}%"


def recall(detector: Detector, dataset: Dataset, limit: int | None = None) -> Iterator[Recall]:
    """How many truths have a box of any class, image after image (detector.c:validate_detector_recall).

    Boxes with an objectness above .001 count, suppressed by objectness at an IoU of .4; a truth is found by an IoU
    above .5. Images are stretched, whatever the cfg says, as there.
    """
    truths = dataset_truths(dataset, limit)
    so_far = Recall(0, 0, 0, 0, 0.0)
    for numbers, raw, sizes in _run(detector, dataset.images[: len(truths)], [], STRETCHED):
        with torch.inference_mode():
            proposals = _proposals(detector.candidates(raw, -1.0), sizes)
        for number, found in zip(numbers, proposals, strict=True):
            boxes, truth = torch.from_numpy(found.xywh), torch.from_numpy(truths[number].xywh)
            best = iou(truth[:, None], boxes[None]).amax(1) if len(boxes) else torch.zeros(len(truth))
            so_far = Recall(
                number + 1,
                so_far.correct + int((best > RECALL_IOU).sum()),
                so_far.total + len(truth),
                so_far.proposals + len(boxes),
                so_far.iou + float(best.sum()),
            )
            yield so_far


def _proposals(candidates: Candidates, sizes: Sequence[Size]) -> list[Detections]:
    """The boxes of each image by their objectness alone, as objects of one class."""
    chosen = candidates.objectness > RECALL_THRESH
    image, xywh, objectness = candidates.image[chosen], candidates.xywh[chosen], candidates.objectness[chosen]
    objects = Objects(image, torch.zeros_like(image), objectness, xywh)
    return by_image(suppressed(objects, sizes, 1, Suppression(RECALL_NMS)), sizes, ["object"])
