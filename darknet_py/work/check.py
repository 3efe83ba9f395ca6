"""What `python -m darknet_py.check` does: a data set's mistakes, printed and written."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from darknet_py.cfg import parse_cfg
from darknet_py.choices import SPLITS
from darknet_py.data.checking import (
    Finding,
    check_dataset,
    duplicates,
    network_facts,
    split_summary,
    summary_lines,
)
from darknet_py.data.dataset import open_dataset
from darknet_py.files import write_file
from darknet_py.names import read_data
from darknet_py.network import Network

FINDINGS = 1  # exit status where something is wrong


def run(args: argparse.Namespace) -> int:
    """Checks the data set. Returns the exit status."""
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
