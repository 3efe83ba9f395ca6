"""What `python -m darknet_py.generate` does: a character network's text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.generator import generate
from darknet_py.network import load


def run(args: argparse.Namespace, tokens: Sequence[str] | None) -> int:
    """Writes the text to the standard output. tokens: a word per symbol; None: symbols are bytes. Returns the exit
    status."""
    network = load(args.cfg, args.weights)
    seed = list(args.seed.encode())
    for symbol in [*seed, *generate(network, seed, args.length, args.temperature, args.random_seed)]:
        if tokens is None:
            sys.stdout.buffer.write(bytes([symbol]) if symbol < 256 else b"?")
        else:
            print(tokens[symbol] if symbol < len(tokens) else "?", end=" ")
    print(flush=True)
    return 0
