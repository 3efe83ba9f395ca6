"""Anchors for a data set: its boxes' sizes in clusters, by IoU, as `detector calc_anchors` finds them (Darknet: detector.c, matrix.c).

python -m darknet_py.anchors data/obj.data --cfg cfg/yolov3.cfg --write cfg/mine.cfg
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.cfg import Cfg, Section, parse_cfg, parse_text
from darknet_py.command import add_size, run_command
from darknet_py.data.dataset import SPLITS, Dataset, open_dataset
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import write_file
from darknet_py.layers import Head
from darknet_py.network import Network

Floats: TypeAlias = NDArray[np.floating[Any]]
METHODS = ("darknet", "notes")
CLUSTERS = 9
MOST_ITERATIONS = 1000  # matrix.c:do_kmeans
FEW_PIXELS = 32  # a network that is no wider is taken for a map of cells, and its anchors have decimals
EXTRA = {
    "yolo": 5,
    "region": 5,
    "Gaussian_yolo": 9,
}  # values of an anchor beside the classes'; the heads that have anchors


class Anchors(NamedTuple):
    """Clusters of box sizes.

    centres: (k, 2) widths and heights, not rounded; from the smallest area on when they come from `calc_anchors`.
    assignments: (n,) int64, each box's centre. iterations: rounds until nothing changed. average_iou: mean of each box's best
    IoU with a centre, 0..1.
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


def kmeans(sizes: Floats, centres: Floats) -> Anchors:
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
    while iterations < MOST_ITERATIONS:
        nearest = np.argmin(1 - size_iou(sizes, centres), 1)
        converged = np.array_equal(nearest, assignments)
        assignments = nearest
        if converged:
            break
        centres = _means(sizes, assignments, centres)
        iterations += 1
    return Anchors(centres, assignments, iterations, average_iou(sizes, centres))


def _means(sizes: Floats, assignments: NDArray[np.int64], centres: Floats) -> Floats:
    """Sums are taken one by one in the boxes' order, as rounding decides where a box between two centres goes."""
    sums = np.zeros_like(centres)
    for column in (0, 1):
        np.add.at(sums[:, column], assignments, sizes[:, column])
    counts = np.bincount(assignments, minlength=len(centres)).astype(np.float32)
    means = sums / np.maximum(counts, 1)[:, None]
    return np.where(means == 0, centres, means)


def kmedians(sizes: Floats, centres: Floats) -> Anchors:
    """The same with medians in place of means, until no box changes its cluster. A centre without boxes stays as it was."""
    centres = centres.astype(np.float64)
    assignments, iterations = np.full(len(sizes), -1), 0
    while (
        not np.array_equal(nearest := np.argmin(1 - size_iou(sizes, centres), 1), assignments)
        and iterations < MOST_ITERATIONS
    ):
        assignments = nearest
        parts = [sizes[assignments == one] for one in range(len(centres))]
        centres = np.stack([np.median(part, 0) if len(part) else old for part, old in zip(parts, centres, strict=True)])
        iterations += 1
    return Anchors(centres, assignments, iterations, average_iou(sizes, centres))


def average_iou(sizes: Floats, centres: Floats) -> float:
    """Mean over the boxes of the best IoU with a centre, 0..1."""
    return float(size_iou(sizes, centres).max(1).mean(dtype=np.float64))


def calc_anchors(sizes: Floats, clusters: int, method: str = "darknet", seed: int | None = None) -> Anchors:
    """Anchors of boxes, the smallest first; they start from boxes picked at random.

    Args:
        sizes: (n, 2) widths and heights. clusters: how many anchors.
        method: "darknet" (means) or "notes" (medians). seed: the same one gives the same anchors; None: another each time.

    Raises:
        DarknetError: there are fewer boxes than clusters.
    """
    if not 1 <= clusters <= len(sizes):
        raise DarknetError(
            f"{clusters} clusters of {len(sizes)} boxes; there must be 1 or more, and no more than boxes"
        )
    start = sizes[np.random.default_rng(seed).choice(len(sizes), clusters, replace=False)]
    found = kmeans(sizes, start) if method == "darknet" else kmedians(sizes, start)
    order = np.argsort(found.centres[:, 0] * found.centres[:, 1], kind="stable")
    place = np.argsort(order)
    return found._replace(centres=found.centres[order], assignments=place[found.assignments])


def box_sizes(dataset: Dataset) -> tuple[Floats, NDArray[np.int64]]:
    """All boxes of a data set but difficult ones: (n, 2) float32 widths and heights as parts of the picture, and (n,) their classes.

    Boxes beyond the picture are named on stderr, and count all the same, as in Darknet.
    """
    wh, classes = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int64)]
    for index in tqdm(range(len(dataset)), unit="image", disable=None):
        truths = dataset.truths(index)
        xywh = truths.xywh[~truths.difficult]
        for number in np.flatnonzero(((xywh > 1) | (xywh <= 0)).any(1)):
            x, y, width, height = xywh[number].tolist()
            values = f"j = {number}, x = {x:f}, y = {y:f}, width = {width:f}, height = {height:f}"
            tqdm.write(f"Wrong label: {dataset.label_file(index)} - {values} ", file=sys.stderr)
        wh.append(xywh[:, 2:])
        classes.append(truths.classes[~truths.difficult])
    return np.concatenate(wh), np.concatenate(classes)


def anchors_text(centres: Floats, whole: bool) -> str:
    """As Darknet prints them: whole numbers (pixels), or four decimals (cells)."""
    form = "{:3.0f},{:3.0f}" if whole else "{:2.4f},{:2.4f}"
    return ", ".join(form.format(*centre) for centre in centres.tolist())


def anchor_heads(network: Network) -> list[Head]:
    """The heads that have anchors.

    Raises:
        DarknetError: there is none.
    """
    heads = [layer for layer in network.head_layers() if layer.kind in EXTRA]
    if not heads:
        raise DarknetError(
            f"{network.cfg.path}: no [yolo], [Gaussian_yolo] or [region] here; other networks have no anchors"
        )
    return heads


def unit_of(network: Network) -> tuple[float, float]:
    """What (width, height) of a box as parts of the picture are multiplied by to be anchors: pixels of the network's input, or cells
    of the last map for [region]."""
    last = anchor_heads(network)[-1]
    return (last.input.w, last.input.h) if last.kind == "region" else network.size


def _in_pixels(head: Head, network: Network) -> bool:
    return head.kind != "region" and network.size[0] > FEW_PIXELS


def with_anchors(path: str | os.PathLike[str], centres: Floats) -> bytes:
    """The contents of a cfg with other anchors, from the smallest on: only values change, all other bytes stay.

    `anchors` changes in every head. If there are more or fewer than before, `num`, `mask` and the `filters` of the layer before
    each head change too: the anchors are shared evenly, the smallest for the finest map, the largest for the coarsest.

    Raises:
        DarknetError: a line that must change is not there, or there are fewer anchors than heads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # whoever has read the cfg has seen them
        network = Network(parse_cfg(path))
        heads = anchor_heads(network)
        values: dict[int, str] = {}
        for head in heads:
            _set(values, network.cfg, head.index, "anchors", anchors_text(centres, _in_pixels(head, network)).strip())
        if any(head.options.num != len(centres) for head in heads):
            _share(values, network.cfg, heads, len(centres))
        lines = Path(path).read_bytes().split(b"\n")
        for number, value in values.items():
            lines[number - 1] = _with_value(lines[number - 1], value.encode())
        result = b"\n".join(lines)
        Network(parse_text(result.decode("utf-8-sig", errors="replace"), os.fspath(path)))  # it must build
    return result


def _share(values: dict[int, str], cfg: Cfg, heads: Sequence[Head], count: int) -> None:
    """Spreads so many anchors over the heads: their num, mask, and the filters before them."""
    masked = (
        [head for head in heads if head.options.mask] if all(hasattr(head.options, "mask") for head in heads) else []
    )
    if count < len(masked):
        raise DarknetError(
            f"{cfg.path}: {count} anchors for {len(masked)} heads; write --clusters {len(masked)} or more"
        )
    finest_first = sorted(masked, key=lambda head: -head.input.w * head.input.h)
    shares = dict(
        zip((head.index for head in finest_first), np.array_split(np.arange(count), max(len(masked), 1)), strict=False)
    )
    for head in heads:
        own = shares.get(head.index, np.arange(count))
        _set(values, cfg, head.index, "num", str(count))
        if head.index in shares:
            _set(values, cfg, head.index, "mask", ",".join(map(str, own)))
        _set(values, cfg, head.index - 1, "filters", str(len(own) * (head.classes + EXTRA[head.kind])))


def _set(values: dict[int, str], cfg: Cfg, layer: int, key: str, value: str) -> None:
    section: Section = cfg.sections[layer + 1]
    option = section.get(key)
    if option is None:
        cfg.fail(section, None, f"there is no line {key}= to change; write {key}={value}")
    values[option.line] = value


def _with_value(line: bytes, value: bytes) -> bytes:
    """`key = old  # why` → `key = value  # why`."""
    key, equals, rest = line.partition(b"=")
    before, _, after = re.fullmatch(rb"(\s*)(.*?)(\s*(?:[#;].*)?)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return key + equals + before + value + after


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.anchors",
        description="Finds anchors for a data set, as `detector calc_anchors` does.",
        epilog="example: python -m darknet_py.anchors data/obj.data --cfg cfg/yolov3.cfg --write cfg/mine.cfg",
    )
    result.add_argument("data", metavar="DATA", help="the .data file: train=")
    result.add_argument("--cfg", help="the network the anchors are for: its size, and how many")
    result.add_argument(
        "--clusters", type=int, help=f"how many anchors (default: the cfg's num; without a cfg {CLUSTERS})"
    )
    add_size(result)
    result.add_argument(
        "--split", choices=SPLITS, default="train", help="which list of the .data file (default: %(default)s)"
    )
    result.add_argument(
        "--method", choices=METHODS, default="darknet", help="means as Darknet, or medians (default: %(default)s)"
    )
    result.add_argument("--seed", type=int, help="of the boxes it starts from (default: others each time)")
    result.add_argument(
        "--write", metavar="NEW.cfg", help="write a copy of --cfg with these anchors; only their values change"
    )
    result.add_argument(
        "--plot", metavar="FILE", help="a picture of the boxes' sizes and the anchors (needs matplotlib)"
    )
    result.add_argument(
        "--out", metavar="DIR", help="write anchors.txt and counters_per_class.txt there, as Darknet does"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if not given.cfg and not given.size:
        raise DarknetError("the size of the network is not known; write --cfg FILE or --size WxH")
    if given.write and not given.cfg:
        raise DarknetError("--write: a copy of which cfg? write --cfg FILE, too")
    clusters, unit, whole = CLUSTERS, given.size, given.size is not None and given.size[0] > FEW_PIXELS
    if given.cfg:
        network = Network(parse_cfg(given.cfg), size=given.size)
        last = anchor_heads(network)[-1]
        clusters, unit, whole = last.options.num, unit_of(network), _in_pixels(last, network)
        if given.write and given.size not in (None, written := _size_in(given.cfg)):
            text = f"the anchors are for {given.size[0]}x{given.size[1]}, {given.write} has width={written[0]} height={written[1]}"
            warnings.warn(text, CfgWarning, stacklevel=2)
    clusters = clusters if given.clusters is None else given.clusters
    print(f"\n num_of_clusters = {clusters}, width = {unit[0]:g}, height = {unit[1]:g} ")
    dataset = open_dataset(given.data, given.split)
    print(f" read labels from {len(dataset)} images ")
    relative, classes = box_sizes(dataset)
    sizes = relative * np.array(unit, np.float32)
    print(f" loaded \t image: {len(dataset)} \t box: {len(sizes)}")
    found = calc_anchors(sizes, clusters, given.method, given.seed)
    counters = ", ".join(map(str, np.bincount(np.maximum(classes, 0), minlength=len(dataset.names))))
    anchors = anchors_text(found.centres, whole)
    print(f"\n iterations = {found.iterations} \n\ncounters_per_class = {counters}")
    print(f"\n avg IoU = {found.average_iou * 100:2.2f} % \n\nanchors = {anchors}")
    if given.out:
        folder = Path(given.out)
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "anchors.txt", anchors)
        write_file(folder / "counters_per_class.txt", f"counters_per_class = {counters}")
    if given.write:
        Path(given.write).parent.mkdir(parents=True, exist_ok=True)
        write_file(given.write, with_anchors(given.cfg, found.centres))
        print(f"written to {given.write}")
    if given.plot:
        from darknet_py.measuring.plots import draw_anchors

        draw_anchors(Path(given.plot), sizes, found.centres, found.assignments, found.average_iou)
    return 0


def _size_in(path: str) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        return Network(parse_cfg(path)).size


if __name__ == "__main__":
    sys.exit(run_command(main))
