"""The command that draws the data set of the bundled model.

python -m darknet_py.shapes data/shapes          # images, labels and shapes.data
python -m darknet_py.train data/shapes/shapes.data cfg/shapes.cfg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.command import lasting, run_command


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.shapes",
        description="Draws the data set of the bundled model: images of shapes, with labels and a .data file.",
        epilog="example: python -m darknet_py.shapes data/shapes",
    )
    result.add_argument("folder", type=Path, help="folder for images, labels and shapes.data")
    result.add_argument("--train", type=int, default=2000, help="number of training images (default: %(default)s)")
    result.add_argument("--valid", type=int, default=200, help="number of validation images (default: %(default)s)")
    result.add_argument(
        "--seed", type=int, default=0, help="random seed; the same one draws the same images (default: %(default)s)"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    with lasting():
        from darknet_py.data.shapes import write_dataset

    print(write_dataset(args.folder, args.train, args.valid, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
