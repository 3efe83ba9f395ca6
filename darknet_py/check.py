"""The command that looks for mistakes in a data set before they cost a training.

python -m darknet_py.check data/obj.data --cfg cfg/yolov4-tiny.cfg --split both --json report.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence

from darknet_py.cfg import parse_cfg
from darknet_py.command import run_command
from darknet_py.data.checking import (
    Finding,
    check_dataset,
    duplicates,
    network_facts,
    split_summary,
    summary_lines,
)
from darknet_py.data.dataset import SPLITS, open_dataset
from darknet_py.files import check_writable, write_file
from darknet_py.names import read_data
from darknet_py.network import Network

FINDINGS = 1  # exit status where something is wrong


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
    facts = network_facts(Network(parse_cfg(args.cfg))) if args.cfg else None
    named = [split for split in SPLITS if read_data(args.data).get(split)]
    splits = (named or [SPLITS[0]]) if args.split == "both" else [args.split]
    findings: list[Finding] = []
    summaries = []
    images: dict[str, list[str]] = {}
    for split in splits:
        dataset = open_dataset(args.data, split)
        split_findings, counts = check_dataset(dataset, facts, progress=True)
        findings += split_findings
        summaries.append(split_summary(split, dataset, counts, facts))
        images[split] = dataset.images
    findings = list(dict.fromkeys([*findings, *duplicates(images)]))
    for finding in findings:
        print(finding)
    for summary in summaries:
        print("\n".join(summary_lines(summary, facts)))
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in findings).items())
    print(f"{len(findings)} findings: {kinds}" if findings else "no findings")
    if args.json:
        report = {
            "data": args.data,
            "cfg": args.cfg,
            "size": facts and list(facts.size),
            "findings": [finding._asdict() for finding in findings],
            "splits": summaries,
        }
        write_file(args.json, json.dumps(report, indent=1) + "\n")
    return FINDINGS if findings else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
