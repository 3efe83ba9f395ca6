"""What `python -m darknet_py.anchors` does: anchors for a data set, printed and written."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from darknet_py.cfg import parse_cfg
from darknet_py.choices import CLUSTERS
from darknet_py.data.anchors import (
    Clustering,
    Floats,
    anchor_heads,
    anchor_unit,
    anchors_text,
    box_sizes,
    calc_anchors,
    fit_by_ratio,
    has_whole_anchors,
    with_anchors,
)
from darknet_py.data.dataset import open_dataset
from darknet_py.errors import CfgWarning
from darknet_py.files import write_file
from darknet_py.network import Network


def run(args: argparse.Namespace) -> int:
    """Finds the anchors. Returns the exit status."""
    clusters, unit, size = CLUSTERS, args.size, args.size
    if args.cfg:
        network = Network(parse_cfg(args.cfg), size=args.size)
        clusters, unit, size = anchor_heads(network)[-1].options.num, anchor_unit(network), network.size
        if args.write and args.size:
            _check_size(args)
    clusters = clusters if args.clusters is None else args.clusters
    print(f"\n num_of_clusters = {clusters}, width = {unit[0]:g}, height = {unit[1]:g} ")
    dataset = open_dataset(args.data, args.split)
    print(f" read labels from {len(dataset)} images ")
    fractions, classes = box_sizes(dataset)
    sizes = fractions * np.array(unit, np.float32)
    print(f" loaded \t image: {len(dataset)} \t box: {len(sizes)}")
    found = calc_anchors(sizes, clusters, args.method, args.seed)
    counters = ", ".join(map(str, np.bincount(np.maximum(classes, 0), minlength=len(dataset.names))))
    anchors = anchors_text(found.centres, has_whole_anchors(unit, size))
    print(f"\n iterations = {found.iterations} \n\ncounters_per_class = {counters}")
    print(f"\n avg IoU = {found.average_iou * 100:2.2f} % \n\nanchors = {anchors}")
    if args.method == "yolov5":
        fit = fit_by_ratio(sizes, found.centres)
        print(f"\n fitness = {fit.fitness:.4f}, best possible recall = {fit.recall * 100:.2f} % ")
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "anchors.txt", anchors)
        write_file(folder / "counters_per_class.txt", f"counters_per_class = {counters}")
    if args.write:
        write_file(args.write, with_anchors(args.cfg, found.centres))
        print(f"written to {args.write}")
    if args.plot:
        _plot(Path(args.plot), sizes, found)
    return 0


def _check_size(args: argparse.Namespace) -> None:
    """Warns where the copy's own size is not the one that its anchors are for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        width, height = Network(parse_cfg(args.cfg)).size
    if args.size != (width, height):
        wanted = f"{args.size[0]}x{args.size[1]}"
        text = f"the anchors are for {wanted}, but {args.write} has width={width} height={height}"
        warnings.warn(text, CfgWarning, stacklevel=2)


def _plot(path: Path, sizes: Floats, found: Clustering) -> None:
    from darknet_py.measuring.plots import draw_anchors  # matplotlib may not be installed

    draw_anchors(path, sizes, found.centres, found.assignments, found.average_iou)
