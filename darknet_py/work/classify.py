"""What `python -m darknet_py.classify` does: the most probable classes of each image."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from darknet_py.choices import TOP
from darknet_py.classifier import Classifier
from darknet_py.command import UNREADABLE
from darknet_py.errors import ImageError
from darknet_py.names import names_file, read_data
from darknet_py.network import load


def run(args: argparse.Namespace, paths: Iterable[str], *, asks: bool = False) -> int:
    """Classifies the images. Returns the exit status.

    asks: the paths are answers to a question, and so is what is printed of each of them, errors included.
    """
    names, top = args.names, args.top
    if args.data:
        options = read_data(args.data)
        names = names or names_file(options, args.data)
        top = top or options.count("top")
    classifier = Classifier(load(args.cfg, args.weights, device=args.device, size=args.size), names)
    unreadable = 0
    for path in paths:
        start = time.perf_counter()
        try:
            guesses = classifier(path, top or TOP)
        except ImageError as error:
            print(*([error] if asks else ["error:", error]), file=sys.stdout if asks else sys.stderr)
            unreadable += 1
            continue
        print(f"{path}: Predicted in {(time.perf_counter() - start) * 1000:.3f} milli-seconds.")
        for guess in guesses:
            print(f"{guess.name}: {guess.probability:.6f}")
    return UNREADABLE if unreadable else 0
