"""Prints the table of docs/EXPORT.md: how far what ncnn computes from exported files, through pnnx, differs.

    python tests/conformance/converted.py

Needs `pip install ncnn pnnx`. The trained model is the conformance kit's; networks with fresh weights are a quarter of
their size. Each gets one image of random numbers, and the greatest difference of its outputs is printed, as a fraction
of the output's largest value.
"""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from exports import Arrays, difference, small_network
from kit import KIT

from darknet_py import load
from darknet_py.errors import DarknetError
from darknet_py.inference.exporting import Form, Graph, export_onnx, output_names
from darknet_py.network import Network

CFGS = ("yolov3-tiny", "yolov4-tiny", "yolov8n")


def main() -> None:
    warnings.simplefilter("ignore")
    trained = "yolo-fastest-1.1"
    folder = KIT / "real" / trained
    networks = {f"{trained}, trained": load(folder / f"{trained}.cfg", folder / f"{trained}.weights")}
    for name in CFGS:
        networks[f"{name}, fresh weights"] = small_network(Path(__file__).parents[2] / "cfg" / f"{name}.cfg")
    for name, network in networks.items():
        for outputs in ("raw", "boxes"):
            print(f"| {name} | `{outputs}` | {measure(network.eval(), Form(outputs))} |", flush=True)


@torch.inference_mode()
def measure(network: Network, form: Form) -> str:
    width, height = network.size
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    own = [output.numpy() for output in Graph(network, form)(images, [])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with torch.inference_mode(False):
            export_onnx(network, file, form)
        return difference(
            in_ncnn, file, {"images": images.numpy()}, dict(zip(output_names(network, form), own, strict=True))
        )


def in_ncnn(file: Path, inputs: Arrays, names: list[str]) -> list[np.ndarray]:
    import ncnn

    (images,) = inputs.values()
    shape = ",".join(map(str, images.shape))
    command = ["pnnx", str(file), f"inputshape=[{shape}]", "fp16=0"]
    subprocess.run(command, cwd=file.parent, check=True, capture_output=True)
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(file.with_suffix(".ncnn.param"))) or net.load_model(str(file.with_suffix(".ncnn.bin"))):
        raise DarknetError("ncnn does not load what pnnx writes")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(images[0]))
    return [np.array(extractor.extract(f"out{number}")[1]) for number in range(len(names))]


if __name__ == "__main__":
    main()
