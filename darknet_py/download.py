"""Downloads official weights files into `weights/`.

    python -m darknet_py.download yolov3 darknet53.conv.74      # weights/yolov3.weights, weights/darknet53.conv.74
    python -m darknet_py.download --list                        # the names
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.command import INTERRUPTED, MISTAKE, run_command
from darknet_py.downloading import download, kept, part_of
from darknet_py.errors import DarknetError
from darknet_py.official import Official, find_official, official_table


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.download",
        description="Downloads official weights files, goes on with what an earlier run has left, and checks sizes and hashes.",
        epilog="example: python -m darknet_py.download yolov3 yolov4-tiny --out weights",
    )
    result.add_argument("names", nargs="*", metavar="NAME", help="a name of the table (yolov3), or an http(s) address")
    result.add_argument("--out", default="weights", metavar="DIR", help="folder for the files (default: weights)")
    result.add_argument("--list", action="store_true", help="print the table of official files")
    result.add_argument("--mirror", metavar="URL", help="address of a folder that holds copies of the official files")
    result.add_argument("--force", action="store_true", help="replace files that lie there already")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 2 where a file could not be had (the others are fetched), 130 for Ctrl-C."""
    given = parser().parse_args(argv)
    if given.list or not given.names:
        print(table() if given.list else f"{parser().format_help()}\n{table()}")
        return 0
    status = 0
    for name in given.names:
        try:
            path = download(name, given.out, mirror=given.mirror, force=given.force)
            print(_summary(path, find(name)))
        except DarknetError as error:
            print(f"error: {error}", file=sys.stderr)
            status = MISTAKE
        except KeyboardInterrupt:
            print(_interrupted(name, given.out), file=sys.stderr)
            return INTERRUPTED
    return status


def _summary(path: Path, official: Official) -> str:
    checked = f"{official.hashes[0][0]} is right" if official.hashes else "no hash is known for it"
    use = (
        f"; for {official.cfg}" + (f" with cutoff={official.cutoff}" if official.cutoff else "") if official.cfg else ""
    )
    return f"{path}: {path.stat().st_size:,} bytes, {checked}{use}"


def _interrupted(name: str, folder: str) -> str:
    part = part_of(Path(folder) / find(name).file)
    return f"interrupted: {_kept(part) if part.exists() else 'nothing had come yet'}"


if __name__ == "__main__":
    sys.exit(run_command(main))
