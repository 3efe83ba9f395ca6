"""The command that converts a model's file: .weights, .safetensors with cfg and class names in it, state_dict.

python -m darknet_py.convert yolov3.weights --cfg cfg/yolov3.cfg --names cfg/coco.names --out yolov3.safetensors
python -m darknet_py.convert yolov3.safetensors --out yolov3.weights
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.choices import REWRITES
from darknet_py.command import check_files, lasting, positive, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable

OTHER_FORMATS = {
    ".onnx": "python -m darknet_py.export writes ONNX",
    ".pt2": "docs/CONVERTING.md shows the call of torch.export",
    ".cfg": "--out-cfg writes the cfg",
    ".names": "--out-names writes the class names",
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.convert",
        description="Converts a model's file to .weights, to .safetensors with the cfg and the class names in it (a "
        "model that every command opens alone), or to a PyTorch state_dict (.pt, .pth).",
        epilog="example: python -m darknet_py.convert yolov3.weights --cfg cfg/yolov3.cfg --names cfg/coco.names "
        "--out yolov3.safetensors",
    )
    result.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".weights, .safetensors, .pt or .pth; of several files, the average, as of Darknet's `average`",
    )
    result.add_argument("--cfg", help="the network's .cfg (default: the one in the .safetensors)")
    result.add_argument("--names", help="class names, one per line (default: those in the .safetensors)")
    result.add_argument(
        "--out", required=True, metavar="OUT", help="the file to write; its extension decides the format, else .weights"
    )
    result.add_argument("--out-cfg", metavar="FILE", help="write the cfg of OUT, too")
    result.add_argument("--out-names", metavar="FILE", help="write the class names, too")
    change = result.add_argument_group("changes, in this order")
    change.add_argument(
        "--cutoff", type=positive, metavar="N", help="keep the layers before layer N alone, as Darknet's `partial`"
    )
    change.add_argument("--apply", choices=REWRITES, help="rewrite the weights as this word of Darknet does")
    folding = change.add_mutually_exclusive_group()
    folding.add_argument("--fuse", action="store_true", help="fold all batch norm into the weights")
    folding.add_argument(
        "--deploy",
        action="store_true",
        help="fold batch norm, parallel branches and learned summands and factors into convolutions, and leave out "
        "auxiliary heads: the form for inference, with a cfg of its own (--out-cfg)",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    out = Path(args.out)
    if out.suffix.lower() in OTHER_FORMATS:
        raise DarknetError(f"--out {out}: {OTHER_FORMATS[out.suffix.lower()]}")
    check_writable(out, args.out_cfg, args.out_names, read=(args.cfg, args.names))
    for file in args.files:
        check_files(args.cfg, file, args.names)
    with lasting():
        from darknet_py.work.convert import run

    return run(args)


if __name__ == "__main__":
    sys.exit(run_command(main))
