"""Looks for mistakes in a data set before they cost a training: images, labels, and how both fit a network.

findings, counts = check_dataset(open_dataset("data/obj.data"), network_facts(network))
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.data.class_labels import labels_in
from darknet_py.data.dataset import Dataset
from darknet_py.data.survey import turned_text
from darknet_py.data.truths import ImageTruths, make_truths
from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import read_file
from darknet_py.network import Network
from darknet_py.pictures.read import read_image, twelve_bits
from darknet_py.pictures.resize import letterbox_size

TINY = 1.0  # pixels of the network: Darknet does not train on smaller boxes
SMALL = 8.0  # pixels of the network: smaller boxes are hard to find
MARGIN = 2.0  # pixels of the image that a box may reach beyond its border: labels are rounded
RESOLUTION = 1e-6  # fraction of the image: boxes that differ by less are the same
GOOD_IOU = 0.5  # from which an anchor fits a box
MAX_THREADS = 16
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


class Finding(NamedTuple):
    """A mistake: the file, its kind in a word or two, and what is wrong in a sentence."""

    path: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass
class NetworkFacts:
    """What of a network bears on its data: (width, height) of its input, its classes, whether it finds objects (and is
    no classifier), its anchors in pixels of the input, (k, 2)."""

    size: tuple[int, int]
    classes: int
    channels: int = 3
    letter_box: bool = False
    detects: bool = True
    anchors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


@dataclass
class SplitCounts:
    """What a split holds.

    boxes, with_class: of each class, its boxes, and the images that show it. without: images without an object.
    difficult: boxes. sides: (m, 2) widths and heights of all boxes, pixels of the network's input.
    """

    images: int
    boxes: NDArray[np.int64]
    with_class: NDArray[np.int64]
    without: int = 0
    difficult: int = 0
    sides: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


class CheckedImage(NamedTuple):
    """An image with its truths: what is wrong with them, (width, height) if it can be read, the truths if they can."""

    findings: list[Finding]
    size: tuple[int, int] | None
    truths: ImageTruths | None


def network_facts(network: Network) -> NetworkFacts:
    """What of a network bears on its data."""
    net, size = network.net, network.size
    anchors = [np.empty((0, 2), np.float32)]
    for head in network.head_layers():
        if head.anchors is not None:
            scale = np.array(size, np.float64) / np.array(head.anchor_unit(size), np.float64)
            anchors.append(head.anchors.cpu().numpy() * scale.astype(np.float32))
    distinct = np.unique(np.concatenate(anchors), axis=0)
    return NetworkFacts(size, network.classes, net.channels, bool(net.letter_box), bool(network.heads), distinct)


def check_dataset(
    dataset: Dataset, facts: NetworkFacts | None = None, *, progress: bool = False
) -> tuple[list[Finding], SplitCounts]:
    """Every mistake of a data set, in the order of its images; and what it holds.

    Args:
        dataset: the images and truths. facts: of the network; None: only what needs none is checked. progress: shown on
            a terminal.
    """
    classes = facts.classes if facts else len(dataset.names)
    counts = SplitCounts(len(dataset), np.zeros(classes, np.int64), np.zeros(classes, np.int64))
    findings: list[Finding] = []
    sides: list[NDArray[np.float32]] = []
    if facts and dataset.names and len(dataset.names) != classes:
        text = f"{len(dataset.names)} names, but the network has {classes} classes"
        findings.append(Finding(dataset.names_file or dataset.source, "names", text))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        results = pool.map(lambda index: _check_image(dataset, index, facts), range(len(dataset)))
        bar = tqdm(results, total=len(dataset), unit="image", disable=None if progress else True)
        for index, checked in enumerate(bar):
            findings += checked.findings
            if checked.truths is not None:
                findings += _label_findings(dataset.label_file(index), checked.truths, checked.size, classes, facts)
                _count(counts, checked.truths)
                if facts is not None and facts.detects:
                    sides.append(checked.truths.xywh[:, 2:] * _scale(checked.size, facts))
    counts.sides = np.concatenate([counts.sides, *sides])
    return findings, counts


def _check_image(dataset: Dataset, index: int, facts: NetworkFacts | None) -> CheckedImage:
    path = dataset.images[index]
    findings: list[Finding] = []
    size, data = None, b""
    try:
        data = read_file(path)
        if data.startswith(JPEG) and JPEG_END not in data:  # some OpenCVs read those, some do not
            findings.append(Finding(path, "cut off", "the end of the image is missing; a cut-off download?"))
        image = read_image(path, facts.channels if facts else 3)
        if text := twelve_bits(image):
            findings.append(Finding(path, "dark", text))
        size = (image.shape[1], image.shape[0])
    except OSError as error:
        is_there = os.path.exists(path)
        text = f"{error.strerror or error}" if is_there else "there is no such image"
        findings.append(Finding(path, "unreadable" if is_there else "missing", text))
    except ImageError as error:
        if not findings:
            findings.append(Finding(path, "unreadable" if data else "empty", str(error).removeprefix(f"{path}: ")))
    if size and (text := turned_text(dataset, index, size)):
        findings.append(Finding(dataset.label_file(index), "size", text.partition(": ")[2]))
    if facts and not facts.detects:
        return CheckedImage(findings, size, _labels_in_path(dataset, index, findings))
    label_file = dataset.label_file(index)
    if dataset.kind != "coco" and not os.path.exists(label_file):
        text = f"there is no label file {label_file}; write an empty one if the image shows no object"
        findings.append(Finding(path, "label missing", text))
        return CheckedImage(findings, size, None)
    try:
        return CheckedImage(findings, size, dataset.truths(index))
    except DarknetError as error:
        where, _, text = str(error).removeprefix(label_file).partition(": ")  # ':3: …', or ': …'
        findings.append(Finding(label_file + where, "label malformed", text))
        return CheckedImage(findings, size, None)


def _labels_in_path(dataset: Dataset, index: int, findings: list[Finding]) -> ImageTruths:
    """A classifier's classes of an image, as truths without a place; there should be one."""
    labels = dataset.labels or dataset.names
    found = {number: labels[number] for number in labels_in(dataset.written_path(index), labels)}
    if len(found) != 1:
        several = f"several labels occur in the path: {', '.join(found.values())}"
        findings.append(Finding(dataset.images[index], "label", several if found else "no label occurs in the path"))
    return make_truths(list(found), np.full((len(found), 4), (0.5, 0.5, 1, 1)))


def _label_findings(
    path: str, truths: ImageTruths, size: tuple[int, int] | None, classes: int, facts: NetworkFacts | None
) -> Iterator[Finding]:
    """What is wrong with the boxes of an image of this (width, height), each under its most important name."""
    numbers, xywh = truths.classes, truths.xywh
    centre, sides = xywh[:, :2], xywh[:, 2:]
    is_good = np.ones(len(numbers), bool)

    def findings(is_wrong: Any, kind: str, text: str) -> Iterator[Finding]:
        for k in np.flatnonzero(is_wrong & is_good).tolist():
            values = " ".join(f"{value:g}" for value in (numbers[k], *xywh[k]))
            yield Finding(path, kind, f"box {k + 1} ({values}): {text}")
        is_good[is_wrong] = False

    if classes:
        yield from findings((numbers < 0) | (numbers >= classes), "class", f"the classes are 0 to {classes - 1}")
    yield from findings((sides <= 0).any(1), "no area", "it has no area")
    beyond = ((centre <= 0) | (centre > 1)).any(1)
    yield from findings(beyond, "values", "its centre lies outside the image; Darknet leaves it out")
    text = "it is larger than the image; values are fractions of the image's size, 0 to 1"
    yield from findings((sides > 1).any(1), "values", text)
    margin = MARGIN / np.array(size or (200, 200), np.float32)
    beyond = ((centre - sides / 2 < -margin) | (centre + sides / 2 > 1 + margin)).any(1)
    yield from findings(beyond, "outside", "it reaches beyond the image")
    keys = np.concatenate((numbers[:, None], np.rint(xywh / RESOLUTION)), 1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    is_repeated = first[inverse.reshape(-1)] != np.arange(len(keys))
    yield from findings(is_repeated, "repeated", "the same box is already in the file")
    if facts is not None and facts.detects:
        pixels = sides * _scale(size, facts)
        text = f"under {TINY:g} pixel of the network's {facts.size[0]}x{facts.size[1]}; Darknet leaves it out"
        yield from findings((pixels < TINY).any(1), "too small", text)


def _scale(image: tuple[int, int] | None, facts: NetworkFacts) -> NDArray[np.float32]:
    """(2,) what a box's fractions of an image of this (width, height) are multiplied by to be pixels of the network's
    input."""
    is_letterboxed = facts.letter_box and image is not None
    return np.array(letterbox_size(image, facts.size) if is_letterboxed and image else facts.size, np.float32)


def _count(counts: SplitCounts, truths: ImageTruths) -> None:
    known = truths.classes[(truths.classes >= 0) & (truths.classes < len(counts.boxes))]
    counts.boxes += np.bincount(known, minlength=len(counts.boxes))
    counts.with_class[np.unique(known)] += 1
    counts.without += not len(truths.classes)
    counts.difficult += int(truths.difficult.sum())


def duplicates(splits: dict[str, list[str]]) -> Iterator[Finding]:
    """Images that are in two splits, or have the same bytes as another one; only files of the same length are read. A
    list may name an image several times, so that it is drawn more often. splits: the paths of each split's images."""
    split_of: dict[str, str] = {}
    for split, images in splits.items():
        own = list(dict.fromkeys(images))
        if shared := [path for path in own if path in split_of]:
            which = "all" if len(shared) == len(own) else f"{len(shared)} of the"
            text = f"{which} {len(own)} images of {split}, such as this one, are in {split_of[shared[0]]} too"
            yield Finding(shared[0], "in both", text)
        for path in own:
            split_of.setdefault(path, split)
    lengths: dict[int, list[str]] = {}
    for path in split_of:
        with contextlib.suppress(OSError):  # missing: found elsewhere
            lengths.setdefault(os.path.getsize(path), []).append(path)
    for length, files in lengths.items():
        seen: dict[bytes, str] = {}
        for path in files if length and len(files) > 1 else []:
            first = seen.setdefault(hashlib.blake2b(read_file(path)).digest(), path)
            if first != path:
                split, other = split_of[path], split_of[first]
                where = f"in {split}" if split == other else f"one in {other}, one in {split}"
                yield Finding(path, "duplicate", f"the same image as {first} ({where})")


def anchor_fit(sides: NDArray[np.float32], anchors: NDArray[np.float32]) -> tuple[float, float]:
    """How well anchors fit boxes.

    Args:
        sides: (m, 2) of the boxes, anchors: (k, 2), pixels.

    Returns:
        The mean over boxes of their best anchor's IoU, both at the same place (as `detector calc_anchors` has it), and
        the fraction of the boxes for which that is GOOD_IOU or more.
    """
    best = np.zeros(len(sides), np.float32)
    area = sides.prod(1)
    for anchor in anchors:
        common = np.minimum(sides, anchor).prod(1)
        best = np.maximum(best, common / np.maximum(area + anchor.prod() - common, 1e-9))
    return float(best.mean()), float((best >= GOOD_IOU).mean())


def split_summary(split: str, dataset: Dataset, counts: SplitCounts, facts: NetworkFacts | None) -> dict[str, Any]:
    """A split in numbers, as plain values for JSON."""
    names = [dataset.names[k] if k < len(dataset.names) else str(k) for k in range(len(counts.boxes))]
    if facts and not facts.detects:
        names = [*dataset.labels[: len(names)], *names[len(dataset.labels) :]]
    result: dict[str, Any] = {
        "split": split,
        "source": dataset.source,
        "labels": dataset.kind,
        "images": counts.images,
        "repeated": counts.images - len(set(dataset.images)),
        "images_without_objects": counts.without,
        "boxes": int(counts.boxes.sum()),
        "difficult": counts.difficult,
        "classes": [
            {"name": name, "boxes": int(boxes), "images": int(images)}
            for name, boxes, images in zip(names, counts.boxes, counts.with_class, strict=True)
        ],
    }
    sides = counts.sides[(counts.sides > 0).all(1)]
    if facts and facts.detects and len(sides):
        result["small_boxes"] = int((sides < SMALL).any(1).sum())
        if len(facts.anchors):
            result["anchors"] = dict(zip(("average_iou", "recall"), anchor_fit(sides, facts.anchors), strict=True))
    return result


def summary_lines(summary: dict[str, Any], facts: NetworkFacts | None) -> Iterator[str]:
    """`split_summary` for people."""
    counted = "boxes" if facts is None or facts.detects else "labels"
    empty = summary["images_without_objects"]
    yield f"{summary['split']}: {summary['images']} images of {summary['source']}, {summary['boxes']} {counted}" + (
        f", {empty} images without an object" if empty else ""
    )
    if summary["repeated"]:
        yield f"note: {summary['repeated']} of them are in the list already; they are drawn more often in training"
    width = max((len(entry["name"]) for entry in summary["classes"]), default=0)
    maximum = max((entry["boxes"] for entry in summary["classes"]), default=0)
    for entry in summary["classes"]:
        bar = "#" * round(30 * entry["boxes"] / maximum) if maximum else ""
        yield f"  {entry['name']:{width}} {entry['boxes']:8} {counted} in {entry['images']:6} images {bar}".rstrip()
    absent = [entry["name"] for entry in summary["classes"] if not entry["boxes"]]
    if absent:
        listed = ", ".join(absent[:10]) + (" …" if len(absent) > 10 else "")
        yield f"warning: {len(absent)} classes have no {counted}: {listed}"
    if facts and summary.get("small_boxes"):
        fraction = summary["small_boxes"] / max(summary["boxes"], 1)
        size = f"{facts.size[0]}x{facts.size[1]}"
        yield (
            f"warning: {summary['small_boxes']} boxes ({fraction:.1%}) are under {SMALL:g} pixels wide or high "
            f"in the network's {size}; a larger width and height would help"
        )
    if facts and "anchors" in summary:
        values = summary["anchors"]
        yield (
            f"anchors: {len(facts.anchors)}, average best IoU {values['average_iou']:.2%}, "
            f"{values['recall']:.1%} of the boxes have one with an IoU of {GOOD_IOU:g} or more"
        )
