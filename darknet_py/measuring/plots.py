"""Charts of what was measured: precision and recall, AP of each class, the confusion matrix, anchors, speeds. Needs
matplotlib.

draw_precision_recall(Path("plots"), evaluate(network, dataset))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darknet_py.errors import DarknetError
from darknet_py.files import replacing
from darknet_py.measuring.results import MapResult

MAX_DISTINCT = 20  # classes: so many curves can be told apart, and so many cells have room for a number
DPI = 110
COLOURS = "tab20"
FEW_POINTS = 20  # of a curve that are marked
WIDEST = 4  # times as wide as its curve a chart is at most


def check_matplotlib() -> None:
    """Before the work whose charts it draws.

    Raises:
        DarknetError: matplotlib is not installed.
    """
    _figure(1, 1)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """An empty figure (inches) and its axes, drawn without a screen.

    Raises:
        DarknetError: matplotlib is not installed.
    """
    try:
        agg, figures = (importlib.import_module(f"matplotlib.{name}") for name in ("backends.backend_agg", "figure"))
    except ImportError:
        raise DarknetError("charts need matplotlib; install it: pip install matplotlib") from None
    figure = figures.Figure(figsize=(width, height), layout="constrained")
    agg.FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, bbox_inches="tight", pad_inches=0.15)


def draw_precision_recall(folder: Path, result: MapResult) -> list[Path]:
    """Writes `precision_recall.png` (a curve for each class) and `ap.png` (a bar for each class, the best first).

    Up to 20 classes each curve has a colour and a name; above, the curves are grey, with their mean and middle half.
    """
    paths = [folder / "precision_recall.png", folder / "ap.png"]
    _save(_curves(result), paths[0])
    _save(_bars(result), paths[1])
    return paths


def _curves(result: MapResult) -> Any:
    present = [of_class for of_class in result.classes if of_class.truths]
    distinct = len(present) <= MAX_DISTINCT
    figure, axes = _figure(9.5 if distinct else 7.5, 6)
    recalls = np.linspace(0, 1, 201)
    present.sort(key=lambda of_class: -of_class.AP)
    curves = [_best_precision(of_class.precision, of_class.recall, recalls) for of_class in present]
    for number, (of_class, curve) in enumerate(zip(present, curves, strict=True)):
        coloured = {"color": _colour(number), "label": f"{of_class.name} {of_class.AP:.3f}"}
        axes.plot(recalls, curve, **(coloured if distinct else {"color": "0.75", "linewidth": 0.6}))
    if len(present):
        if not distinct:
            low, high = np.quantile(curves, (0.25, 0.75), axis=0)
            axes.fill_between(recalls, low, high, color="tab:blue", alpha=0.2, label="middle half of the classes")
        axes.plot(recalls, np.mean(curves, 0), color="black", linewidth=2.5, label=f"mean of {len(present)} classes")
    axes.set(
        xlabel="recall",
        ylabel="precision (best at this recall or above)",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=_title(result),
    )
    axes.grid(alpha=0.3)
    if distinct:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    else:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _best_precision(
    precision: NDArray[np.float64], recall: NDArray[np.float64], recalls: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Precision at each of `recalls`, made monotone; 0 beyond the last."""
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best[np.searchsorted(recall, recalls)]


def _bars(result: MapResult) -> Any:
    order = sorted((of_class for of_class in result.classes if of_class.truths), key=lambda of_class: of_class.AP)
    figure, axes = _figure(7.5, max(3.0, 1.2 + 0.19 * len(order)))
    axes.barh(range(len(order)), [of_class.AP for of_class in order], color="tab:blue", height=0.75)
    for y, of_class in enumerate(order):
        axes.text(of_class.AP + 0.006, y, f"{of_class.AP:.3f} of {of_class.truths}", va="center", fontsize=7)
    axes.set_yticks(range(len(order)), [of_class.name for of_class in order], fontsize=8)
    axes.set(
        xlim=(0, 1.15),
        ylim=(-0.7, len(order) - 0.3),
        xlabel="AP, and number of ground-truth boxes",
        title=_title(result),
    )
    axes.axvline(result.mAP, color="black", linewidth=1, linestyle="--", zorder=0)
    return figure


def _title(result: MapResult) -> str:
    absent = sum(not of_class.truths for of_class in result.classes)
    ious = "[.50:.95]" if result.metric == "coco" else f"{result.iou_thresh:.2f}"
    return f"mAP@{ious} = {result.mAP:.4f} ({result.metric})" + (
        f"; {absent} classes without ground truth are not drawn" if absent else ""
    )


def draw_confusion(path: Path, matrix: NDArray[np.int64], names: Sequence[str]) -> Path:
    """Writes a chart of the confusion matrix: ground truth by row, detections by column; colours: fractions of a row.

    Args:
        matrix: (classes+1, classes+1), see `confusion_matrix`; of a classifier, (classes, classes). names: of the
            classes.
    """
    labels = [*names, "background"][: len(matrix)]
    count = len(labels)
    distinct = count <= MAX_DISTINCT + 1
    side = max(5.0, 2.2 + (0.42 if distinct else 0.17) * count)
    figure, axes = _figure(side + 1, side)
    fraction = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    size = 8 if distinct else 6.5
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(count), labels, fontsize=size)
    axes.set_xticks(np.arange(-0.5, count), minor=True)
    axes.set_yticks(np.arange(-0.5, count), minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    for row, column in np.argwhere(matrix > 0):
        if distinct or fraction[row, column] >= 0.1:
            text = str(matrix[row, column]) if distinct else f"{fraction[row, column] * 100:.0f}"
            ink = "white" if fraction[row, column] > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=7 if distinct else 5.5, color=ink)
    unit = "counts" if distinct else "percent of the row, from 10"
    axes.set(
        xlabel="detected as" if count > len(names) else "classified as",
        ylabel="ground truth",
        title=f"confusion matrix ({unit})",
    )
    figure.colorbar(image, ax=axes, fraction=0.03, label="fraction of the row")
    _save(figure, path)
    return path


def draw_anchors(
    path: Path, sizes: NDArray[Any], centres: NDArray[Any], assignments: NDArray[np.int64], average_iou: float
) -> Path:
    """Writes a chart of the boxes' widths and heights, coloured by anchor, and the anchors as crosses with their boxes.

    Args:
        sizes: (n, 2). centres: (k, 2) the anchors. assignments: (n,) the anchor of each box. average_iou: 0..1.
    """
    figure, axes = _figure(8, 7)
    axes.scatter(*sizes.T, c=[_colour(int(anchor)) for anchor in assignments], s=5, alpha=0.5, linewidths=0)
    for number, (width, height) in enumerate(centres.tolist()):
        label = f"{number}:  {width:.4g} x {height:.4g}"
        axes.plot([0, width, width], [height, height, 0], color=_colour(number), linewidth=1.2, label=label)
        axes.annotate(
            str(number), (width, height), xytext=(5, 3), textcoords="offset points", fontsize=9, weight="bold", zorder=4
        )
    axes.scatter(*centres.T, marker="x", color="black", s=50, zorder=3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, title="anchor")
    axes.set(
        xlabel="width",
        ylabel="height",
        title=f"{len(sizes)} boxes, {len(centres)} anchors, average IoU {average_iou:.4f}",
    )
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    _save(figure, path)
    return path


def draw_speeds(path: Path, groups: Sequence[tuple[str, Mapping[str, float]]]) -> Path:
    """Writes a chart of bars. groups: a title and the milliseconds of each engine; the first engine's speed is 1."""
    engines = list(dict.fromkeys(engine for _, times in groups for engine in times))
    height = 0.8 / len(engines)
    figure, axes = _figure(8, 1 + len(groups) * max(len(engines) * 0.24, 0.5))
    for number, engine in enumerate(engines):
        rows = [row for row, (_, times) in enumerate(groups) if engine in times]
        speeds = [next(iter(groups[row][1].values())) / groups[row][1][engine] for row in rows]
        places = [row + (number - (len(engines) - 1) / 2) * height for row in rows]
        bars = axes.barh(places, speeds, 0.9 * height, color=_colour(2 * number), label=engine)
        axes.bar_label(bars, [f"{speed:.2f}" for speed in speeds], padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(groups)), [title for title, _ in groups])
    axes.invert_yaxis()
    axes.set(xlabel=f"times as fast as {engines[0]}", xlim=(0, axes.get_xlim()[1] * 1.08))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    _save(figure, path)
    return path


def _colour(number: int) -> Any:
    return importlib.import_module("matplotlib").colormaps[COLOURS](number % 20)


def draw_chart(
    path: Path,
    rows: Sequence[Mapping[str, str]],
    max_batches: int,
    name: str,
    measure: str = "mAP",
    max_loss: float | None = None,
) -> Path:
    """Writes the chart of a training run, as Darknet draws it: each iteration's loss, its average, and mAP if measured.

    Args:
        rows: of metrics.csv: iteration, loss, average, map ("" where not measured). max_batches: the iterations of the
            whole run. The chart is as wide, but at most WIDEST times as wide as its curve.
        name: of the run. measure: what `map` is. max_loss: the upper end of the loss; None: what shows the curve.
    """
    iterations = np.array([int(row["iteration"]) for row in rows])
    loss, average = (np.array([float(row[key]) for row in rows]) for key in ("loss", "average"))
    marker = "o" if len(rows) <= FEW_POINTS else ""  # a line needs two points
    figure, axes = _figure(10, 7)
    axes.plot(iterations, loss, ".", color="tab:blue", markersize=4 if marker else 2, alpha=0.5, label="loss")
    axes.plot(iterations, average, color="tab:blue", linewidth=1.2, marker=marker, markersize=4, label="average loss")
    shown = [1.1 * np.nanmax(loss)] if marker else [1.3 * np.nanquantile(average, 0.9), 1.1 * average[-1]]
    top = max_loss or float(np.nanmax(shown))  # of many iterations, the first ones would hide the rest
    axes.set(
        xlim=(0, min(max_batches, WIDEST * int(iterations[-1]))),
        ylim=(0, top if np.isfinite(top) and top > 0 else 1),
        xlabel="iteration",
        ylabel="loss",
    )
    axes.grid(alpha=0.3)
    title = f"{name}: iteration {iterations[-1]} of {max_batches}, average loss {average[-1]:.4f}"
    measured = [(int(row["iteration"]), float(row["map"])) for row in rows if row["map"]]
    if measured:
        right = axes.twinx()
        right.plot(*zip(*measured, strict=True), color="tab:red", marker="o", markersize=3, label=measure)
        iteration, value = measured[-1]
        place = {"xytext": (-2, 6), "textcoords": "offset points", "ha": "right"}
        right.annotate(f"{value:.1%}", (iteration, value), color="tab:red", **place)
        right.set(ylim=(0, 1.1), ylabel=measure)
        title += f", best {measure} {max(value for _, value in measured):.1%}"
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path)
    return path
