"""Anchors for a data set: its boxes' sizes in clusters, by IoU, and a cfg that has them (Darknet:
detector.c:calc_anchors, matrix.c).

sizes = box_sizes(dataset)[0] * np.array(anchor_unit(network), np.float32)
with_anchors("cfg/yolov3.cfg", calc_anchors(sizes, 9).centres)         # the contents of another cfg
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.cfg import Cfg, parse_cfg
from darknet_py.data.dataset import Dataset
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import read_file
from darknet_py.layers import Head
from darknet_py.metadata import is_safetensors
from darknet_py.network import Network
from darknet_py.text import UTF16, decoded

Floats: TypeAlias = NDArray[np.floating[Any]]
MAX_ITERATIONS = 1000  # matrix.c:do_kmeans
LEAST_SIDE = 2.0  # pixels, of boxes that count and of anchors, in YOLOv5's search
FACTOR = 4.0  # YOLOv5's anchor_t: both sides of a box differ by less from those of its anchor
STARTS, GENERATIONS = 30, 1000
MUTATED, SPREAD, LIMITS = 0.9, 0.1, (0.3, 3.0)  # share of the sides that mutate, their deviation, and its limits
MIN_PIXELS = 32  # a network that is no wider is taken for a map of cells, and its anchors have decimals


class Clustering(NamedTuple):
    """Clusters of box sizes.

    centres: (k, 2) widths and heights, not rounded; from the smallest area on when they come from `calc_anchors`.
    assignments: (n,) int64, each box's centre. iterations: rounds until nothing changed. average_iou: mean of each
    box's best IoU with a centre, 0..1.
    """

    centres: Floats
    assignments: NDArray[np.int64]
    iterations: int
    average_iou: float


def size_iou(sizes: Floats, centres: Floats) -> Floats:
    """(n, k) IoU of boxes (n, 2) and (k, 2) that lie upon each other; 0 where both have no area."""
    shared = np.minimum(sizes[:, None, 0], centres[None, :, 0]) * np.minimum(sizes[:, None, 1], centres[None, :, 1])
    areas = (sizes[:, 0] * sizes[:, 1])[:, None] + (centres[:, 0] * centres[:, 1])[None]
    union = areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)


def kmeans(sizes: Floats, centres: Floats) -> Clustering:
    """Darknet's own k-means from given centres: distance 1-IoU, plain means, float32 throughout (matrix.c:do_kmeans).

    A width or height whose mean is 0 (a centre without boxes) stays as it was.

    Args:
        sizes: (n, 2) widths and heights, in any unit. centres: (k, 2), the same.

    Returns:
        The same centres, assignments and number of rounds as the C program's, in the order of the given centres.
    """
    sizes, centres = sizes.astype(np.float32), centres.astype(np.float32)
    assignments = np.zeros(len(sizes), np.int64)
    if len(centres) == 1:
        centres = _means(sizes, assignments, centres)
    iterations = 0
    while iterations < MAX_ITERATIONS:
        nearest = np.argmin(1 - size_iou(sizes, centres), 1)
        converged = np.array_equal(nearest, assignments)
        assignments = nearest
        if converged:
            break
        centres = _means(sizes, assignments, centres)
        iterations += 1
    return Clustering(centres, assignments, iterations, average_iou(sizes, centres))


def _means(sizes: Floats, assignments: NDArray[np.int64], centres: Floats) -> Floats:
    """Sums are taken one by one in the boxes' order, as rounding decides where a box between two centres goes."""
    sums = np.zeros_like(centres)
    for column in (0, 1):
        np.add.at(sums[:, column], assignments, sizes[:, column])
    counts = np.bincount(assignments, minlength=len(centres)).astype(np.float32)
    means = sums / np.maximum(counts, 1)[:, None]
    return np.where(means == 0, centres, means)


def kmedians(sizes: Floats, centres: Floats) -> Clustering:
    """`kmeans` with medians in place of means, until no box changes its cluster. A centre without boxes stays as it
    was."""
    centres = centres.astype(np.float64)
    assignments, iterations = np.full(len(sizes), -1), 0
    while (
        not np.array_equal(nearest := np.argmin(1 - size_iou(sizes, centres), 1), assignments)
        and iterations < MAX_ITERATIONS
    ):
        assignments = nearest
        members = [sizes[assignments == cluster] for cluster in range(len(centres))]
        centres = np.stack([np.median(m, 0) if len(m) else old for m, old in zip(members, centres, strict=True)])
        iterations += 1
    return Clustering(centres, assignments, iterations, average_iou(sizes, centres))


class Fit(NamedTuple):
    """How well anchors fit boxes. fitness: the mean over the boxes of the smaller of both sides' ratios to their best
    anchor (as quotients up to 1), where it exceeds 1/FACTOR, else 0. recall: the share of boxes where it does: those
    that can be trained at all."""

    fitness: float
    recall: float


def fit_by_ratio(sizes: Floats, anchors: Floats) -> Fit:
    """How YOLOv5 judges anchors. sizes: (n, 2). anchors: (k, 2), in the same unit."""
    best = _ratios(sizes, anchors).max(1)
    fits = best > 1 / FACTOR
    return Fit(float((best * fits).mean()), float(fits.mean()))


def _ratios(sizes: Floats, anchors: Floats) -> Floats:
    ratio = sizes[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)


def evolved(sizes: Floats, clusters: int, generator: np.random.Generator, generations: int = GENERATIONS) -> Clustering:
    """Anchors as YOLOv5 finds them: k-means of the sizes over their standard deviations, the best of several starts,
    then a genetic search, in which anchors mutate and stay where they fit better (see `fit_by_ratio`).

    Args:
        sizes: (n, 2) widths and heights, pixels; boxes with both sides under LEAST_SIDE do not count.
        generations: mutations that are tried.

    Raises:
        DarknetError: there are fewer boxes than clusters.
    """
    counted = sizes[(sizes >= LEAST_SIDE).any(1)].astype(np.float64)
    _check_clusters(clusters, len(counted))
    deviation = counted.std(0)
    scaled = counted / np.where(deviation > 0, deviation, 1)
    starts = [scaled[generator.choice(len(scaled), clusters, replace=False)] for _ in range(STARTS)]
    found = [_euclidean(scaled, start) for start in starts]
    anchors = min(found, key=lambda centres: _distances(scaled, centres).min(1).mean())
    anchors = np.maximum(anchors * np.where(deviation > 0, deviation, 1), LEAST_SIDE)
    fitness = fit_by_ratio(counted, anchors).fitness
    for _ in range(generations):
        mutates = generator.random(anchors.shape) < MUTATED
        change = mutates * generator.random() * generator.normal(0, SPREAD, anchors.shape)
        mutant = np.maximum(anchors * (1 + change).clip(*LIMITS), LEAST_SIDE)
        if (better := fit_by_ratio(counted, mutant).fitness) > fitness:
            fitness, anchors = better, mutant
    return Clustering(anchors, _ratios(sizes, anchors).argmax(1), generations, average_iou(sizes, anchors))


def _distances(points: Floats, centres: Floats) -> Floats:
    """(n, k) distances of points (n, 2) from centres (k, 2)."""
    difference: Floats = points[:, None] - centres[None]
    return np.sqrt(np.square(difference).sum(2))


def _euclidean(points: Floats, centres: Floats) -> Floats:
    """Plain k-means; a centre without points stays as it was."""
    assignments = np.full(len(points), -1)
    for _ in range(MAX_ITERATIONS):
        nearest = _distances(points, centres).argmin(1)
        if np.array_equal(nearest, assignments):
            break
        assignments = nearest
        counts = np.bincount(nearest, minlength=len(centres))[:, None]
        sums = np.stack([np.bincount(nearest, column, len(centres)) for column in points.T], 1)
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    return centres


def average_iou(sizes: Floats, centres: Floats) -> float:
    """Mean over the boxes of the best IoU with a centre, 0..1."""
    return float(size_iou(sizes, centres).max(1).mean(dtype=np.float64))


def calc_anchors(sizes: Floats, clusters: int, method: str = "darknet", seed: int | None = None) -> Clustering:
    """Anchors of boxes, the smallest first; they start from boxes picked at random.

    Args:
        sizes: (n, 2) widths and heights. clusters: how many anchors.
        method: "darknet" (means), "notes" (medians) or "yolov5" (see `evolved`; pixels).
        seed: the same one gives the same anchors; None: a new one each time.

    Raises:
        DarknetError: there are fewer boxes than clusters.
    """
    _check_clusters(clusters, len(sizes))
    generator = np.random.default_rng(seed)
    if method == "yolov5":
        found = evolved(sizes, clusters, generator)
    else:
        start = sizes[generator.choice(len(sizes), clusters, replace=False)]
        found = kmeans(sizes, start) if method == "darknet" else kmedians(sizes, start)
    order = np.argsort(found.centres[:, 0] * found.centres[:, 1], kind="stable")
    return found._replace(centres=found.centres[order], assignments=np.argsort(order)[found.assignments])


def _check_clusters(clusters: int, boxes: int) -> None:
    if not 1 <= clusters <= boxes:
        raise DarknetError(
            f"{clusters} clusters of {boxes} boxes; there must be at least 1, and at most as many as boxes"
        )


def box_sizes(dataset: Dataset) -> tuple[Floats, NDArray[np.int64]]:
    """All boxes of a data set but difficult ones: (n, 2) float32 widths and heights as fractions of the image, and (n,)
    their classes.

    Boxes beyond the image are named on stderr, and count all the same, as in Darknet; those without area do not count.
    """
    wh, classes = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int64)]
    for index in tqdm(range(len(dataset)), unit="image", disable=None):
        truths = dataset.truths(index)
        chosen = ~truths.difficult & (truths.xywh[:, 2:] > 0).all(1)
        xywh = truths.xywh[~truths.difficult]
        for number in np.flatnonzero(((xywh > 1) | (xywh <= 0)).any(1)):
            x, y, width, height = xywh[number].tolist()
            values = f"j = {number}, x = {x:f}, y = {y:f}, width = {width:f}, height = {height:f}"
            tqdm.write(f"Wrong label: {dataset.label_file(index)} - {values} ", file=sys.stderr)
        wh.append(truths.xywh[chosen, 2:])
        classes.append(truths.classes[chosen])
    return np.concatenate(wh), np.concatenate(classes)


def anchors_text(centres: Floats, is_whole: bool) -> str:
    """As Darknet prints them: whole numbers (pixels), or four decimals (cells)."""
    form = "{:3.0f},{:3.0f}" if is_whole else "{:2.4f},{:2.4f}"
    return ", ".join(form.format(*centre) for centre in centres.tolist())


def anchor_heads(network: Network) -> list[Head]:
    """The heads that have anchors.

    Raises:
        DarknetError: there is none.
    """
    heads = [head for head in network.head_layers() if head.anchors is not None]
    if not heads:
        raise DarknetError(
            f"{network.cfg.path}: none of its layers has anchors; [yolo], [Gaussian_yolo] and [region] have"
        )
    return heads


def anchor_unit(network: Network) -> tuple[float, float]:
    """What (width, height) of a box as fractions of the image are multiplied by to be compared with the last head's
    anchors."""
    return anchor_heads(network)[-1].anchor_unit(network.size)


def has_whole_anchors(unit: tuple[float, float], size: tuple[float, float]) -> bool:
    """Whether anchors of this unit are written as whole numbers: pixels are, cells are not. size: of the network's
    input."""
    return unit == size and size[0] > MIN_PIXELS


def with_anchors(path: str | os.PathLike[str], centres: Floats) -> bytes:
    """The contents of a cfg with other anchors, from the smallest on: only values change, all other bytes stay.

    `anchors` changes in every head. If there are more or fewer than before, `num`, `mask` and the `filters` of the
    layer before each head change too: the anchors are shared evenly, the smallest for the finest map, the largest for
    the coarsest.

    Raises:
        DarknetError: a line that must change is not there, or there are fewer anchors than heads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # whoever has read the cfg has seen them
        network = Network(parse_cfg(path))
        heads = anchor_heads(network)
        values: dict[int, str] = {}
        for head in heads:
            is_whole = has_whole_anchors(head.anchor_unit(network.size), network.size)
            _set(values, network.cfg, head.index, "anchors", anchors_text(centres, is_whole).strip())
        if any(head.options.num != len(centres) for head in heads):
            _share(values, network.cfg, heads, len(centres))
        data = read_file(network.cfg.path)
        if is_safetensors(network.cfg.path) or data.startswith(UTF16):  # not the bytes of the text alone
            data = network.cfg.text.encode(errors="surrogateescape")
        lines = data.split(b"\n")
        for number, value in values.items():
            lines[number - 1] = _with_value(lines[number - 1], value.encode())
        result = b"\n".join(lines)
        Network(network.cfg.with_text(decoded(result, os.fspath(path))))  # it must build
    return result


def _share(values: dict[int, str], cfg: Cfg, heads: Sequence[Head], count: int) -> None:
    """Spreads so many anchors over the heads: their num, mask, and the filters before them."""
    masked = [head for head in heads if cfg.sections[head.index + 1].get("mask")]
    if count < len(masked):
        raise DarknetError(
            f"{cfg.path}: {count} anchors for {len(masked)} heads; write --clusters {len(masked)} or more"
        )
    finest_first = sorted(masked, key=lambda head: -head.input.w * head.input.h)
    shares = np.array_split(np.arange(count), max(len(masked), 1))
    share_of = {head.index: share for head, share in zip(finest_first, shares, strict=False)}
    for head in heads:
        own = share_of.get(head.index, np.arange(count))
        _set(values, cfg, head.index, "num", str(count))
        if head.index in share_of:
            _set(values, cfg, head.index, "mask", ",".join(map(str, own)))
        _set(values, cfg, head.index - 1, "filters", str(len(own) * (head.classes + head.box_values)))


def _set(values: dict[int, str], cfg: Cfg, layer: int, key: str, value: str) -> None:
    """Notes the line of a layer's option, and its new value."""
    section = cfg.sections[layer + 1]
    option = section.get(key)
    if option is None:
        cfg.fail(section, None, f"there is no line {key}= to change; write {key}={value}")
    values[option.line] = value


def _with_value(line: bytes, value: bytes) -> bytes:
    """`key = old  # why` → `key = value  # why`."""
    key, equals, rest = line.partition(b"=")
    match = re.fullmatch(rb"(\s*)(.*?)(\s*(?:[#;].*)?)", rest, re.DOTALL)
    assert match is not None  # any line matches
    return key + equals + match[1] + value + match[3]
