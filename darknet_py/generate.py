"""The command that lets a character network write text.

python -m darknet_py.generate --cfg rnn.cfg --weights rnn.weights --seed "To be, " --length 500
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.command import add_network, check_files, lasting, run_command
from darknet_py.names import read_text


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.generate",
        description="Writes text with a character network.",
        epilog='example: python -m darknet_py.generate --cfg rnn.cfg --weights rnn.weights --seed "To be, "',
    )
    add_network(result)
    result.add_argument("--seed", default="\n\n", help="text to begin with (default: two line breaks)")
    result.add_argument("--length", type=int, default=1000, help="symbols to write (default: %(default)s)")
    result.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        help="below 1: more probable text, above 1: more varied text (default: %(default)s)",
    )
    result.add_argument("--random-seed", type=int, help="the same number gives the same text")
    result.add_argument("--tokens", help="file with a word per symbol, for networks that do not read bytes")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    check_files(args.cfg, args.weights)
    tokens = read_text(args.tokens, "tokens file").split("\n") if args.tokens else None
    with lasting():
        from darknet_py.work.generate import run

    return run(args, tokens)


if __name__ == "__main__":
    sys.exit(run_command(main))
