"""The command that classifies images with a classifier network.

python -m darknet_py.classify --cfg darknet19.cfg --weights darknet19.weights --names imagenet.shortnames.list dog.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.choices import TOP
from darknet_py.command import (
    UNREADABLE,
    add_device,
    add_model,
    add_size,
    check_files,
    lasting,
    positive,
    run_command,
)
from darknet_py.errors import DarknetError
from darknet_py.pictures.sources import ImageSource, VideoSource, all_missing, asked, expand


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.classify",
        description="Classifies images with a classifier network.",
        epilog="example: python -m darknet_py.classify --cfg cfg/darknet19.cfg --weights weights/darknet19.weights "
        "dog.jpg --top 5",
    )
    result.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image, folder, glob, list (.txt), - (paths from standard input)",
    )
    result.add_argument("--recursive", action="store_true", help="read the folders in folders too")
    add_model(result)
    text = f"how many classes to print (default: the .data file's top, or {TOP})"
    result.add_argument("--top", type=positive, metavar="K", help=text)
    add_device(result)
    add_size(result)
    return result


def main(arguments: Sequence[str] | None = None, *, question: str = "") -> int:
    """Runs the command.

    question: asks for each path on standard input, where the source is `-`; its answer is printed before the next.
    """
    args = parser().parse_args(arguments)
    asks = bool(question) and args.sources == ["-"]
    sources = [] if asks else expand(args.sources, recursive=args.recursive)
    for source in sources:
        if isinstance(source, VideoSource):
            raise DarknetError(f"{source.shown}: this is a video, but a classifier reads images")
    check_files(args.cfg, args.weights, args.names, args.data)
    if not asks and all_missing(sources):
        return UNREADABLE
    with lasting():
        from darknet_py.work.classify import run

    named = asked(question) if asks else sources
    return run(args, (source.path for source in named if isinstance(source, ImageSource)), asks=asks)


if __name__ == "__main__":
    sys.exit(run_command(main))
