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
from darknet_py.downloading import download, part_of, resume_note
from darknet_py.errors import DarknetError
from darknet_py.official import Official, find_official, official_table


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.download",
        description="Downloads official weights files, resumes interrupted downloads, and checks sizes and hashes.",
        epilog="example: python -m darknet_py.download yolov3 yolov4-tiny --out weights",
    )
    result.add_argument(
        "names", nargs="*", metavar="NAME", help="the name of an official file (yolov3), or an http(s) address"
    )
    result.add_argument("--out", default="weights", metavar="DIR", help="folder for the files (default: weights)")
    result.add_argument("--list", action="store_true", help="list the official files")
    result.add_argument(
        "--mirror", metavar="URL", help="address of a folder with copies, used instead of the originals"
    )
    result.add_argument("--force", action="store_true", help="replace existing files")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 2 where a file could not be downloaded (the others are), 130 for Ctrl-C."""
    args = parser().parse_args(arguments)
    if args.list or not args.names:
        print(official_table() if args.list else f"{parser().format_help()}\n{official_table()}")
        return 0
    status = 0
    for name in args.names:
        try:
            path = download(name, args.out, mirror=args.mirror, force=args.force)
            print(_summary(path, find_official(name)))
        except DarknetError as error:
            print(f"error: {error}", file=sys.stderr)
            status = MISTAKE
        except KeyboardInterrupt:
            part = part_of(Path(args.out) / find_official(name).file)
            note = resume_note(part) if part.exists() else "nothing had arrived yet"
            print(f"interrupted: {note}", file=sys.stderr)
            return INTERRUPTED
    return status


def _summary(path: Path, official: Official) -> str:
    checked = f"{official.hashes[0][0]} is right" if official.hashes else "no hash is known for it"
    cutoff = f" with cutoff={official.cutoff}" if official.cutoff else ""
    usage = f"; for {official.cfg}{cutoff}" if official.cfg else ""
    return f"{path}: {path.stat().st_size:,} bytes, {checked}{usage}"


if __name__ == "__main__":
    sys.exit(run_command(main))
