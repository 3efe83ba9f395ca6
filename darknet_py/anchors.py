"""The command that finds anchors for a data set, as `detector calc_anchors` does.

python -m darknet_py.anchors data/obj.data --cfg cfg/yolov3.cfg --write cfg/mine.cfg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.choices import ANCHOR_METHODS, CLUSTERS, SPLITS
from darknet_py.command import add_size, check_files, lasting, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable


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
        choices=ANCHOR_METHODS,
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
    check_files(args.cfg, data=args.data)
    for file in filter(None, (args.write, args.plot)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    check_writable(args.write, args.plot)
    with lasting():
        from darknet_py.work.anchors import run

    return run(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
