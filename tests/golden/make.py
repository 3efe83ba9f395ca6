"""Makes the .json files of this folder: what Darknet's C program computes for each .cfg here.

    python tests/golden/make.py /path/to/darknet

The folder is a checkout of AlexeyAB/darknet at 59596d7; a copy of it is built for the CPU, without OpenMP, by gcc, g++
and make. The weights, inputs and ground truth come from a seed (support/recipes.py). Mistakes of the CPU code that the
GPU code does not have are corrected in the copy (CORRECTIONS), and every layer is trainable, as on a GPU.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

from recipes import digest, recipe_batches, recipe_inputs, write_recipe

from darknet_py.cfg import parse_cfg
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network
from darknet_py.weights import load_weights

HERE = Path(__file__).resolve().parent
CORRECTIONS = {
    # batch norm forgets the gradient of its biases
    "src/batchnorm_layer.c": ("    backward_scale_cpu(l.x_norm, l.delta, l.batch, l.out_c",
                              "    backward_bias(l.bias_updates, l.delta, l.batch, l.out_c, l.out_w*l.out_h);\n"
                              "    backward_scale_cpu(l.x_norm, l.delta, l.batch, l.out_c"),
    # a convolution overwrites the delta of the layer before, which a route or shortcut may have added to
    "src/col2im.c": ("    caffe_set(height * width * channels, 0.0F, data_im);\n    const int output_h",
                     "    const int output_h"),
    # networks without a convolution divide by zero at the end of parsing
    "src/parser.c": ("avg_outputs / avg_counter", "avg_outputs / (avg_counter ? avg_counter : 1)"),
}  # fmt: skip
MAKE = ["make", "libdarknet.so", "LIBSO=1", "OPTS=-O3", "AVX=0", "OPENMP=0", "OPENCV=0", "GPU=0", "CUDNN=0"]
SETTINGS = ({"thresh": 0.2, "nms": 0.0, "letter": 0}, {"thresh": 0.2, "nms": 0.45, "letter": 1})
ROWS = 10  # detections that are kept of each setting
STEPS = 4  # of recurrent networks


def build(darknet: Path, folder: Path) -> Path:
    """Compiles a corrected copy of the program as a library, and run.c with it → the executable."""
    for name in ("src", "include", "3rdparty"):
        shutil.copytree(darknet / name, folder / name)
    shutil.copy(darknet / "Makefile", folder)
    for name, (wrong, right) in CORRECTIONS.items():
        text = (folder / name).read_text()
        assert text.count(wrong) == 1, f"{darknet / name}: this is not Darknet 59596d7"
        (folder / name).write_text(text.replace(wrong, right))
    (folder / "obj").mkdir()
    subprocess.run([*MAKE, "-j2"], cwd=folder, check=True, capture_output=True)
    link = ["-Iinclude", "-Isrc", HERE / "run.c", "-o", "run", "-L.", "-ldarknet", f"-Wl,-rpath,{folder}", "-lm"]
    subprocess.run(["gcc", *link], cwd=folder, check=True)
    return folder / "run"


def run(program: Path, *arguments: str | Path) -> None:
    subprocess.run(
        [program, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=program.parent
    )


def plain(values: np.ndarray) -> list[float]:
    """As many digits as a float32 has."""
    return [float(f"{value:.7g}") for value in values]


def forward(program: Path, cfg: Path, network: Network, case: dict[str, Any], weights: Path) -> None:
    """Adds `layers`, a digest of each layer's output for each step, and `detections`, for each setting."""
    inputs, outputs = program.parent / "inputs", program.parent / "outputs"
    np.concatenate(recipe_inputs(case)).tofile(inputs)
    settings = SETTINGS if network.heads else ()
    asked = [str(value) for setting in settings for value in setting.values()]
    run(program, "forward", cfg, weights, str(case["steps"]), inputs, outputs, *asked)
    values = np.fromfile(outputs, np.float32)
    sizes = [layer.shape.count for layer in network.layers] * case["steps"]
    parts = np.split(values, np.cumsum(sizes))
    digests = [plain(digest(part)) for part in parts[:-1]]
    case["layers"] = [digests[k : k + len(network.layers)] for k in range(0, len(digests), len(network.layers))]
    rest = parts[-1]
    for setting in settings:
        boxes, rest = np.split(rest[1:], [int(rest[0]) * (4 + network.classes)])
        case.setdefault("detections", []).append(setting | detections(boxes.reshape(-1, 4 + network.classes)))
    assert not len(rest), f"{cfg}: the program wrote {len(rest)} more values than its layers have"


def detections(boxes: np.ndarray) -> dict[str, Any]:
    """The `count` of (box, class) pairs, and `rows` class, prob, x, y, w, h of the most likely ones."""
    box, label = boxes[:, 4:].nonzero()
    rows = np.column_stack((label, boxes[box, 4 + label], boxes[box, :4]))
    rows = rows[np.lexsort((rows[:, 2], rows[:, 0], -rows[:, 1]))]
    return {"count": len(rows), "rows": [plain(row) for row in rows[:ROWS]]}


def train(program: Path, cfg: Path, network: Network, case: dict[str, Any], weights: Path) -> None:
    """Adds `costs`, of each mini-batch, and `changes`, a digest of each tensor's change by the update."""
    folder = program.parent
    inputs, truth, outputs, after = (folder / name for name in ("inputs", "truth", "outputs", "after.weights"))
    images, truths = zip(*recipe_batches(network, case["seed"]), strict=True)
    np.concatenate(images).tofile(inputs)
    np.concatenate(truths).tofile(truth)
    run(program, "train", cfg, weights, after, inputs, truth, outputs)
    case["costs"] = plain(np.fromfile(outputs, np.float32))
    trained = Network(parse_cfg(cfg))
    load_weights(trained, after)
    case["changes"] = {name: plain(digest(change)) for name, change in changes(network, trained)}


def changes(before: Network, after: Network) -> Iterator[tuple[str, np.ndarray]]:
    for old_layer, new_layer in zip(before.layers, after.layers, strict=True):
        for old, new in zip(old_layer.stored(), new_layer.stored(), strict=True):
            yield f"{old_layer.index}.{old.name}", (new.tensor - old.tensor).detach().numpy()


def text_of(case: dict[str, Any]) -> str:
    """JSON with a list of numbers in each line."""
    text = json.dumps(case, indent=1)
    return re.sub(r"\[[^][{}]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text) + "\n"


def main(darknet: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        program = build(Path(darknet), folder)
        for cfg in sorted(HERE.glob("*.cfg")):
            network = Network(parse_cfg(cfg))
            recurrent = any(isinstance(layer, Recurrent) for layer in network.layers)
            case: dict[str, Any] = {
                "seed": zlib.crc32(cfg.stem.encode()) % 1000,
                "inputs": network.input_shape.count,
                "steps": STEPS if recurrent else 1,
            }
            weights = folder / "recipe.weights"
            case["weights_sha256"] = write_recipe(network, case["seed"], weights)
            load_weights(network, weights)
            forward(program, cfg, network, case, weights)
            if network.net.batch > 1:
                train(program, cfg, network, case, weights)
            cfg.with_suffix(".json").write_text(text_of(case))
            print(cfg.stem, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
