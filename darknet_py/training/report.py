"""What a run shows and records of each iteration: the progress line, metrics.csv, chart.png and TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tqdm import tqdm

from darknet_py.files import read_file, replacing
from darknet_py.measuring.plots import draw_chart
from darknet_py.training.run import Progress, RunSettings

COLUMNS = ("iteration", "loss", "average", "rate", "width", "height", "images_per_second", "seconds", "map")
SECONDS_PER_LINE = 10.0  # between two lines where the output is no terminal
ITERATIONS_PER_CHART = 100


class IterationResult(NamedTuple):
    """What an iteration gave.

    loss: the mean over its images. average: the loss, smoothed. rate: the learning rate. width, height: of the input,
    pixels. images: how many, in all processes. seconds: how long it took. waited: seconds of these without a
    mini-batch. map: mAP or accuracy, 0..1; None where not measured.
    """

    iteration: int
    loss: float
    average: float
    rate: float
    width: int
    height: int
    images: int
    seconds: float
    waited: float
    map: float | None


class Report:
    """All that a run shows and records; a context, which draws the final chart when the run ends without an error.

    resumed: lines of metrics.csv up to `iteration` are kept.
    """

    def __init__(self, settings: RunSettings, iteration: int, *, resumed: bool) -> None:
        self.metrics = Metrics(settings.folder / "metrics.csv", keep_until=iteration if resumed else 0)
        self.chart = Chart(settings, self.metrics)
        self.board = Board(settings.folder / "tensorboard")
        self.line = ProgressLine(settings, iteration)

    def add(self, result: IterationResult, progress: Progress) -> None:
        self.metrics.add(result)
        self.board.add(result)
        self.chart.add(result)
        self.line.add(result, progress)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.line.bar.close()
        self.board.close()
        if kind is None:
            self.chart.draw()


class ProgressLine:
    """Darknet's line for each iteration: on a terminal behind a progress bar, elsewhere printed every few seconds, or,
    with `darknet_lines`, always, among its other lines."""

    def __init__(self, settings: RunSettings, iteration: int) -> None:
        self.bar = tqdm(total=settings.max_batches, initial=iteration, unit="it", disable=None)
        self.settings = settings
        self.seconds, self.count = 0.0, 0  # per iteration, smoothed; iterations so far
        self.printed = 0.0  # when the last line was printed

    def add(self, result: IterationResult, progress: Progress) -> None:
        first_ones = self.count < 2  # the very first iteration includes the start of the workers
        self.seconds = result.seconds if first_ones else self.seconds * 0.95 + result.seconds * 0.05
        self.count += 1
        text = self._text(result, progress)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(1)
        is_last = result.iteration == self.settings.max_batches
        if self.bar.disable and self.settings.darknet_lines:
            print("\n".join(self._darknet_lines(result, progress)), flush=True)
        elif self.bar.disable and (time.monotonic() - self.printed > SECONDS_PER_LINE or is_last):
            self.printed = time.monotonic()
            print(f"{result.iteration}: {text}", flush=True)

    def _text(self, result: IterationResult, progress: Progress) -> str:
        text = f"{self._numbers(result)}, {timedelta(seconds=round(self._left(result)))} left"
        if progress.last_map < 0:
            return text
        best = f"best {progress.best:.4f} in {progress.best_iteration}"
        return f"{text}, {self.settings.measure} {progress.last_map:.4f} in iteration {progress.measured} ({best})"

    def _numbers(self, result: IterationResult) -> str:
        so_far = f"{result.seconds:.6f} seconds, {result.iteration * result.images} {self.settings.unit}"
        return f"{result.loss:.6f}, {result.average:.6f} avg loss, {result.rate:.6f} rate, {so_far}"

    def _left(self, result: IterationResult) -> float:
        """Seconds until the end."""
        return (self.settings.max_batches - result.iteration) * self.seconds

    def _darknet_lines(self, result: IterationResult, progress: Progress) -> Iterator[str]:
        """What detector.c:train_detector prints of an iteration, without the signs that clear a terminal."""
        yield f"Loaded: {result.waited:f} seconds"
        measure = "mAP@0.50" if self.settings.measure == "mAP" else self.settings.measure
        if progress.last_map >= 0 and result.map is None:
            last, best = progress.last_map * 100, progress.best * 100
            yield f" Last accuracy {measure} = {last:2.2f} %, best = {best:2.2f} % "
        yield f"\n {result.iteration}: {self._numbers(result)}, {self._left(result) / 3600:f} hours left"
        if result.map is not None:
            yield f"\n mean_average_precision ({measure}) = {result.map:f} "
            if progress.best_iteration == result.iteration:
                yield "New best mAP!"


class Metrics:
    """metrics.csv: a row for each iteration; those after iteration `keep_until` of an earlier run are dropped."""

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        earlier = read_rows(path) if keep_until and path.is_file() else []
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in earlier if int(row["iteration"]) <= keep_until)

    def add(self, result: IterationResult) -> None:
        row = {
            "iteration": result.iteration,
            "loss": f"{result.loss:.6g}",
            "average": f"{result.average:.6g}",
            "rate": f"{result.rate:.6g}",
            "width": result.width,
            "height": result.height,
            "images_per_second": f"{result.images / result.seconds:.1f}",
            "seconds": f"{result.seconds:.4f}",
            "map": "" if result.map is None else f"{result.map:.6f}",
        }
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv; the last one may have been cut off when the run was killed."""
    text = read_file(path).decode("utf-8", errors="replace")
    return [row for line in text.splitlines() if (row := _row(line)) is not None]


def _row(line: str) -> dict[str, str] | None:
    """None: the header, or a damaged row."""
    words = line.split(",")
    try:
        numbers = [int(words[0]), *map(float, words[1:-1]), float(words[-1] or 0)]
    except ValueError:
        return None
    return dict(zip(COLUMNS, words, strict=True)) if len(numbers) == len(COLUMNS) and 0 < numbers[0] < 2**63 else None


class Chart:
    """chart.png, drawn from metrics.csv every ITERATIONS_PER_CHART iterations, where matplotlib is installed."""

    def __init__(self, settings: RunSettings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.available = importlib.util.find_spec("matplotlib") is not None
        if not self.available:
            print("chart.png needs matplotlib: pip install matplotlib")

    def add(self, result: IterationResult) -> None:
        if result.iteration % ITERATIONS_PER_CHART == 0:
            self.draw()

    def draw(self) -> None:
        rows = read_rows(self.metrics.path) if self.available else []
        if rows:
            settings = self.settings
            path, largest = settings.folder / "chart.png", settings.max_chart_loss
            draw_chart(path, rows, settings.max_batches, settings.name, settings.measure, largest)


class Board:
    """TensorBoard's loss, average, rate and map, where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined, unused-ignore]
        except ImportError:
            return
        self.writer = SummaryWriter(str(folder))

    def add(self, result: IterationResult) -> None:
        if self.writer is None:
            return
        for name in ("loss", "average", "rate", "map"):
            if (value := getattr(result, name)) is not None:
                self.writer.add_scalar(name, value, result.iteration)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
