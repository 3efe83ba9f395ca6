"""The command that writes a model for other programs: ONNX, for onnxruntime, OpenCV, OpenVINO and what reads ONNX.

python -m darknet_py.export --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names --out yolov3.onnx
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.choices import CALIBRATED, EXPORTED_OUTPUTS, EXPORTED_TYPES, NMS_KINDS
from darknet_py.command import add_model, add_size, check_files, fraction, lasting, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable
from darknet_py.pictures.sources import ImageSource, expand
from darknet_py.text import shortened


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.export",
        description="Writes a model as an ONNX file, after checking that onnxruntime gives the same numbers with it.",
        epilog="example: python -m darknet_py.export --cfg cfg/yolov3.cfg --weights weights/yolov3.weights "
        "--names cfg/coco.names --out yolov3.onnx",
    )
    model = result.add_argument_group("model")
    add_model(model)
    add_size(model)
    form = result.add_argument_group("exported model")
    form.add_argument("--out", metavar="FILE", help="the file to write (default: the weights' name with .onnx, here)")
    form.add_argument("--format", choices=("onnx",), default="onnx", help="file format (default: %(default)s)")
    form.add_argument(
        "--outputs",
        choices=EXPORTED_OUTPUTS,
        default=EXPORTED_OUTPUTS[0],
        help="boxes: all boxes and the scores of their classes; raw: what the heads read; detections: after "
        "suppression, in the graph (default: %(default)s)",
    )
    form.add_argument(
        "--type",
        choices=EXPORTED_TYPES,
        default="fp32",
        help="number format; int8: of a detector's convolutions, needs --calibrate (default: %(default)s)",
    )
    form.add_argument(
        "--calibrate",
        nargs="+",
        metavar="IMAGES",
        default=(),
        help="of int8: example images, folders or lists, which show the range of values; the first "
        f"{CALIBRATED} are read",
    )
    form.add_argument(
        "--uint8", action="store_true", help="the input is images of bytes, (n, height, width, 3), instead of 0..1"
    )
    form.add_argument("--dynamic-size", action="store_true", help="width and height of the input are free")
    form.add_argument("--opset", type=int, help="version of ONNX's operators (default: the exporter's)")
    form.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="how users are told to resize images (default: the cfg's letter_box and image_fit; Darknet stretches)",
    )
    form.add_argument("--thresh", type=fraction, help="of detections: minimum confidence, 0..1 (default: the cfg's)")
    form.add_argument(
        "--nms", type=fraction, help="of detections: overlap that suppresses, 0..1; 0: none (default: the cfg's)"
    )
    form.add_argument("--nms-kind", choices=NMS_KINDS, help="of detections: measure of overlap (default: the cfg's)")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    commands = parser()
    args = commands.parse_args(arguments)
    if (args.type == "int8") != bool(args.calibrate):
        commands.error("--type int8 and --calibrate IMAGES go together")
    out = Path(args.out or f"{Path(args.weights or args.cfg).stem}.onnx")
    if out.suffix.lower() != ".onnx":
        raise DarknetError(f"--out {out}: write a name that ends in .onnx")
    check_files(args.cfg, args.weights, args.names, args.data)
    check_writable(out)
    examples = [source.path for source in expand(args.calibrate or ()) if isinstance(source, ImageSource)]
    if args.calibrate and not any(os.path.isfile(path) for path in examples):
        text = "there is no image; write images, folders or lists"
        raise DarknetError(f"--calibrate {shortened(args.calibrate[0])}: {text}")
    with lasting():
        from darknet_py.work.export import run

    return run(args, out)


if __name__ == "__main__":
    sys.exit(run_command(main))
