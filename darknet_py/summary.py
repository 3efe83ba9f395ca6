"""Prints the layer table of a cfg, or the reference of cfg options.

python -m darknet_py.summary cfg/yolov3.cfg
python -m darknet_py.summary cfg/yolov3.cfg --json
python -m darknet_py.summary --options convolutional
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from darknet_py.cfg import parse_cfg
from darknet_py.command import add_size, run_command
from darknet_py.conventions import conventions
from darknet_py.network import Network
from darknet_py.reference import option_table, options_page
from darknet_py.table import describe, table


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
    if args.options is not None:
        print(option_table(args.options.strip("[]")) if args.options else options_page().rstrip("\n"))
        return 0
    if not args.cfg:
        parser().error("name a cfg, e.g. cfg/yolov3.cfg")
    network = Network(parse_cfg(args.cfg, strict=args.strict), size=args.size)
    if args.json:
        print(json.dumps(describe(network), indent=1))
    else:
        print(table(network, receptive_field=args.receptive_field), *conventions(network), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
