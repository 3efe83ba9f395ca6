"""What `python -m darknet_py.export` does: a model's ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.names import class_names, names_file, read_data
from darknet_py.network import load


def run(args: argparse.Namespace) -> int:
    """Writes the file. Returns the exit status."""
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
