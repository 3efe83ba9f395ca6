"""What the program does with a file from outside, by the file's kind; a script reads files in a limited process.

    python hostile.py LIMIT_IN_MB < paths            one JSON line each: path, what came of it, seconds, growth in kB

`READERS` are the targets of the tests of hostile files and of fuzzing: each reads a file as a command would, and lets
only the project's own errors out.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from kit import SHARED

from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.data.coco import read_coco
from darknet_py.data.dataset import open_dataset
from darknet_py.data.labels import read_labels
from darknet_py.data.voc import read_voc
from darknet_py.detector import Detector
from darknet_py.errors import DarknetError
from darknet_py.files import json_text
from darknet_py.measuring.plots import draw_chart
from darknet_py.names import read_data, read_names
from darknet_py.network import Network
from darknet_py.pictures.draw import draw
from darknet_py.pictures.read import read_image
from darknet_py.training.checkpoint import load_checkpoint, save_checkpoint
from darknet_py.training.material import Material
from darknet_py.training.report import read_rows
from darknet_py.training.run import Progress, run_settings
from darknet_py.training.step import Trainer
from darknet_py.weights import load_weights, save_weights

SMALL = """[net]
width=32
height=32
channels=3
max_batches=10
batch=2
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=18
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4,8,8,16,16
classes=1
num=3
"""
TEXTS = {
    "coco": '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "categories": [{"id": 1, "name": '
    '"a"}], "annotations": [{"id": 3, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 0}]}',
    "data": "classes = 2\ntrain = l.txt\nvalid = l.txt\nnames = c.names\nbackup = b\nsavelast = 5\n",
    "labels": "0 0.5 0.5 0.1 0.2\n1 0.25 0.5 1e-1 .5\n",
    "metrics": "iteration,loss,average,rate,width,height,images_per_second,seconds,map\n1,1.5,1.5,0.1,32,32,9.5,0.1,\n",
    "names": "cat\ndog\n",
    "voc": "<annotation><size><width>9</width><height>8</height></size><object><name>RBC</name><difficult>0</difficult>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>",
}
MAX_LAYERS, MAX_VALUES = 2000, 1 << 22  # of a network that is run


def small_network() -> Network:
    return Network(parse_text(SMALL)).initialise(1)


@cache
def _trainer() -> Trainer:
    return Trainer(small_network())


def read_cfg_file(path: Path) -> None:
    """Built, and run once if it is small."""
    network = Network(parse_cfg(path)).initialise(1).eval()
    values = [network.input_shape.count, *(layer.shape.count for layer in network.layers)]
    values += [parameter.numel() for parameter in network.parameters()]
    if len(network.layers) < MAX_LAYERS and sum(values) < MAX_VALUES and network.input_shape.c:
        with torch.no_grad():
            network(torch.zeros(1, *network.input_shape[:3]))


def read_checkpoint(path: Path) -> None:
    Progress.restored(load_checkpoint(path, _trainer()))


def read_weights(path: Path) -> None:
    """Loaded, used, and saved again."""
    network = small_network()
    load_weights(network, path)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = Detector(network.eval().requires_grad_(False), ["a"]).detect([image], 0.01)[0]
    draw(image, found)
    json.loads(json_text([detection.box for detection in found]), parse_constant=_no_json)
    with tempfile.TemporaryDirectory() as folder:
        save_weights(network, Path(folder) / "again.weights")


def _no_json(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def read_data_file(path: Path) -> None:
    """With a list, an image's name and class names beside it."""
    project = str(Path(__file__).resolve().parents[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "l.txt").write_text("a.jpg\n")
        (folder / "a.txt").write_text("0 .5 .5 .1 .1\n")
        (folder / "c.names").write_text("a\nb\n")
        for other in path.parent.iterdir():
            if other.suffix in (".map", ".json"):
                shutil.copy(other, folder)
        data = re.sub(rb"= */\S*", b"= /dev/null", path.read_bytes())  # a search would read the whole disk
        data = data.replace(b"HERE", name.encode()).replace(b"PROJECT", project.encode())
        (folder / "obj.data").write_bytes(data)
        _all_of([lambda: run_settings(folder / "obj.data", small_network(), _material(folder / "obj.data"))])
        _all_of([lambda split=split: open_dataset(folder / "obj.data", split) for split in ("train", "valid")])


def _material(path: Path) -> Material:
    return Material(1, "images", lambda *_: iter(()), read_data(path))


def _all_of(actions: list[Callable[[], object]]) -> None:
    """Each is done, though one before it was refused."""
    errors = []
    for action in actions:
        try:
            action()
        except DarknetError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def read_metrics(path: Path) -> None:
    rows = read_rows(path)
    if rows:
        with tempfile.TemporaryDirectory() as folder:
            draw_chart(Path(folder) / "chart.png", rows, 100, "run")


READERS: dict[str, Callable[[Path], object]] = {
    "cfg": read_cfg_file,
    "ckpt": read_checkpoint,
    "coco": read_coco,
    "data": read_data_file,
    "image": read_image,
    "labels": read_labels,
    "metrics": read_metrics,
    "names": read_names,
    "pt": read_weights,
    "safetensors": read_weights,
    "voc": lambda path: read_voc(path, ["RBC"]),
    "weights": read_weights,
}
KINDS = {  # by a file's ending; what has none is named KIND-…
    ".cfg": "cfg", ".checkpoint": "ckpt", ".csv": "metrics", ".data": "data", ".jpg": "image", ".json": "coco",
    ".map": "names", ".names": "names", ".png": "image", ".pt": "pt", ".safetensors": "safetensors", ".tiff": "image",
    ".weights": "weights", ".xml": "voc",
}  # fmt: skip


FOLDERS = (
    SHARED / "cases" / "hostile",
    SHARED / "cases" / "hostile" / "fuzz",
    Path(__file__).resolve().parents[1] / "hostile",
)
CASES = sorted(path for folder in FOLDERS if folder.is_dir() for path in folder.iterdir() if path.is_file())


def write_good_files(kind: str, folder: Path) -> None:
    """Files without a fault, for a search to begin with."""
    network, image = small_network(), np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    if kind == "cfg":
        (folder / "good.cfg").write_text(SMALL)
    elif kind == "ckpt":
        save_checkpoint(folder / "good.checkpoint", Trainer(network), Progress().plain())
    elif kind in ("weights", "safetensors", "pt"):
        save_weights(network, folder / f"good.{kind}")
    elif kind == "image":
        for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"):
            (folder / f"good{suffix}").write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    elif kind in TEXTS:
        (folder / "good").write_text(TEXTS[kind])


def kind_of(path: Path) -> str:
    """The kind of a case, a key of READERS."""
    word = re.match(r"[a-z]*", path.name)
    assert word is not None
    return word[0] if word[0] in READERS and path.suffix not in KINDS else KINDS[path.suffix]


def read(kind: str, path: Path) -> str:
    """What comes of a file: "read", "refused: …", or, which must not be, the exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            READERS[kind](path)
        except DarknetError as error:
            return f"refused: {error}"
        except Exception as error:
            return repr(error)[:300]
    return "read"


def _peak() -> int:
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


def main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 20,) * 2)
    small_network()(torch.zeros(1, 3, 32, 32))  # what is imported late
    for line in sys.stdin.read().splitlines():
        path, start, before = Path(line), time.monotonic(), _peak()
        result = read(kind_of(path), path)
        print(json.dumps([line, result, time.monotonic() - start, _peak() - before]), flush=True)


if __name__ == "__main__":
    main()
