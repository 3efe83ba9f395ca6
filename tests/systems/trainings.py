"""Trains cfgs of several systems from scratch on a small data set, and prints a row of docs/SYSTEMS.md for each.

    python tests/systems/trainings.py bccd.data OUT yolov8n yolov5n …
    python tests/systems/trainings.py raccoon.data OUT --fraction 0.5 yolov8n yolov5n …

The cfgs are those of cfg/ with other classes, a smaller input of one size and a recipe for a few hundred iterations
(--fraction: of as many); they stay in OUT with the weights, the curve (chart.png) and the commands (commands.txt).
OUT/trainings.svg has the curves of all trainings in OUT.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from other_cfgs import for_classes, with_options  # noqa: E402

from darknet_py.data.dataset import open_dataset  # noqa: E402
from darknet_py.names import read_data  # noqa: E402

SIZE = {"width": "256", "height": "192", "batch": "16", "subdivisions": "1"}
# for fewer than 10,000 iterations, YOLOv8's own program takes AdamW, too
ADAMW = {"optimizer": "adamw", "learning_rate": "0.0015", "learning_rate_min": "0.000015", "momentum": "0.9"}
IMAGES = 205  # of BCCD: the epochs below are of as many
# its rate is lowest while images are plain
YOLOX = {"epochs": "85", "burn_in_epochs": "3", "close_mosaic": "8"}
# the averages' ramps are a tenth of those of their own programs, as the trainings are
PYTORCH = SIZE | ADAMW | {"nominal_batch": "16", "burn_in_bias_rate": "0", "ema_ramp": "200"}
SLOWER = {"learning_rate": "0.001", "learning_rate_min": "0.00001"}  # 0.0015 makes their accuracy go up and down
NET = {
    "yolov5n": PYTORCH | {"epochs": "60"},
    "yolov6n": PYTORCH | SLOWER | {"epochs": "60", "burn_in": "100"},
    # its assigner, OTA, is wrong on inputs that are not square; as many pixels as the others
    "yolov7-tiny-ota": PYTORCH | SLOWER | {"width": "224", "height": "224", "epochs": "70", "burn_in": "100"},
    "yolov8n": PYTORCH | {"epochs": "60"},
    "yolox-nano": SIZE | ADAMW | {"learning_rate": "0.003", "learning_rate_min": "0.00015"} | YOLOX,
    "yolov3-tiny": SIZE | {"max_batches": "1000", "burn_in": "100", "steps": "600,850"},
    "faster-rcnn-small": {"width": "288", "height": "208", "batch": "4", "optimizer": "adamw", "learning_rate": "0.001"}
    | {"max_batches": "1400", "burn_in": "100", "steps": "1050,1250"},
}
REGIONS = {  # of the two-stage network: a dozen cells in each image need more than its own 40 proposals
    "rpn": {"pre_nms": "600", "post_nms": "150", "train_pre_nms": "600", "train_post_nms": "200", "samples": "128"},
    "roi_sample": {"samples": "64"},
}


def with_batch_norm(text: str) -> str:
    """The cfg with batch norm in each layer with a rectifier."""
    return text.replace("activation=relu\n", "activation=relu\nbatch_normalize=1\n")


def recipe(name: str, images: int, fraction: float) -> dict[str, str]:
    """[net]'s options for a fraction of the iterations, whatever the number of images."""

    def shorter(option: str, text: str) -> str:
        if option in ("epochs", "close_mosaic"):
            return str(round(int(text) * fraction * IMAGES / images))
        if option in ("max_batches", "steps"):
            return ",".join(str(round(int(part) * fraction)) for part in text.split(","))
        return text

    return {option: shorter(option, text) for option, text in NET[name].items()}


def train(data: Path, folder: Path, name: str, fraction: float) -> str:
    """Trains and evaluates; the row of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    images = len(open_dataset(data).images)
    text = for_classes((ROOT / "cfg" / f"{name}.cfg").read_text(), read_data(data).count("classes") or 0)
    text = re.sub(r"(?m)^random *=.*\n", "", text)
    text = with_options(text, "net", recipe(name, images, fraction))
    if "\n[rpn]\n" in text:
        text = with_batch_norm(text)
        for section, options in REGIONS.items():
            text = with_options(text, section, options)
    cfg = folder / f"{name}.cfg"
    cfg.write_text(text)
    run(folder, ["train", str(data), str(cfg), "--out", str(folder), "--map", "--map-every", "100", "--workers", "1"])
    average = folder / f"{name}_ema.weights"
    weights = average if average.is_file() else folder / f"{name}_final.weights"
    found = folder / "coco.json"
    run(folder, ["evaluate", str(data), str(cfg), str(weights), "--metric", "coco", "--json", str(found)])
    return row(folder)


def row(folder: Path) -> str:
    """A finished training's row: AP at an overlap of .5 and COCO's, iterations, images a second, minutes."""
    numbers = json.loads((folder / "coco.json").read_text())["coco"]
    with (folder / "metrics.csv").open() as file:
        steps = list(csv.DictReader(file))
    speed = statistics.median(float(step["images_per_second"]) for step in steps)
    minutes = sum(float(step["seconds"]) for step in steps) / 60
    accuracy = f"{numbers['AP50']:.3f} | {numbers['AP']:.3f}"
    return f"| `{folder.name}` | {accuracy} | {len(steps)} | {speed:.0f} | {minutes:.0f} |"


def draw(out: Path) -> None:
    """mAP over the iterations of all trainings in a folder."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for path in sorted(out.glob("*/metrics.csv")):
        with path.open() as file:
            points = [(int(step["iteration"]), float(step["map"])) for step in csv.DictReader(file) if step["map"]]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=path.parent.name)
    axes.set(xlabel="iteration", ylabel="mAP@.5 of the test images", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out / "trainings.svg", metadata={"Date": None})


def run(folder: Path, words: list[str]) -> None:
    with (folder / "commands.txt").open("a") as file:
        file.write(f"python -m darknet_py.{' '.join(words)}\n")
    subprocess.run(
        [sys.executable, "-m", f"darknet_py.{words[0]}", *words[1:]],
        cwd=folder,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+", choices=NET)
    parser.add_argument("--fraction", type=float, default=1)
    options = parser.parse_args()
    for name in options.names:
        print(train(options.data.resolve(), options.out.resolve() / name, name, options.fraction), flush=True)
    draw(options.out)
