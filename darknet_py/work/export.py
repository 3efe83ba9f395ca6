"""What `python -m darknet_py.export` does: a model's ONNX file."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tqdm import tqdm

from darknet_py.choices import CALIBRATED
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError
from darknet_py.inference.exporting import Form, Report, export_onnx
from darknet_py.inference.quantised import quantise_onnx
from darknet_py.names import class_names, names_file, read_data
from darknet_py.network import load
from darknet_py.pictures.sources import ImageSource, expand


def run(args: argparse.Namespace, out: Path) -> int:
    """Writes the file. Returns the exit status."""
    names = args.names
    if args.data and not names:
        names = names_file(read_data(args.data), args.data)
    networks = [load(args.cfg, args.weights, size=args.size)]  # handed over, for its memory
    names = class_names(names, networks[0].classes) if names or not networks[0].names else networks[0].names
    if args.type == "int8" and not networks[0].heads:
        raise DarknetError(f"{networks[0].cfg.path}: --type int8 is for detectors; export fp32 or fp16")
    exact = "fp32" if args.type == "int8" else args.type
    form = Form(args.outputs, args.uint8, exact, args.thresh, args.nms, args.nms_kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx" if args.type == "int8" else out
        report = export_onnx(
            networks.pop(), path, form, names=names, letterbox=args.letterbox,
            dynamic_size=args.dynamic_size, opset=args.opset,
        )  # fmt: skip
        for name, difference in report.differences.items():
            print(f"{name}: differs from the network by {difference:.1e} of its largest value, in onnxruntime")
        if args.type == "int8":
            report = _quantised(path, out, args.calibrate)
    print(f"{report.path}: {report.size / 1e6:.1f} MB")
    return 0


def _quantised(path: Path, out: Path, calibrate: list[str]) -> Report:
    detector = Detector(path)
    sources = [source.path for source in expand(calibrate) if isinstance(source, ImageSource)][:CALIBRATED]
    images = [detector.prepare([detector.read(image)]) for image in tqdm(sources, unit="image", disable=None)]
    report = quantise_onnx(path, out, images)
    for name, difference in report.differences.items():
        print(f"{name}: 8-bit numbers change it by {difference:.1e} of its largest value, in the mean of the images")
    return report
