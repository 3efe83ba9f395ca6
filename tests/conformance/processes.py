"""Writes the tables of docs/SPEED.md that compare whole processes: a folder of JPEGs, the first detection, training.

    python tests/conformance/processes.py OPENCV_PYTHON DARKNET

OPENCV_PYTHON is a Python with OpenCV 4 (requirements-bench.txt), DARKNET the C program. Needs the conformance kit and
the real data sets (`kit.py`). All take turns; the numbers are medians.
"""

from __future__ import annotations

import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

# ruff: noqa: E402
from kit import KIT, REALDATA
from other_cfgs import for_classes, with_options

SMALL = KIT / "real" / "yolo-fastest-1.1"
NAMES = SMALL / "coco.names"
SMALL_SIZE, SIZE = 320, 416
COUNTS, ROUNDS, ITERATIONS = (200, 1000), 3, 12
LARGE = TESTS.parent / "cfg" / "yolov3.cfg"
TRAINED = TESTS.parent / "cfg" / "yolov3-tiny.cfg"
FRESH = """
import sys
import darknet_py
darknet_py.load(sys.argv[1], trainable=True).save_weights(sys.argv[2])
"""  # in a process of its own: a child's memory counts from that of its parent
OURS = [sys.executable, "-m", "darknet_py.detect"]


@dataclass
class Process:
    command: list[str]
    images: list[Path]  # for standard input, if it reads them there


def main() -> None:
    opencv, darknet = sys.argv[1:]
    images = sorted((REALDATA / "coco" / "images").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_data(folder, "coco.data", 80, NAMES, images)
        small = (SMALL / f"{SMALL.name}.cfg", SMALL / f"{SMALL.name}.weights", SMALL_SIZE)
        print("| JPEGs, yolo-fastest-1.1, annotated files written | darknet_py | OpenCV 4 | the C program |")
        print("|---|---|---|---|")
        for count in COUNTS:
            many = copies(folder / f"{count}", images, count)
            compared = processes(folder, opencv, darknet, data, *small, many)
            if count > COUNTS[0]:
                del compared["C"]  # it needs as long for each image
            print_row(f"{count:,}", turns(compared, folder))
        weights = folder / "yolov3.weights"
        cfg = folder / "yolov3.cfg"
        options = {"batch": "1", "subdivisions": "1", "width": str(SIZE), "height": str(SIZE)}
        cfg.write_text(with_options(LARGE.read_text(), "net", options))
        subprocess.run([sys.executable, "-c", FRESH, str(cfg), str(weights)], check=True, cwd=TESTS.parent)
        print("\n| one image, yolov3, 416 | darknet_py | OpenCV 4 | the C program |\n|---|---|---|---|")
        one = copies(folder / "1", images, 1)
        print_row("1", turns(processes(folder, opencv, darknet, data, cfg, weights, SIZE, one), folder))
        print("\n| training yolov3-tiny, batch 4, 416 | darknet_py | the C program |\n|---|---|---|")
        print_training(folder, darknet)


def write_data(folder: Path, name: str, classes: int, names: Path, images: list[Path]) -> Path:
    (folder / f"{name}.txt").write_text("".join(f"{image}\n" for image in images))
    lines = {"classes": classes, "train": folder / f"{name}.txt", "valid": folder / f"{name}.txt", "names": names}
    (folder / name).write_text("".join(f"{key} = {value}\n" for key, value in lines.items()) + f"backup = {folder}\n")
    return folder / name


def copies(folder: Path, images: list[Path], count: int) -> list[Path]:
    """So many images under names of their own."""
    folder.mkdir()
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.symlink_to(images[number % len(images)])
    return paths


def processes(
    folder: Path, opencv: str, darknet: str, data: Path, cfg: Path, weights: Path, size: int, images: list[Path]
) -> dict[str, Process]:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    files = ["--cfg", str(cfg), "--weights", str(weights), "--names", str(NAMES)]
    script = str(TESTS / "conformance" / "opencv_script.py")
    return {
        "darknet_py": Process([*OURS, *files, "--out", str(out), str(images[0].parent)], []),
        "OpenCV": Process([opencv, script, str(cfg), str(weights), str(size), str(out), *map(str, images)], []),
        "C": Process([darknet, "detector", "test", str(data), str(cfg), str(weights), "-dont_show"], images),
    }


def turns(compared: dict[str, Process], folder: Path) -> dict[str, list[tuple[float, float]]]:
    """By name, seconds and megabytes of each run."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in compared}
    for _ in range(ROUNDS):
        for name, process in compared.items():
            measured[name].append(run(process, folder))
    return measured


def run(process: Process, folder: Path) -> tuple[float, float]:
    """Seconds, and the greatest memory in megabytes."""
    lines = "".join(f"{image}\n" for image in process.images).encode()
    (folder / "stdin").write_bytes(lines)
    start = time.perf_counter()
    with (folder / "stdin").open("rb") as standard_input, (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            process.command, stdin=standard_input, stdout=log, stderr=log, cwd=folder,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode and not process.images:  # the C program ends with 1 at the end of its input
        raise SystemExit((folder / "log").read_text()[-2000:])
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def print_row(title: str, measured: dict[str, list[tuple[float, float]]]) -> None:
    medians = [[statistics.median(values) for values in zip(*runs, strict=True)] for runs in measured.values()]
    cells = [f"{seconds:.2f} s, {memory:.0f} MB" for seconds, memory in medians]
    cells += ["–"] * (3 - len(cells))
    print(f"| {title} | {' | '.join(cells)} |", flush=True)
    print(
        f"  (against darknet_py: {', '.join(f'x{seconds / medians[0][0]:.2f}' for seconds, _ in medians)})", flush=True
    )


def print_training(folder: Path, darknet: str) -> None:
    """Seconds of an iteration, as both programs say."""
    bccd = REALDATA / "bccd"
    images = [bccd / line for line in (bccd / "train.list.txt").read_text().split()]
    data = write_data(folder, "bccd.data", 3, bccd / "bccd.names", images)
    text = with_options(
        for_classes(TRAINED.read_text(), 3), "net", {"batch": "4", "subdivisions": "1", "max_batches": f"{ITERATIONS}"}
    )
    (folder / "trained.cfg").write_text(re.sub(r"(?m)^random *=.*\n", "", text))
    ours = [sys.executable, "-m", "darknet_py.train", str(data), "trained.cfg", "--out", str(folder)]
    run(Process(ours, []), folder)
    with (folder / "metrics.csv").open() as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    run(Process([darknet, "detector", "train", str(data), "trained.cfg", "-dont_show"], []), folder)
    theirs = [float(found) for found in re.findall(r" ([\d.]+) seconds,", (folder / "log").read_text())]
    assert len(seconds) == len(theirs) == ITERATIONS
    own, other = statistics.median(seconds[2:]), statistics.median(theirs[2:])
    print(f"| seconds an iteration | {own:.2f} | {other:.2f}: x{other / own:.2f} |")


if __name__ == "__main__":
    main()
