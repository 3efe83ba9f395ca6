"""Measures speed side by side in one process, and prints ratios: absolute times on a shared machine mean little.

python -m darknet_py.benchmark --cfg cfg/yolov3-tiny.cfg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from darknet_py.command import add_size, check_files, lasting, run_command
from darknet_py.peers import ENGINES, PROGRAMS


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.benchmark",
        description="Measures speed side by side in one run; xN: N times as fast as the first line of its group.",
        epilog="example: python -m darknet_py.benchmark --cfg cfg/yolov3.cfg --batch 8",
    )
    result.add_argument(
        "--cfg",
        nargs="+",
        default=["cfg/yolov3-tiny.cfg"],
        help="the networks, .cfg or .safetensors (default: cfg/yolov3-tiny.cfg)",
    )
    result.add_argument(
        "--device",
        default="cpu",
        help="cpu, cuda, cuda:1 … (default: %(default)s); a GPU's numbers are compared with the CPU's first",
    )
    result.add_argument("--batch", type=int, nargs="+", default=[1], help="images per forward pass (default: 1)")
    result.add_argument("--compile", action="store_true", help="of a GPU: measure torch.compile, too; takes minutes")
    result.add_argument(
        "--seconds", type=float, default=3.0, help="duration of each measurement (default: %(default)s)"
    )
    result.add_argument(
        "--data", help="measure training with the images of this .data file: the step and the loading of images"
    )
    result.add_argument(
        "--against",
        type=peers,
        metavar="ENGINE[=PATH],…",
        help="compare with openvino, onnxruntime, opencv and pytorchyolo, each in a process of its own, run by this "
        "Python or by another one: opencv=env/bin/python (OpenCV 4 is the last that reads Darknet files; see "
        "requirements-bench.txt), and with the C program: darknet=PROGRAM",
    )
    result.add_argument("--chart", default="", metavar="FILE", help="of --against: draw the ratios, .svg or .png")
    result.add_argument("--json", default="", metavar="FILE", help="of --against and of a GPU: write the numbers")
    add_size(result)
    return result


def peers(text: str) -> dict[str, str]:
    """`openvino,opencv=/other/bin/python` → engine → the Python that has it, or its program; an argparse type."""
    result = {}
    for entry in text.split(","):
        name, _, path = entry.strip().partition("=")
        if name not in ENGINES or name == "darknet_py":
            known = ", ".join(name for name in ENGINES if name != "darknet_py")
            raise argparse.ArgumentTypeError(f"'{name}' is not known; write one of {known}")
        if name in PROGRAMS and not path:
            raise argparse.ArgumentTypeError(f"'{name}' is a program of its own; write {name}=PATH")
        result[name] = path or sys.executable
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    for cfg in args.cfg:
        check_files(cfg, data=args.data)
    with lasting():
        from darknet_py.work.benchmark import run

    return run(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
