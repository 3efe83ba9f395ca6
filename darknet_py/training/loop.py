"""The training loop: batches in, steps, a line and a csv row for each, weights and checkpoints on the way, evaluation now and then."""

from __future__ import annotations

import csv
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from darknet_py.errors import DarknetError
from darknet_py.files import replacing
from darknet_py.network import Network
from darknet_py.training.checkpoint import load_checkpoint, save_checkpoint
from darknet_py.training.sizes import PERIOD
from darknet_py.training.step import Step, Trainer
from darknet_py.training.world import World

COLUMNS = ("iteration", "loss", "average", "rate", "width", "height", "images_per_second", "seconds", "map")
LINES_APART = 10.0  # seconds between two lines where the output is no terminal


class Batch(Protocol):
    """A mini-batch: images (n, c, h, w) float32 in 0..1, truths as the loss layers read them, the pictures' paths. A batch for a recurrent
    network may have `fresh`, (lanes,) bool: those that have nothing to do with what they read before."""

    @property
    def images(self) -> Tensor: ...
    @property
    def truths(self) -> Tensor: ...
    @property
    def paths(self) -> list[str]: ...


@dataclass
class Plan:
    """How a run goes. folder, name: of its files. save_last, save_every: iterations between NAME_last and NAME_N. evaluate: a network in
    evaluation mode → its mAP, 0..1; called every `evaluate_every` iterations after burn-in. patience: evaluations without a better
    mAP after which training ends; 0: never. unit: of what a batch holds.
    settings: what a resumed run must have again."""

    folder: Path
    name: str
    max_batches: int
    save_last: int = 100
    save_every: int = 1000
    evaluate: Callable[[Network], float] | None = None
    evaluate_every: int = 0
    patience: int = 0
    on_row: Callable[[dict[str, Any]], None] | None = None
    unit: str = "images"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """What a run remembers beside the trainer. first: the iteration that it began with; average: of the loss, as Darknet smooths it;
    last_map, measured: the last evaluation's mAP, and its iteration."""

    first: int = 1
    seed: int = 0
    average: float = -1.0
    best: float = -1.0
    best_iteration: int = 0
    evaluations_since_best: int = 0
    stopped_early: bool = False
    last_map: float = -1.0
    measured: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return dict(vars(self))


class NonFiniteLossError(DarknetError):
    """A loss that is not a number: training has stopped, and no file of the run was overwritten."""


def train(
    trainer: Trainer,
    batches_from: Callable[[Progress], Callable[[int], Iterator[Batch]]],
    plan: Plan,
    *,
    seed: int = 0,
    resume: bool = False,
) -> Progress:
    """Trains up to `plan.max_batches` iterations.

    Args:
        trainer: of a network with its start weights.
        batches_from: the run's beginning → a function from the number of a mini-batch, counted from there, to the mini-batches from that
            one on; they must not depend on what was drawn before, so that a resumed run gets the same ones. Of several processes that
            train together, the one with rank r gets the mini-batches number + r, number + r + size, ….
        resume: go on from NAME_last.checkpoint.

    Raises:
        NonFiniteLossError, DarknetError.
    """
    world = trainer.world
    progress = Progress(first=trainer.iteration + 1, seed=seed, settings=plan.settings)
    plan.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if resume:
        progress = Progress(**load_checkpoint(checkpoint_path(plan), trainer, plan.settings))
    if not world.first:  # each process drops values of its own
        torch.manual_seed((progress.seed * world.size + world.rank) * 1_000_003 + trainer.iteration)
    if trainer.iteration >= plan.max_batches:
        raise DarknetError(
            f"{trainer.network.cfg.path}: max_batches={plan.max_batches}, but these weights have had {trainer.iteration} iterations; "
            "write a larger max_batches (or --max-batches), or start them anew with --clear"
        )
    if trainer.net.subdivisions % world.size:
        raise DarknetError(f"subdivisions={trainer.net.subdivisions} cannot be dealt out to {world.size} processes")
    rows = (
        Rows(plan.folder / "metrics.csv", keep_until=trainer.iteration if resume else 0, fresh=not resume)
        if world.first
        else None
    )
    stream = batches_from(progress)((trainer.iteration - progress.first + 1) * trainer.net.subdivisions)
    lines = Lines(plan, trainer.iteration, silent=not world.first)
    with interruptible() as stopped, lines.bar:
        while trainer.iteration < plan.max_batches and not _ends(world, stopped, progress):
            _iteration(trainer, stream, plan, progress, rows, lines)
    if not world.first:
        return progress
    if stopped or progress.stopped_early:
        _save_last(trainer, plan, progress)
    if not stopped:
        _save(trainer, plan, "final")
    return progress


def _ends(world: World, stopped: list[int], progress: Progress) -> bool:
    """Whether any process was asked to stop, or the first has seen no better mAP for long; all of them end after the same iteration."""
    interrupted, early = world.total([len(stopped), progress.stopped_early])
    if interrupted and not stopped:
        stopped.append(0)
    progress.stopped_early = bool(early)
    return bool(interrupted or early)


def _iteration(
    trainer: Trainer, stream: Iterator[Batch], plan: Plan, progress: Progress, rows: Rows | None, lines: Lines
) -> None:
    start, world, net = time.perf_counter(), trainer.world, trainer.net
    if (
        net.dynamic_minibatch and (trainer.iteration + 1 - progress.first) % PERIOD == 0
    ):  # Darknet counts images from here
        trainer.seen = trainer.mini_batch * net.subdivisions * trainer.iteration
    cost, own = 0.0, 0
    for _ in range(net.subdivisions // world.size):
        batch = next(stream)
        step = _step(trainer, batch)
        _check_finite(trainer, step, batch)
        cost, own = cost + step.cost, own + len(batch.images)
    cost, count = world.total([cost, own])
    loss = cost / count
    rate = trainer.update()
    progress.average = progress.average * 0.9 + loss * 0.1 if progress.average >= 0 else loss
    seconds = time.perf_counter() - start
    iteration = trainer.iteration
    if rows is None:
        return
    precision = _evaluate(trainer, plan, progress)
    row = {
        "iteration": iteration, "loss": f"{loss:.6g}", "average": f"{progress.average:.6g}", "rate": f"{rate:.6g}",
        "width": batch.images.shape[-1], "height": batch.images.shape[-2] if batch.images.ndim == 4 else 1,
        "images_per_second": f"{count / seconds:.1f}", "seconds": f"{seconds:.4f}", "map": "" if precision is None else f"{precision:.6f}",
    }  # fmt: skip
    rows.add(row)
    if plan.on_row:
        plan.on_row(row)
    lines.add(iteration, loss, rate, count, seconds, progress)
    if iteration % plan.save_every == 0:
        _save(trainer, plan, str(iteration))
    if iteration % plan.save_last == 0 or iteration == plan.max_batches:
        _save_last(trainer, plan, progress)


def _step(trainer: Trainer, batch: Batch) -> Step:
    device = trainer.device
    if (fresh := getattr(batch, "fresh", None)) is not None:
        trainer.network.reset_state(fresh)
    try:
        return trainer.accumulate(
            batch.images.to(device, non_blocking=True), batch.truths.to(device, non_blocking=True)
        )
    except torch.OutOfMemoryError:
        reason = ""
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        reason = " on the CPU"
    net = trainer.net
    count = len(batch.images)
    advice = f"write subdivisions={net.subdivisions * 2}" if count > 1 else "write a smaller width and height"
    raise DarknetError(
        f"{trainer.network.cfg.path}: out of memory{reason} with {count} pictures of {batch.images.shape[-1]}x{batch.images.shape[-2]} "
        f"at once (batch={net.batch}, subdivisions={net.subdivisions}); {advice}"
    )


def _check_finite(trainer: Trainer, step: Step, batch: Batch) -> None:
    if math.isfinite(step.cost) or trainer.net.try_fix_nan:
        return
    name = next((name for name, cost in step.parts.items() if not math.isfinite(float(cost))), "the network")
    pictures = ", ".join(batch.paths[:8]) + (" …" if len(batch.paths) > 8 else "")
    raise NonFiniteLossError(
        f"the loss of {name} is not finite in iteration {trainer.iteration + 1}; no file was overwritten. "
        f"Likely causes: a learning rate that is too high (rate {trainer.rate:g}; lower it, or raise burn_in), wrong labels (run "
        f"python -m darknet_py.check), or a mini-batch that is too small for batch norm. Pictures: {pictures}"
    )


def _evaluate(trainer: Trainer, plan: Plan, progress: Progress) -> float | None:
    iteration = trainer.iteration
    due = (
        plan.evaluate_every
        and iteration >= trainer.net.burn_in
        and (iteration % plan.evaluate_every == 0 or iteration == plan.max_batches)
    )
    if plan.evaluate is None or not due:
        return None
    with trainer.ema.applied() as network:
        precision = plan.evaluate(network)
    progress.last_map, progress.measured = precision, iteration
    progress.evaluations_since_best += 1
    if precision > progress.best:
        progress.best, progress.best_iteration, progress.evaluations_since_best = precision, iteration, 0
        with trainer.ema.applied() as network:
            network.save_weights(plan.folder / f"{plan.name}_best.weights")
    progress.stopped_early = bool(plan.patience) and progress.evaluations_since_best >= plan.patience
    return precision


class Lines:
    """Darknet's line for each iteration: on a terminal behind a bar, elsewhere one every few seconds."""

    def __init__(self, plan: Plan, iteration: int, *, silent: bool) -> None:
        self.bar = tqdm(total=plan.max_batches, initial=iteration, unit="it", disable=True if silent else None)
        self.max_batches, self.unit = plan.max_batches, plan.unit
        self.seconds, self.count = 0.0, 0  # of an iteration, smoothed; iterations so far
        self.last = 0.0

    def add(self, iteration: int, loss: float, rate: float, count: float, seconds: float, progress: Progress) -> None:
        self.seconds = (
            self.seconds * 0.95 + seconds * 0.05 if self.count > 1 else seconds
        )  # the first one started the workers
        self.count += 1
        left = timedelta(seconds=round((self.max_batches - iteration) * self.seconds))
        precision = ""
        if progress.last_map >= 0:
            precision = f", mAP {progress.last_map:.4f} of {progress.measured} (best {progress.best:.4f} of {progress.best_iteration})"
        text = f"{loss:.6f}, {progress.average:.6f} avg loss, {rate:.6f} rate, {count / self.seconds:.1f} {self.unit}/s, {left} left{precision}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(1)
        if self.bar.disable and (time.monotonic() - self.last > LINES_APART or iteration == self.max_batches):
            self.last = time.monotonic()
            print(f"{iteration}: {text}", flush=True)


def checkpoint_path(plan: Plan) -> Path:
    return plan.folder / f"{plan.name}_last.checkpoint"


def _save(trainer: Trainer, plan: Plan, suffix: str) -> None:
    trainer.network.save_weights(plan.folder / f"{plan.name}_{suffix}.weights")


def _save_last(trainer: Trainer, plan: Plan, progress: Progress) -> None:
    _save(trainer, plan, "last")
    if trainer.ema.values:
        with trainer.ema.applied() as network:
            network.save_weights(plan.folder / f"{plan.name}_ema.weights")
    save_checkpoint(checkpoint_path(plan), trainer, progress.plain())


class Rows:
    """metrics.csv: a row per iteration; a resumed run drops what comes after its checkpoint and goes on."""

    def __init__(self, path: Path, *, keep_until: int, fresh: bool) -> None:
        self.path = path
        kept = (
            []
            if fresh or not path.is_file()
            else [row for row in read_rows(path) if int(row["iteration"]) <= keep_until]
        )
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv (the last may be cut off by a kill)."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            row for row in csv.DictReader(file) if (row.get("iteration") or "").isdigit() and row.get("map") is not None
        ]


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that fills when SIGTERM or Ctrl-C comes: the iteration is finished, all is saved, and the exit status is 0. A second Ctrl-C
    stops at once; a second SIGTERM does not, as `timeout` sends two."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        print("stopping after this iteration …", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
