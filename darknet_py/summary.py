"""Prints the layer table of a cfg, or the reference of cfg options.

python -m darknet_py.summary cfg/yolov3.cfg
python -m darknet_py.summary cfg/yolov3.cfg --json
python -m darknet_py.summary --options convolutional
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.command import add_size, check_files, lasting, run_command


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.summary",
        description="Prints the layer table of a cfg, as Darknet does, with totals, and what the cfg says of images, "
        "detection and training.",
        epilog="example: python -m darknet_py.summary cfg/yolov3.cfg --receptive-field",
    )
    result.add_argument("cfg", nargs="?", help="the .cfg, or a .safetensors that carries it")
    result.add_argument("--json", action="store_true", help="print the table as JSON, with all its values")
    result.add_argument(
        "--receptive-field", action="store_true", help="add a column with each layer's receptive field in pixels"
    )
    result.add_argument("--strict", action="store_true", help="treat warnings (unknown or repeated options) as errors")
    result.add_argument(
        "--options",
        metavar="SECTION",
        nargs="?",
        const="",
        help="print the options of a section (e.g. convolutional) with Darknet's defaults; "
        "without SECTION, those of all sections as Markdown",
    )
    add_size(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if args.options is None and not args.cfg:
        parser().error("name a cfg, e.g. cfg/yolov3.cfg")
    check_files(args.cfg)
    with lasting():
        from darknet_py.work.summary import run

    return run(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
