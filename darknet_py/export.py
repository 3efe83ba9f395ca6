"""The command that writes a model for other programs: ONNX, for onnxruntime, OpenCV, OpenVINO and what reads ONNX.

python -m darknet_py.export --cfg cfg/yolov3.cfg --weights yolov3.weights --names cfg/coco.names --out yolov3.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.command import add_model, add_size, fraction, run_command
from darknet_py.inference.exporting import IOU_KINDS, OUTPUTS, TYPES, Form, export_onnx
from darknet_py.names import class_names, names_file, read_data
from darknet_py.network import load


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
        choices=OUTPUTS,
        default=OUTPUTS[0],
        help="boxes: all boxes and the scores of their classes; raw: what the heads read; detections: after "
        "suppression, in the graph (default: %(default)s)",
    )
    form.add_argument("--type", choices=tuple(TYPES), default="fp32", help="number format (default: %(default)s)")
    form.add_argument(
        "--uint8", action="store_true", help="the input is images of bytes, (n, height, width, 3), instead of 0..1"
    )
    form.add_argument("--dynamic-size", action="store_true", help="width and height of the input are free")
    form.add_argument("--opset", type=int, help="version of ONNX's operators (default: the exporter's)")
    form.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="how users are told to resize images (default: the cfg's letter_box; Darknet stretches)",
    )
    form.add_argument("--thresh", type=fraction, default=0.25, help="of detections: minimum confidence, 0..1")
    form.add_argument("--nms", type=fraction, default=0.45, help="of detections: overlap that suppresses; 0: none")
    form.add_argument("--nms-kind", choices=IOU_KINDS, help="of detections: measure of overlap (default: the cfg's)")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    names = args.names
    if args.data and not names:
        names = names_file(read_data(args.data), args.data)
    networks = [load(args.cfg, args.weights, size=args.size)]  # handed over, for its memory
    names = class_names(names, networks[0].classes) if names or not networks[0].names else networks[0].names
    out = Path(args.out or f"{Path(args.weights or args.cfg).stem}.onnx")
    form = Form(args.outputs, args.uint8, args.type, args.thresh, args.nms, args.nms_kind)
    report = export_onnx(
        networks.pop(), out, form, names=names, letterbox=args.letterbox,
        dynamic_size=args.dynamic_size, opset=args.opset,
    )  # fmt: skip
    for name, difference in report.differences.items():
        print(f"{name}: differs from the network by {difference:.1e} of its largest value, in onnxruntime")
    print(f"{report.path}: {report.size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
