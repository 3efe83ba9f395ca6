"""The command that classifies images with a classifier network.

python -m darknet_py.classify --cfg darknet19.cfg --weights darknet19.weights --names imagenet.shortnames.list dog.jpg
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from darknet_py.classifier import Classifier
from darknet_py.command import UNREADABLE, add_device, add_model, add_size, positive, run_command
from darknet_py.errors import DarknetError, ImageError
from darknet_py.measuring.accuracy import TOP
from darknet_py.names import names_file, read_data
from darknet_py.network import load
from darknet_py.pictures.sources import ImageSource, expand


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


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    names, top = args.names, args.top
    if args.data:
        options = read_data(args.data)
        names = names or names_file(options, args.data)
        top = top or options.count("top")
    classifier = Classifier(load(args.cfg, args.weights, device=args.device, size=args.size), names)
    unreadable = 0
    for source in expand(args.sources, recursive=args.recursive):
        if not isinstance(source, ImageSource):
            raise DarknetError(f"{source.shown}: this is a video, but a classifier reads images")
        start = time.perf_counter()
        try:
            guesses = classifier(source.path, top or TOP)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        print(f"{source.path}: Predicted in {(time.perf_counter() - start) * 1000:.3f} milli-seconds.")
        for guess in guesses:
            print(f"{guess.name}: {guess.probability:.6f}")
    return UNREADABLE if unreadable else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
