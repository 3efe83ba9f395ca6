"""The command that looks for mistakes in a data set before they cost a training.

python -m darknet_py.check data/obj.data --cfg cfg/yolov4-tiny.cfg --split both --json report.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.choices import SPLITS
from darknet_py.command import check_files, lasting, run_command
from darknet_py.files import check_writable


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.check",
        description="Looks for mistakes in a data set: images, labels, and how both fit a network. "
        "The exit status is 0 if there are none, and 1 if there are.",
        epilog="example: python -m darknet_py.check data/obj.data --cfg cfg/yolov4-tiny.cfg --split both",
    )
    result.add_argument("data", metavar="DATA", help="the .data file")
    result.add_argument(
        "--cfg", help="the network's .cfg or .safetensors; without it, only what needs no network is checked"
    )
    result.add_argument(
        "--split",
        choices=(*SPLITS, "both"),
        default="both",
        help="which lists of the .data file (default: both, as far as it names them)",
    )
    result.add_argument("--json", metavar="FILE", help="write all findings and numbers to this file")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    check_writable(args.json)
    check_files(args.cfg, data=args.data)
    with lasting():
        from darknet_py.work.check import run

    return run(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
