"""What `python -m darknet_py.summary` does: a cfg's layer table, or the reference of its options."""

from __future__ import annotations

import argparse
import json

from darknet_py.cfg import parse_cfg
from darknet_py.conventions import conventions
from darknet_py.network import Network
from darknet_py.reference import option_table, options_page
from darknet_py.table import describe, table


def run(args: argparse.Namespace) -> int:
    """Prints the table. Returns the exit status."""
    if args.options is not None:
        print(option_table(args.options.strip("[]")) if args.options else options_page().rstrip("\n"))
        return 0
    network = Network(parse_cfg(args.cfg, strict=args.strict), size=args.size)
    if args.json:
        print(json.dumps(describe(network), indent=1))
    else:
        print(table(network, receptive_field=args.receptive_field), *conventions(network), sep="\n")
    return 0
