"""Mini-batches for training: pictures drawn at random, augmented by worker processes ahead of the network (Darknet: data.c:load_threads).

    for batch in detection_batches(dataset, network.net, network.layers[-1], mini_batch=8, seed=1):
        batch.images, batch.truths          # (8, 3, h, w) float32 in 0..1; (8, max, 6) x, y, w, h, class, track_id

The same seed gives the same batches, whatever the number of workers, and starting at mini-batch k gives what skipping k would: all that
is random about a sample comes from a generator of its own, made from the seed, the mini-batch's number and the sample's place in it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import threading
import warnings
import weakref
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from darknet_py.data.augment import darknet as augment
from darknet_py.data.augment.darknet import CUTMIX, CUTMIX_OR_MOSAIC, MIXUP, MOSAIC, Augmentation, Dice, Size
from darknet_py.data.dataset import TRUTH_SIZE, Dataset, training_truths
from darknet_py.data.labels import DataWarning
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.pictures.colours import class_colour
from darknet_py.pictures.read import Image as Picture
from darknet_py.pictures.read import read_image
from darknet_py.pictures.resize import Floats

MOST_WORKERS = 16
MOST_FAILURES = 50  # pictures in a row that cannot be used, before training stops
SECRET_NUM = -1234.0  # a truth that says nothing (Darknet's name for it)
Rows: TypeAlias = NDArray[np.float32]
Sizes: TypeAlias = Size | Callable[[int], Size] | None


class Batch(NamedTuple):
    """A mini-batch.

    images: (n, c, h, w) float32 in 0..1. paths: of the pictures; of one that is several in one, the first's.
    truths: of a detector (n, max, 6) float32 rows x, y, w, h, class, track_id, where zeros end the list (with mixup one number more: the
    part of the picture that the truth's picture is); of a [detection] head (YOLOv1) (n, side*side*(1+classes+4)); of a classifier (n,
    classes).
    """

    images: Tensor
    truths: Tensor
    paths: list[str]


def detection_batches(
    dataset: Dataset,
    net: NetOptions,
    head: Any,
    *,
    mini_batch: int | Callable[[int], int],
    seed: int,
    start: int = 0,
    step: int = 1,
    workers: int | None = None,
    size: Sizes = None,
    sequence: Callable[[int], int] | None = None,
    mixup_beta: float = 0.0,
) -> Iterator[Batch]:
    """Mini-batches without end, of pictures drawn with replacement and augmented as the cfg says (data.c:load_data_detection).

    Args:
        dataset: with truths. net: the network's [net].
        head: the detection head that Darknet takes jitter, resize, max and classes from: the network's last; or its options.
        mini_batch: pictures at once, batch / subdivisions; or a function of the mini-batch's number.
        seed, start, step: of all that is random; the number of the first mini-batch, and from one to the next.
        workers: processes; 0: none, all is done when it is asked for; None: as many as there are cores, at most MOST_WORKERS.
        size: (width, height) of the network's input, if not the cfg's; or a function of the mini-batch's number. It is asked ahead
            of time, and must say the same for the same number.
        sequence: with track=1: the number of a mini-batch → that of the one which began its sequence; None: itself.
        mixup_beta: mixup blends with a part from Beta(b, b); 0: half of each, as Darknet.

    Raises:
        DarknetError: options that Darknet refuses together, or that are not built; no picture has a label file. While it runs: a lot of
            pictures in a row cannot be used. (A picture that cannot be read, or the labels of which are malformed, is named in a warning,
            and another takes its place.)
    """
    options = getattr(head, "options", head)
    _check_channels(net)
    if dataset.kind == "none":
        raise DarknetError(
            f"{dataset.source}: none of its {len(dataset)} pictures has a label file; {dataset.label_file(0)} would be the first's"
        )
    code = augment.mixup_code(net)
    if code in (CUTMIX, CUTMIX_OR_MOSAIC):
        warnings.warn("cutmix=1: Darknet uses it for classifiers only, and ignores it here", DataWarning, stacklevel=2)
        code = MOSAIC if code == CUTMIX_OR_MOSAIC else 0
    if code == MOSAIC and net.letter_box:
        raise DarknetError("letter_box=1 and mosaic=1 do not go together; write one of them")
    if options.resize <= 0:
        raise DarknetError(
            f"resize={options.resize:g}: a zoom by this factor is not possible; write 1 (no zoom) or e.g. 1.5"
        )
    samples = _Detection(dataset, net, seed, options, code, mixup_beta)
    return _stream(samples, net, _Numbers(start, step, mini_batch, size or (net.width, net.height), sequence), workers)


def classifier_batches(
    dataset: Dataset,
    net: NetOptions,
    *,
    mini_batch: int | Callable[[int], int],
    seed: int,
    start: int = 0,
    step: int = 1,
    workers: int | None = None,
    size: Sizes = None,
    classes: int | None = None,
    tree: Any = None,
) -> Iterator[Batch]:
    """Mini-batches without end for a classifier (data.c:load_data_augment); the arguments are those of `detection_batches`, and

    Args:
        classes: so many of the dataset's labels count; None: all. tree: of the [softmax] layer, if it has one.
    """
    _check_channels(net)
    labels = dataset.labels or dataset.names
    classes = len(labels) if classes is None else classes
    if len(labels) < classes or not classes:
        raise DarknetError(
            f"{dataset.source}: {len(labels)} labels, but the network has {classes} classes; write labels= in the .data file"
        )
    code = augment.mixup_code(net)
    samples = _Classifier(dataset, net, seed, labels[:classes], code, None if tree is None else _Tree.of(tree))
    return _stream(samples, net, _Numbers(start, step, mini_batch, size or (net.width, net.height)), workers)


def _check_channels(net: NetOptions) -> None:
    if net.channels not in (1, 3, 4):
        raise DarknetError(f"[net] channels={net.channels}: a picture file has 1, 3 or 4 channels")


# One sample -------------------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A mini-batch by its number: so many pictures, (width, height), and the number of the mini-batch that began its sequence."""

    number: int
    pictures: int
    size: Size
    begin: int


class Turn(NamedTuple):
    """One of the pictures that a sample is made of: its random numbers, and its number in the dataset if that is not drawn."""

    dice: Dice
    number: int | None = None


@dataclass(frozen=True)
class _Samples:
    dataset: Dataset
    net: NetOptions
    seed: int

    def __getitem__(self, what: Wanted) -> Batch | DarknetError:
        """A mini-batch; a mistake is returned, as a worker's exceptions lose their shape."""
        count, size = what.pictures, what.size
        images = np.empty((count, self.net.channels, size[1], size[0]), np.float32)
        truths, paths = [], []
        try:
            for place in range(count):
                picture, truth, path = self.sample(*self.draws(what, place), size)
                most = np.float32(255 if picture.dtype == np.uint8 else 1)
                for plane, channel in zip(images[place], cv2.split(picture), strict=True):
                    np.divide(channel, most, out=plane, dtype=np.float32)
                truths.append(truth)
                paths.append(path)
        except DarknetError as error:
            return error
        except (OSError, ValueError, MemoryError, cv2.error) as error:
            return DarknetError(f"a mini-batch cannot be made: {type(error).__name__}: {error}")
        return Batch(torch.from_numpy(images), torch.from_numpy(np.stack(truths)), paths)

    def rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed & 0xFFFFFFFFFFFFFFFF, *key])

    def draws(self, what: Wanted, place: int) -> tuple[np.random.Generator, Iterator[Turn]]:
        """What decides how a sample is made, and its pictures, one after the other."""
        net, number, begin = self.net, what.number, what.begin
        if net.track:
            position, lines = (number - begin) * what.pictures + place, max(what.pictures // net.time_steps, 1)
            return self.rng(begin, 0, 0, 0, 1), self._in_sequence(begin, position, lines)
        if net.contrastive:
            return self.rng(number, 0, 0, 0, 1), self._in_pairs(number, place)
        own = self.rng(number, place)
        return own, itertools.repeat(Turn(Dice.of(own)))

    def _in_pairs(self, number: int, place: int) -> Iterator[Turn]:
        """Samples 2k and 2k+1 are views of one picture, at the same place or in the same colours unless the cfg asks for others."""
        pair = place // 2 * 2
        for turn in itertools.count():
            own, places, colours = self.rng(number, place, turn, 2), *(
                self.rng(number, place if differs else pair, turn, kind)
                for kind, differs in ((3, self.net.contrastive_jit_flip), (4, self.net.contrastive_color))
            )  # fmt: skip
            yield Turn(Dice(self.rng(number, pair, turn, 5), own, places, colours, own))

    def _in_sequence(self, begin: int, position: int, lines: int) -> Iterator[Turn]:
        """Each line of pictures goes through the list from a place of its own, all augmented alike (data.c:get_sequential_paths)."""
        time, line = divmod(position, lines)
        line = line // 2 * 2 if self.net.contrastive else line
        for turn in itertools.count():
            common = self.rng(begin, 0, turn, 6)
            speed = augment.rand_int(1, max(self.net.augment_speed, 1), common)
            first = int(self.rng(begin, line, turn, 7).integers(len(self.dataset)))
            yield Turn(Dice.of(common), (first + time * speed) % len(self.dataset))

    def sample(self, rng: np.random.Generator, turns: Iterator[Turn], size: Size) -> tuple[Picture, Rows, str]:
        raise NotImplementedError

    def draw(self, turn: Turn) -> tuple[int, Picture, Any]:
        """A picture, drawn at random where the turn does not name it: its number, itself, and what `truths_of` says of it."""
        reason, index = "", turn.number
        for _ in range(MOST_FAILURES):
            index = int(turn.dice.picture.integers(len(self.dataset))) if index is None else index
            try:
                return index, read_image(self.dataset.images[index], self.net.channels), self.truths_of(index)
            except DarknetError as error:
                reason, index = str(error), None
                warnings.warn(f"{reason}; another picture takes its place", DataWarning, stacklevel=2)
        raise DarknetError(
            f"{reason}; as {MOST_FAILURES} pictures in a row cannot be used, training stops: run python -m darknet_py.check"
        )

    def truths_of(self, index: int) -> Any:
        return None


@dataclass(frozen=True)
class _Detection(_Samples):
    options: Any
    code: int
    mixup_beta: float = 0.0

    def truths_of(self, index: int) -> Any:
        return self.dataset.truths(index)

    def sample(self, rng: np.random.Generator, turns: Iterator[Turn], size: Size) -> tuple[Picture, Rows, str]:
        # Darknet decides this, for one of two, once for all pictures of a loading thread
        code = self.code if self.code and rng.integers(2) else 0
        if code == MOSAIC:
            picture, rows, path = self.mosaic(rng, turns, size)
        else:
            picture, rows, path, _ = self.one(next(turns), size)
        if hasattr(self.options, "side"):
            return picture, cell_truths(rows, self.options.side, self.options.classes), path
        if code == MIXUP:
            part = rng.beta(self.mixup_beta, self.mixup_beta) if self.mixup_beta else 0.5
            other, others, _, _ = self.one(next(turns), size)
            picture = augment.blend(augment.as_floats(picture), augment.as_floats(other), part)
            rows = augment.blend_truths(weighted(rows, part), weighted(others, 1 - part), self.options.max)
        elif self.code == MIXUP:
            rows = weighted(rows, 1)
        return picture, np.pad(rows, ((0, self.options.max - len(rows)), (0, 0))), path

    def one(self, turn: Turn, size: Size, tile: int | None = None) -> tuple[Picture, Rows, str, Augmentation]:
        index, picture, truths = self.draw(turn)
        given, rest = (picture.shape[1], picture.shape[0]), turn.dice.rest
        drawn = augment.draw_augmentation(self.net, self.options, given, turn.dice, net_size=size, tile=tile)
        options, label_file = self.options, self.dataset.label_file(index)
        moved = augment.transform_truths(truths, drawn)
        rows = training_truths(moved, size, options.classes, options.max, rest, path=label_file)
        return augment.augment(picture, drawn, size, rows, rest), rows, self.dataset.images[index], drawn

    def mosaic(self, rng: np.random.Generator, turns: Iterator[Turn], size: Size) -> tuple[Picture, Rows, str]:
        cut = augment.draw_cut(size, rng)
        pictures, shifts, paths = [], [], []
        rows = np.empty((0, TRUTH_SIZE), np.float32)
        for tile in range(4):
            picture, given, path, drawn = self.one(next(turns), size, tile)
            shift = augment.mosaic_shifts(drawn, size, cut)
            room = self.options.max - len(rows)
            moved = augment.mosaic_truths(given[:room], tile, cut, shift, size, bool(self.net.mosaic_bound))
            rows = np.concatenate((rows, moved))
            pictures.append(picture)
            shifts.append(shift)
            paths.append(path)
        if any(picture.dtype != np.uint8 for picture in pictures):
            pictures = [augment.as_floats(picture) for picture in pictures]
        return augment.mosaic(pictures, cut, shifts), rows, paths[0]


def weighted(rows: Rows, weight: float) -> Rows:
    """The rows with one more number: the part of the picture that the truths' picture is."""
    return np.pad(rows, ((0, 0), (0, 1)), constant_values=weight)


def cell_truths(rows: Rows, side: int, classes: int) -> Rows:
    """Truths of a [detection] head, (side*side*(1+classes+4),): of each cell, whether it has an object, its classes one by one, x and y
    in the cell, w and h in the picture (data.c:fill_truth_region). Of several objects in a cell, the first counts."""
    column, row = np.minimum((rows[:, :2] * side).astype(np.int64), side - 1).T
    cells, first = np.unique(row * side + column, return_index=True)
    result = np.zeros((side * side, 1 + classes + 4), np.float32)
    chosen = rows[first]
    result[cells, 0] = 1
    result[cells, 1 + chosen[:, 4].astype(np.int64)] = 1
    result[cells, 1 + classes : 3 + classes] = chosen[:, :2] * side - np.stack((column, row), 1)[first]
    result[cells, 3 + classes :] = chosen[:, 2:4]
    return result.reshape(-1)


class _Tree(NamedTuple):
    """Of a class tree: the parent of each class (-1: none), and which group of siblings it belongs to."""

    parents: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, tree: Any) -> _Tree:
        return cls(tree.parent.cpu().numpy(), tree.group.cpu().numpy())


@dataclass(frozen=True)
class _Classifier(_Samples):
    labels: list[str]
    code: int
    tree: _Tree | None

    def sample(self, rng: np.random.Generator, turns: Iterator[Turn], size: Size) -> tuple[Picture, Rows, str]:
        count = 1
        if self.code and rng.integers(2):
            count = 4 if self.code >= MOSAIC else 2
        every = [self.one(next(turns), size) for _ in range(count)]
        picture, classes, path = every[0]
        if count > 1:
            pictures, vectors, _ = zip(*every, strict=True)
            picture, classes = augment.mix_classifier(self.code, pictures, vectors, size, rng)
        if self.net.blur and rng.integers(4) == 0:
            kernel = 15 if self.net.blur == 1 else self.net.blur // 2 * 2 + 1
            picture = np.asarray(cv2.GaussianBlur(picture, (kernel, kernel), 0), np.float32).reshape(picture.shape)
        return picture, classes, path

    def one(self, turn: Turn, size: Size) -> tuple[Floats, Rows, str]:
        index, picture, _ = self.draw(turn)
        given = (picture.shape[1], picture.shape[0])
        drawn = augment.draw_classifier_augmentation(self.net, given, turn.dice.rest, net_size=size)
        classes = self.classes_of((self.dataset.written or self.dataset.images)[index])
        return augment.augment_classifier(picture, drawn, size), classes, self.dataset.images[index]

    def classes_of(self, path: str) -> Rows:
        if self.net.unsupervised:  # nothing is known: each picture has a class of its own, whichever
            return np.eye(len(self.labels), dtype=np.float32)[zlib.crc32(os.fsencode(path)) % len(self.labels)]
        classes = class_vector(path, self.labels, self.net.label_smooth_eps)
        return classes if self.tree is None else fill_hierarchy(classes, self.tree.parents, self.tree.groups)


def class_vector(path: str, labels: Sequence[str], label_smooth_eps: float = 0.0) -> Rows:
    """(classes,) float32: 1 for every label that is a part of the path as the list writes it (data.c:fill_truth_smooth).

    With label_smooth_eps, 1 - eps for those, and eps / (classes - 1) for the others. A path with none or several is named in a warning.
    """
    found = np.array([label in path for label in labels])
    if found.sum() != 1:
        names = ", ".join(label for label, there in zip(labels, found, strict=True) if there)
        warnings.warn(
            f"{path}: {'several labels are' if names else 'no label is'} part of this path{': ' if names else ''}{names}",
            DataWarning,
            stacklevel=2,
        )
    rest = label_smooth_eps / max(len(labels) - 1, 1)
    return np.where(found, np.float32(1 - label_smooth_eps), np.float32(rest))


def fill_hierarchy(classes: Rows, parents: NDArray[np.int64], groups: NDArray[np.int64]) -> Rows:
    """A class vector with the ancestors of its classes; groups of siblings of which it has none say nothing (SECRET_NUM)."""
    result = classes.copy()
    level = np.unique(parents[result != 0])
    while (level := level[level >= 0]).size:
        result[level] = 1
        level = np.unique(parents[level])
    said = np.zeros(int(groups.max()) + 1, bool)
    said[groups[result != 0]] = True
    result[~said[groups]] = SECRET_NUM
    return result


# The stream -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Numbers:
    """The mini-batches from `start` on, without end."""

    start: int
    step: int
    mini_batch: int | Callable[[int], int]
    size: Size | Callable[[int], Size]
    sequence: Callable[[int], int] | None = None

    def __iter__(self) -> Iterator[Wanted]:
        for number in itertools.count(self.start, self.step):
            count = self.mini_batch(number) if callable(self.mini_batch) else self.mini_batch
            size = self.size(number) if callable(self.size) else self.size
            yield Wanted(number, count, size, self.sequence(number) if self.sequence else number)


def _stream(samples: _Samples, net: NetOptions, numbers: _Numbers, workers: int | None) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=None,
        sampler=numbers,
        num_workers=default_workers() if workers is None else workers,
        collate_fn=_same,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # so that the global one is left alone
    )
    with _signals_kept():
        stream = _checked(iter(loader))
    atexit.register(_end, weakref.ref(stream))
    return stream


@contextmanager
def _signals_kept() -> Iterator[None]:
    """torch answers a dead worker with an exception wherever its parent happens to be; `next` notices it too, 5 seconds later, in its place."""
    kept = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGCHLD) if kept else None
    yield
    if kept and previous is not None:
        signal.signal(signal.SIGCHLD, previous)


def _end(reference: weakref.ref[Generator[Batch, None, None]]) -> None:
    """At the end of Python, which would wait for workers that nobody ended."""
    if (stream := reference()) is not None:
        stream.close()


def default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """A worker uses one core. Ctrl-C, and a request to end that went to all processes, are its parent's business: it may still need a
    batch to finish what it does. A second request is its parent's own."""
    cv2.setNumThreads(0)
    requests: list[int] = []

    def end(number: int, _: Any) -> None:
        if requests:
            os._exit(0)
        requests.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def _checked(batches: Iterator[Any]) -> Generator[Batch, None, None]:
    """The batches as they come, mistakes raised; a worker that died is one too."""
    try:
        for batch in batches:
            if isinstance(batch, DarknetError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "worker" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise DarknetError(
            f"a process that reads pictures died ({reason}); was the memory, or the shared memory (/dev/shm), used up? "
            "Use fewer workers, or 0"
        ) from None
    finally:
        del batches  # the traceback would keep it, and with it its workers


def preview(batch: Batch, names: Sequence[str], *, columns: int | None = None) -> Picture:
    """The pictures of a mini-batch side by side, with their boxes (or a classifier's classes): (height, width, 3) uint8 RGB."""
    count, _, height, width = batch.images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    pictures = (batch.images[:, :3].clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    result = np.full((-(-count // columns) * height, columns * width, 3), 127, np.uint8)
    for k, truth in enumerate(batch.truths.cpu().numpy()):
        canvas = np.ascontiguousarray(np.broadcast_to(pictures[k], (height, width, 3)))
        if truth.ndim == 2:
            _draw_boxes(canvas, truth[: int(np.flatnonzero(np.append(truth[:, 0], 0) == 0)[0])], names)
        elif len(truth) == len(names):
            said = [f"{names[index]} {truth[index]:.2f}" for index in np.argsort(-truth)[:4] if truth[index] > 0]
            for line, text in enumerate(said, 1):
                cv2.putText(canvas, text, (4, 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
        top, left = k // columns * height, k % columns * width
        result[top : top + height, left : left + width] = canvas
    return result


def _draw_boxes(canvas: Picture, rows: Rows, names: Sequence[str]) -> None:
    size = np.tile(np.array(canvas.shape[1::-1]), 2)
    corners = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2), 1) * size
    for (left, top, right, bottom), label in zip(
        corners.round().astype(int).tolist(), rows[:, 4].astype(int).tolist(), strict=True
    ):
        ink = class_colour(label)
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), ink, 2)
        name = names[label] if label < len(names) else str(label)
        cv2.putText(canvas, name, (left + 2, max(top - 3, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
