"""Looks for mistakes in a data set before they cost a training: pictures, labels, and how both fit a network.

python -m darknet_py.check data/obj.data --cfg cfg/yolov4-tiny.cfg --split both --json report.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from darknet_py.cfg import parse_cfg
from darknet_py.command import run_command
from darknet_py.data.dataset import SPLITS, Dataset, open_dataset
from darknet_py.data.labels import Truths, make_truths
from darknet_py.errors import DarknetError, ImageError
from darknet_py.files import write_file
from darknet_py.names import read_data
from darknet_py.network import Network
from darknet_py.pictures.read import read_image
from darknet_py.pictures.resize import letterbox_size

FINDINGS = 1  # exit status where something is wrong
TINY = 1.0  # pixels of the network: Darknet does not train on smaller boxes
SMALL = 8.0  # pixels of the network: smaller boxes are hard to find
BEYOND = 2.0  # pixels of the picture that a box may reach beyond its border: labels are rounded
SAME = 1e-6  # parts of the picture: boxes that differ by less are one
GOOD = 0.5  # IoU from which an anchor fits a box
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


class Finding(NamedTuple):
    """A mistake: the file, its kind in a word or two, and what is wrong in a sentence."""

    path: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass
class Fit:
    """What is known of the network: (width, height) of its input, its classes, whether it finds objects, its anchors in pixels (k, 2)."""

    size: tuple[int, int]
    classes: int
    channels: int = 3
    letter_box: bool = False
    detects: bool = True
    anchors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


@dataclass
class Counts:
    """What a split holds. boxes, pictures: of each class. sides: (m, 2) widths and heights of all boxes, pixels of the network's input."""

    images: int
    boxes: NDArray[np.int64]
    pictures: NDArray[np.int64]
    without: int = 0
    difficult: int = 0
    sides: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


class Seen(NamedTuple):
    """One picture with its truths: what is wrong with them, (width, height) if it can be read, the truths if they can."""

    findings: list[Finding]
    size: tuple[int, int] | None
    truths: Truths | None


def network_fit(network: Network) -> Fit:
    """What of a network bears on its data."""
    net, heads = network.net, network.head_layers()
    parts = [np.empty((0, 2), np.float32)]
    for layer in heads:
        anchors = getattr(layer, "anchors", None)
        if isinstance(anchors, Tensor):
            cells = layer.kind == "region"  # its anchors are in cells
            scale = (network.size[0] / layer.shape.w, network.size[1] / layer.shape.h) if cells else (1.0, 1.0)
            parts.append(anchors.cpu().numpy() * np.array(scale, np.float32))
    every = np.unique(np.concatenate(parts), axis=0)
    return Fit(network.size, network.classes, net.channels, bool(net.letter_box), bool(heads), every)


def check_dataset(dataset: Dataset, fit: Fit | None = None, *, progress: bool = False) -> tuple[list[Finding], Counts]:
    """Every mistake of a data set, in the order of its pictures; and what it holds.

    Args:
        dataset: the pictures and truths. fit: the network; None: only what needs none is checked. progress: shown on a terminal.
    """
    classes = fit.classes if fit else len(dataset.names)
    counts = Counts(len(dataset), np.zeros(classes, np.int64), np.zeros(classes, np.int64))
    findings: list[Finding] = []
    sides: list[NDArray[np.float32]] = []
    if fit and dataset.names and len(dataset.names) != classes:
        text = f"{len(dataset.names)} names, but the network has {classes} classes"
        findings.append(Finding(dataset.names_file or dataset.source, "names", text))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        every = pool.map(lambda index: _look(dataset, index, fit), range(len(dataset)))
        for index, seen in enumerate(
            tqdm(every, total=len(dataset), unit="picture", disable=None if progress else True)
        ):
            findings += seen.findings
            if seen.truths is not None:
                findings += _label_findings(dataset.label_file(index), seen, classes, fit)
                _count(counts, sides, seen, fit)
    counts.sides = np.concatenate([counts.sides, *sides])
    return findings, counts


def _look(dataset: Dataset, index: int, fit: Fit | None) -> Seen:
    path = dataset.images[index]
    findings: list[Finding] = []
    size, data = None, b""
    try:
        data = Path(path).read_bytes()
        if data.startswith(JPEG) and JPEG_END not in data:  # some OpenCVs read those, some do not
            findings.append(Finding(path, "cut off", "the picture's end is missing; a cut-off download?"))
        picture = read_image(path, fit.channels if fit else 3)
        size = (picture.shape[1], picture.shape[0])
    except OSError as error:
        kind = "unreadable" if os.path.exists(path) else "missing"
        findings.append(
            Finding(path, kind, "there is no such picture" if kind == "missing" else f"{error.strerror or error}")
        )
    except ImageError as error:
        if not findings:
            findings.append(Finding(path, "unreadable" if data else "empty", str(error).removeprefix(f"{path}: ")))
    if fit and not fit.detects:
        return Seen(findings, size, _labels_in_path(dataset, index, findings))
    label_file = dataset.label_file(index)
    if dataset.kind != "coco" and not os.path.exists(label_file):
        findings.append(
            Finding(
                path, "label missing", f"there is no label file {label_file}; write an empty one if it shows no object"
            )
        )
        return Seen(findings, size, None)
    try:
        return Seen(findings, size, dataset.truths(index))
    except DarknetError as error:
        where, _, text = str(error).removeprefix(label_file).partition(": ")  # ':3: …', or ': …'
        findings.append(Finding(label_file + where, "label malformed", text))
        return Seen(findings, size, None)


def _labels_in_path(dataset: Dataset, index: int, findings: list[Finding]) -> Truths:
    """A classifier's classes of a picture, as truths without a place; there should be one."""
    written = (dataset.written or dataset.images)[index]
    found = {number: label for number, label in enumerate(dataset.labels or dataset.names) if label in written}
    if len(found) != 1:
        text = (
            f"several labels are part of the path: {', '.join(found.values())}"
            if found
            else "no label is part of the path"
        )
        findings.append(Finding(dataset.images[index], "label", text))
    return make_truths(list(found), np.full((len(found), 4), (0.5, 0.5, 1, 1)))


def _label_findings(path: str, seen: Seen, classes: int, fit: Fit | None) -> Iterator[Finding]:
    """What is wrong with the boxes of a picture, each under its most important name."""
    assert seen.truths is not None
    numbers, xywh = seen.truths.classes, seen.truths.xywh
    centre, sides = xywh[:, :2], xywh[:, 2:]
    open_kinds = np.ones(len(numbers), bool)

    def found(wrong: Any, kind: str, text: str) -> Iterator[Finding]:
        for k in np.flatnonzero(wrong & open_kinds).tolist():
            values = " ".join(f"{value:g}" for value in (numbers[k], *xywh[k]))
            yield Finding(path, kind, f"box {k + 1} ({values}): {text}")
        open_kinds[wrong] = False

    if classes:
        yield from found((numbers < 0) | (numbers >= classes), "class", f"there are the classes 0 to {classes - 1}")
    yield from found((sides <= 0).any(1), "no area", "it has no area")
    yield from found(
        ((centre <= 0) | (centre > 1)).any(1), "values", "its centre lies outside the picture; Darknet leaves it out"
    )
    yield from found(
        (sides > 1).any(1), "values", "it is larger than the picture; values are parts of the picture's size, 0 to 1"
    )
    margin = BEYOND / np.array(seen.size or (200, 200), np.float32)
    beyond = ((centre - sides / 2 < -margin) | (centre + sides / 2 > 1 + margin)).any(1)
    yield from found(beyond, "outside", "it reaches beyond the picture")
    keys = np.concatenate((numbers[:, None], np.rint(xywh / SAME)), 1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    yield from found(
        first[inverse.reshape(-1)] != np.arange(len(keys)), "repeated", "the same box stands there already"
    )
    if fit is not None and fit.detects:
        pixels = sides * _scale(seen.size, fit)
        text = f"under {TINY:g} pixel of the network's {fit.size[0]}x{fit.size[1]}; Darknet leaves it out"
        yield from found((pixels < TINY).any(1), "too small", text)


def _scale(picture: tuple[int, int] | None, fit: Fit) -> NDArray[np.float32]:
    """A box's part of the picture → pixels of the network's input."""
    letterboxed = fit.letter_box and picture is not None
    return np.array(letterbox_size(picture, fit.size) if letterboxed and picture else fit.size, np.float32)


def _count(counts: Counts, sides: list[NDArray[np.float32]], seen: Seen, fit: Fit | None) -> None:
    assert seen.truths is not None
    numbers = seen.truths.classes
    known = numbers[(numbers >= 0) & (numbers < len(counts.boxes))]
    counts.boxes += np.bincount(known, minlength=len(counts.boxes))
    counts.pictures[np.unique(known)] += 1
    counts.without += not len(numbers)
    counts.difficult += int(seen.truths.difficult.sum())
    if fit is not None and fit.detects:
        sides.append(seen.truths.xywh[:, 2:] * _scale(seen.size, fit))


def duplicates(splits: dict[str, list[str]]) -> Iterator[Finding]:
    """Pictures that are listed again, or have the same bytes as an earlier one, in the same split or in another; only files of the same
    length are read."""
    lengths: dict[int, list[tuple[str, str]]] = {}
    for split, images in splits.items():
        for path, times in Counter(images).items():
            if times > 1:
                yield Finding(path, "duplicate", f"it is listed {times} times in {split}")
            try:
                lengths.setdefault(os.path.getsize(path), []).append((split, path))
            except OSError:
                continue  # missing: found elsewhere
    for length, files in lengths.items():
        first: dict[bytes, tuple[str, str]] = {}
        for split, path in files if length and len(files) > 1 else []:
            earlier, other = first.setdefault(hashlib.blake2b(Path(path).read_bytes()).digest(), (split, path))
            if (earlier, other) != (split, path):
                where = f"in {split}" if earlier == split else f"one in {earlier}, one in {split}"
                what = "it is there twice" if other == path else f"the same picture as {other}"
                yield Finding(path, "duplicate", f"{what} ({where})")


def anchor_fit(sides: NDArray[np.float32], anchors: NDArray[np.float32]) -> tuple[float, float]:
    """The mean over boxes of their best anchor's IoU, both at the same place (as `detector calc_anchors` has it), and the part of
    the boxes for which that is GOOD or more. sides: (m, 2), anchors: (k, 2), pixels."""
    best = np.zeros(len(sides), np.float32)
    area = sides.prod(1)
    for anchor in anchors:
        common = np.minimum(sides, anchor).prod(1)
        best = np.maximum(best, common / np.maximum(area + anchor.prod() - common, 1e-9))
    return float(best.mean()), float((best >= GOOD).mean())


def summary(split: str, dataset: Dataset, counts: Counts, fit: Fit | None) -> dict[str, Any]:
    """A split in numbers, as plain values."""
    names = [dataset.names[k] if k < len(dataset.names) else str(k) for k in range(len(counts.boxes))]
    if fit and not fit.detects:
        names = [*dataset.labels[: len(names)], *names[len(dataset.labels) :]]
    result: dict[str, Any] = {
        "split": split,
        "source": dataset.source,
        "labels": dataset.kind,
        "images": counts.images,
        "images_without_objects": counts.without,
        "boxes": int(counts.boxes.sum()),
        "difficult": counts.difficult,
        "classes": [
            {"name": name, "boxes": int(boxes), "images": int(pictures)}
            for name, boxes, pictures in zip(names, counts.boxes, counts.pictures, strict=True)
        ],
    }
    sides = counts.sides[(counts.sides > 0).all(1)]
    if fit and fit.detects and len(sides):
        result["small_boxes"] = int((sides < SMALL).any(1).sum())
        if len(fit.anchors):
            result["anchors"] = dict(zip(("average_iou", "recall"), anchor_fit(sides, fit.anchors), strict=True))
    return result


def _lines(content: dict[str, Any], fit: Fit | None) -> Iterator[str]:
    """The summary of a split for people."""
    counted = "boxes" if fit is None or fit.detects else "labels"
    yield f"{content['split']}: {content['images']} pictures of {content['source']}, {content['boxes']} {counted}" + (
        f", {content['images_without_objects']} pictures without an object" if content["images_without_objects"] else ""
    )
    width = max((len(one["name"]) for one in content["classes"]), default=0)
    most = max((one["boxes"] for one in content["classes"]), default=0)
    for one in content["classes"]:
        bar = "#" * round(30 * one["boxes"] / most) if most else ""
        yield f"  {one['name']:{width}} {one['boxes']:8} {counted} in {one['images']:6} pictures {bar}".rstrip()
    absent = [one["name"] for one in content["classes"] if not one["boxes"]]
    if absent:
        yield f"warning: {len(absent)} classes have no {counted}: {', '.join(absent[:10])}{' …' if len(absent) > 10 else ''}"
    if fit and content.get("small_boxes"):
        part = content["small_boxes"] / max(content["boxes"], 1)
        yield (
            f"warning: {content['small_boxes']} boxes ({part:.1%}) are narrower or lower than {SMALL:g} pixels of the network's "
            f"{fit.size[0]}x{fit.size[1]}; a larger width and height would help"
        )
    if fit and "anchors" in content:
        values = content["anchors"]
        yield (
            f"anchors: {len(fit.anchors)}, average best IoU {values['average_iou']:.2%}, "
            f"{values['recall']:.1%} of the boxes have one with an IoU of {GOOD:g} or more"
        )


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.check",
        description="Looks for mistakes in a data set: pictures, labels, and how both fit a network. "
        "The exit status is 0 if there are none, and 1 if there are.",
        epilog="example: python -m darknet_py.check data/obj.data --cfg cfg/yolov4-tiny.cfg --split both",
    )
    result.add_argument("data", metavar="DATA", help="the .data file")
    result.add_argument("--cfg", help="the network's .cfg; without it, what needs no network is checked")
    result.add_argument(
        "--split", choices=(*SPLITS, "both"), default="both", help="which pictures (default: both, or those there are)"
    )
    result.add_argument("--json", metavar="FILE", help="write all findings and numbers to this file")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    fit = network_fit(Network(parse_cfg(given.cfg))) if given.cfg else None
    there = [split for split in SPLITS if read_data(given.data).get(split)]
    splits = there or [SPLITS[0]] if given.split == "both" else [given.split]
    findings: list[Finding] = []
    contents = []
    images: dict[str, list[str]] = {}
    for split in splits:
        dataset = open_dataset(given.data, split)
        more, counts = check_dataset(dataset, fit, progress=True)
        findings += more
        contents.append(summary(split, dataset, counts, fit))
        images[split] = dataset.images
    findings = list(dict.fromkeys([*findings, *duplicates(images)]))
    for one in findings:
        print(one)
    for content in contents:
        print("\n".join(_lines(content, fit)))
    kinds = Counter(one.kind for one in findings)
    print(
        "no findings"
        if not findings
        else f"{len(findings)} findings: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    )
    if given.json:
        report = {
            "data": given.data,
            "cfg": given.cfg,
            "size": fit and list(fit.size),
            "findings": [one._asdict() for one in findings],
            "splits": contents,
        }
        write_file(given.json, json.dumps(report, indent=1) + "\n")
    return FINDINGS if findings else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
