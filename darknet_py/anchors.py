"""The command that finds anchors for a data set, as `detector calc_anchors` does.

python -m darknet_py.anchors data/obj.data --cfg cfg/yolov3.cfg --write cfg/mine.cfg
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from darknet_py.cfg import parse_cfg
from darknet_py.command import add_size, run_command
from darknet_py.data.anchors import (
    METHODS,
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
from darknet_py.data.dataset import SPLITS, open_dataset
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import check_writable, write_file
from darknet_py.network import Network

CLUSTERS = 9


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.anchors",
        description="Finds anchors for a data set, as `detector calc_anchors` does.",
        epilog="example: python -m darknet_py.anchors data/obj.data --cfg cfg/yolov3.cfg --write cfg/mine.cfg",
    )
    result.add_argument("data", metavar="DATA", help="the .data file: train=")
    result.add_argument(
        "--cfg", help="the network's .cfg or .safetensors, for its input size and its number of anchors"
    )
    result.add_argument(
        "--clusters", type=int, help=f"number of anchors (default: the cfg's num; without a cfg {CLUSTERS})"
    )
    add_size(result)
    result.add_argument(
        "--split", choices=SPLITS, default="train", help="which list of the .data file (default: %(default)s)"
    )
    result.add_argument(
        "--method",
        choices=METHODS,
        default="darknet",
        help="clusters by means, as Darknet, by medians (notes), or means and a genetic search (yolov5), for "
        "assigner=ratio and ota (default: %(default)s)",
    )
    result.add_argument(
        "--seed", type=int, help="random seed for the boxes that the clusters start from (default: a new one each run)"
    )
    result.add_argument(
        "--write", metavar="NEW.cfg", help="write a copy of --cfg with these anchors; nothing else changes in it"
    )
    result.add_argument("--plot", metavar="FILE", help="plot the sizes of the boxes and the anchors (needs matplotlib)")
    result.add_argument(
        "--out", metavar="DIR", help="write anchors.txt and counters_per_class.txt to this folder, as Darknet does"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if not args.cfg and not args.size:
        raise DarknetError("the size of the network is not known; write --cfg FILE or --size WxH")
    if args.write and not args.cfg:
        raise DarknetError("--write makes a copy of a cfg; write --cfg FILE, too")
    for file in filter(None, (args.write, args.plot)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    check_writable(args.write, args.plot)
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


if __name__ == "__main__":
    sys.exit(run_command(main))
