"""The training loop: a step for each mini-batch, an update for each batch; weights and checkpoints are saved and the
network is evaluated every so many iterations.

    progress = train(Trainer(network), material.batches, settings, seed=1)
"""

from __future__ import annotations

import math
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import torch
from tqdm import tqdm

from darknet_py.data.text import TextBatch
from darknet_py.data.truths import DataWarning
from darknet_py.errors import DarknetError, out_of_memory
from darknet_py.files import locked
from darknet_py.network import Network
from darknet_py.training.checkpoint import load_checkpoint, save_checkpoint
from darknet_py.training.material import Batches, MiniBatch
from darknet_py.training.report import IterationResult, Report
from darknet_py.training.run import Progress, RunSettings
from darknet_py.training.schedule import warm_up
from darknet_py.training.sizes import PERIOD
from darknet_py.training.step import Step, Trainer
from darknet_py.training.world import World

MAX_NAMED_IMAGES = 8  # in an error message


class NonFiniteLossError(DarknetError):
    """The loss is infinite or not a number: training has stopped, and no file of the run was overwritten."""


def train(
    trainer: Trainer, batches: Batches, settings: RunSettings, *, seed: int = 0, resume: bool = False
) -> Progress:
    """Trains up to iteration `settings.max_batches`.

    Args:
        trainer: of a network with its start weights.
        batches: gives the mini-batches, see `Material.batches`. Which images a mini-batch has must depend on the seed
            and its number alone, so that a resumed run gets the same ones.
        seed: of the mini-batches, dropout and all else that is random. A resumed run keeps its own.
        resume: continue from the checkpoint NAME_last.checkpoint.

    Raises:
        NonFiniteLossError, DarknetError.
    """
    world, net = trainer.world, trainer.net
    if net.subdivisions % world.size:
        raise DarknetError(f"subdivisions={net.subdivisions} cannot be split evenly over {world.size} processes")
    settings.folder.mkdir(parents=True, exist_ok=True)
    message = f"{settings.folder}: another training writes here; wait for its end, or choose another folder with --out"
    with locked(settings.folder / ".training.lock", message) if world.first else nullcontext():
        return _train(trainer, batches, settings, seed, resume)


def _train(trainer: Trainer, batches: Batches, settings: RunSettings, seed: int, resume: bool) -> Progress:
    world, net = trainer.world, trainer.net
    progress = _start(trainer, settings, seed, resume)
    stream = batches(progress.seed, progress.first, (trainer.iteration - progress.first + 1) * net.subdivisions, world)
    report = Report(settings, trainer.iteration, resumed=resume) if world.first else None
    if report and resume:
        print(f"continuing after iteration {trainer.iteration}", flush=True)
    with report or nullcontext(), interruptible() as signals:
        started = trainer.iteration
        try:
            if report and progress.awaiting:
                _evaluate(trainer, settings, progress, report)
            while trainer.iteration < settings.max_batches and not _ends(world, signals, progress):
                result = _iteration(trainer, stream, progress)
                if report:
                    _finish(trainer, settings, progress, result, report)
        except Exception as error:
            if report and trainer.iteration > started and not isinstance(error, NonFiniteLossError):
                _rescue(trainer, settings, progress)
            raise
        ended = progress.stopped_early or trainer.iteration >= settings.max_batches
        if report and (signals or progress.stopped_early):
            _save_last(trainer, settings, progress)
        if report and ended:
            with trainer.ema.applied() if trainer.ema.is_result else nullcontext():
                _save(trainer.network, settings.weights("final"))
    return progress


def _start(trainer: Trainer, settings: RunSettings, seed: int, resume: bool) -> Progress:
    """A new run's progress, or that of the checkpoint; sets the random state."""
    world = trainer.world
    progress = Progress(first=trainer.iteration + 1, seed=seed, settings=dict(settings.fixed))
    torch.manual_seed(seed)
    if resume:
        saved = load_checkpoint(settings.checkpoint, trainer, settings.fixed)
        try:
            progress = Progress.restored(saved)
        except DarknetError as error:
            raise DarknetError(f"{settings.checkpoint}: {error}") from None
    if not world.first:  # dropout differs between the processes
        torch.manual_seed((progress.seed * world.size + world.rank) * 1_000_003 + trainer.iteration)
    if trainer.iteration >= settings.max_batches and not progress.awaiting:
        raise DarknetError(
            f"{trainer.network.cfg.path}: max_batches={settings.max_batches}, but these weights were already trained "
            f"for {trainer.iteration} iterations; write a larger max_batches (or --max-batches), or count from 0 with "
            "--clear"
        )
    return progress


def _ends(world: World, signals: list[int], progress: Progress) -> bool:
    """Whether any process got a signal, or the first one's patience has run out; all stop after the same iteration."""
    interrupted, early = world.total([len(signals), progress.stopped_early])
    if interrupted and not signals:
        signals.append(0)
    progress.stopped_early = bool(early)
    return bool(interrupted or early)


def _iteration(trainer: Trainer, stream: Iterator[MiniBatch], progress: Progress) -> IterationResult:
    """One update of the weights, and what led to it."""
    start, world, net = time.perf_counter(), trainer.world, trainer.net
    is_period = (trainer.iteration + 1 - progress.first) % PERIOD == 0
    if net.dynamic_minibatch and is_period:  # Darknet resets the count of images here
        trainer.seen = trainer.mini_batch * net.subdivisions * trainer.iteration
    own_cost, own_images, waited = 0.0, 0, 0.0
    for _ in range(net.subdivisions // world.size):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        step = _step(trainer, batch)
        _check_finite(trainer, step, batch)
        own_cost, own_images = own_cost + step.cost, own_images + len(batch.images)
    cost, images = world.total([own_cost, own_images])
    loss = cost / images
    rate = trainer.update()
    progress.average = progress.average * 0.9 + loss * 0.1 if progress.average >= 0 else loss
    seconds = time.perf_counter() - start
    width, height = batch.images.shape[-1], batch.images.shape[-2] if batch.images.ndim == 4 else 1
    return IterationResult(
        trainer.iteration, loss, progress.average, rate, width, height, int(images), seconds, waited, map=None
    )


def _step(trainer: Trainer, batch: MiniBatch) -> Step:
    """The step of a mini-batch; where memory runs out, an error that says what to write."""
    device = trainer.device
    if isinstance(batch, TextBatch):
        trainer.network.reset_state(batch.fresh)
    try:
        return trainer.accumulate(
            batch.images.to(device, non_blocking=True), batch.truths.to(device, non_blocking=True)
        )
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        where = "" if isinstance(error, torch.OutOfMemoryError) else " on the CPU"
    net, count = trainer.net, len(batch.images)
    advice = f"write subdivisions={net.subdivisions * 2}" if count > 1 else "write a smaller width and height"
    raise DarknetError(
        f"{trainer.network.cfg.path}: out of memory{where} with {count} images of "
        f"{batch.images.shape[-1]}x{batch.images.shape[-2]} at once (batch={net.batch}, "
        f"subdivisions={net.subdivisions}); {advice}"
    )


def _check_finite(trainer: Trainer, step: Step, batch: MiniBatch) -> None:
    if math.isfinite(step.cost) or trainer.net.try_fix_nan:
        return
    name = next((name for name, cost in step.parts.items() if not math.isfinite(float(cost))), "the network")
    images = ", ".join(batch.paths[:MAX_NAMED_IMAGES]) + (" …" if len(batch.paths) > MAX_NAMED_IMAGES else "")
    raise NonFiniteLossError(
        f"the loss of {name} is not finite in iteration {trainer.iteration + 1}; no file was overwritten. Likely "
        f"causes: the learning rate is too high (rate {trainer.rate:g}; lower it, or raise burn_in), labels are wrong "
        f"(run python -m darknet_py.check), or the mini-batch is too small for batch norm. Images: {images}"
    )


def _finish(
    trainer: Trainer, settings: RunSettings, progress: Progress, result: IterationResult, report: Report
) -> None:
    """What follows an update, in the first process: files, evaluation, report. What is trained is saved before it is
    evaluated, so that an evaluation that fails or is killed costs nothing; a resumed run catches up on it."""
    iteration, every = trainer.iteration, settings.evaluate_every
    is_last = iteration == settings.max_batches
    due = bool(every) and (is_last or (iteration % every == 0 and iteration >= warm_up(trainer.net)))
    if iteration % settings.save_every == 0:
        _save(trainer.network, settings.weights(str(iteration)))
    if due and settings.evaluate is not None:
        progress.awaiting = tuple(result[:-1])
        _save_last(trainer, settings, progress)
        _evaluate(trainer, settings, progress, report)
    else:
        report.add(result, progress)
        if is_last or iteration % settings.save_last == 0:
            _save_last(trainer, settings, progress)


def _evaluate(trainer: Trainer, settings: RunSettings, progress: Progress, report: Report) -> None:
    """Evaluates the iteration that awaits it, if anything does now; the weights of the best one are kept."""
    result = IterationResult(*progress.awaiting, map=None)  # type: ignore[arg-type, misc]
    precision = None
    try:
        if settings.evaluate is not None:
            with trainer.ema.applied() as network:
                precision = settings.evaluate(network)
    except DarknetError as error:
        text = f"iteration {result.iteration} could not be evaluated, the training goes on: {error}"
        warnings.warn(text, DataWarning, stacklevel=2)
    if precision is not None:
        progress.last_map, progress.measured = precision, result.iteration
        progress.evaluations_since_best += 1
        if precision > progress.best:
            progress.best, progress.best_iteration, progress.evaluations_since_best = precision, result.iteration, 0
            with trainer.ema.applied() as network:
                _save(network, settings.weights("best"))
        progress.stopped_early = bool(settings.patience) and progress.evaluations_since_best >= settings.patience
    progress.awaiting = ()
    report.add(result._replace(map=precision), progress)
    _save_last(trainer, settings, progress)


def _save(network: Network, path: Path) -> None:
    """Saves weights, with the line that Darknet writes for programs that wait for it."""
    network.save_weights(path)
    tqdm.write(f"Saving weights to {path}", file=sys.stderr)


def _save_last(trainer: Trainer, settings: RunSettings, progress: Progress) -> None:
    _save(trainer.network, settings.weights("last"))
    if trainer.ema.values:
        with trainer.ema.applied() as network:
            _save(network, settings.weights("ema"))
    content = progress.plain() | {"saved": trainer.iteration}
    save_checkpoint(settings.checkpoint, trainer, content, keep=bool(progress.saved))
    progress.saved = trainer.iteration


def _rescue(trainer: Trainer, settings: RunSettings, progress: Progress) -> None:
    """After an error, saves the last whole iteration; where that fails too, it is said beside the error."""
    if not trainer.undo():
        return
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        _save_last(trainer, settings, progress)
    except (DarknetError, OSError) as error:
        print(f"iteration {trainer.iteration} cannot be saved: {error}", file=sys.stderr)
    else:
        print(f"iteration {trainer.iteration} is saved in {settings.folder}; --resume continues it", file=sys.stderr)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C in a list, so that the current iteration can be finished and saved.

    A second Ctrl-C interrupts at once; a second SIGTERM does not, as `timeout` sends two.
    """
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
