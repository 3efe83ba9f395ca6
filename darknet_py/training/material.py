"""What a network is trained with: mini-batches of a data set's pictures, or of a text, as its cfg asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.loader import Batch, classifier_batches, detection_batches
from darknet_py.data.text import read_symbols, text_batches
from darknet_py.errors import DarknetError
from darknet_py.layers import Head
from darknet_py.layers.rnn import Recurrent
from darknet_py.layers.softmax import Softmax
from darknet_py.names import read_data
from darknet_py.network import Network
from darknet_py.training.loop import Progress
from darknet_py.training.schedule import sequence
from darknet_py.training.sizes import classifier_size, mini_batch_of, network_size
from darknet_py.training.world import World


@dataclass(frozen=True)
class Material:
    """`count` of a `unit`. batches: (the run's beginning, number of a mini-batch counted from there, the processes) → the mini-batches
    from it on, each process's own. options: of the .data file. dataset: of pictures."""

    count: int
    unit: str
    batches: Callable[[Progress, int, World], Iterator[Any]]
    options: dict[str, str]
    dataset: Dataset | None = None


def open_material(
    data: str | os.PathLike[str],
    network: Network,
    *,
    workers: int = 0,
    tokenized: bool = False,
    mixup_beta: float = 0.0,
) -> Material:
    """The pictures of a .data file, or, for a character network, a text.

    Args:
        workers: processes that read and augment pictures. tokenized: the text is numbers. mixup_beta: see `detection_batches`.

    Raises:
        DarknetError: it cannot be read, holds nothing, or does not fit the network.
    """
    if not network.input_shape.c and any(isinstance(layer, Recurrent) for layer in network.layers):
        return _open_text(data, network, tokenized)
    if tokenized:
        raise DarknetError(f"{network.cfg.path}: --tokenized is for character networks; this one reads pictures")
    dataset = open_dataset(data, "train")
    if not len(dataset):
        raise DarknetError(f"{dataset.source}: no pictures to train with")
    _check_classes(network, dataset)

    def batches(progress: Progress, mini_batch: int, world: World) -> Iterator[Batch]:
        return picture_batches(network, dataset, progress, mini_batch, world, workers, mixup_beta)

    return Material(len(dataset), "pictures", batches, read_data(data), dataset)


def _open_text(data: str | os.PathLike[str], network: Network, tokenized: bool) -> Material:
    symbols = network.input_shape.count
    text = read_symbols(data, symbols, tokenized=tokenized)

    def batches(progress: Progress, mini_batch: int, world: World) -> Iterator[Any]:
        return text_batches(text, network.net, symbols, seed=progress.seed, start=mini_batch, path=os.fspath(data))

    return Material(len(text), "symbols", batches, {})


def _check_classes(network: Network, dataset: Dataset) -> None:
    if network.heads and dataset.names and network.classes != len(dataset.names):
        names = f"{dataset.names_file or dataset.source} has {len(dataset.names)} names"
        raise DarknetError(
            f"{network.cfg.path}: the head has classes={network.classes}, but {names}; "
            "set classes (and the filters before each head), or correct the names"
        )


def picture_batches(
    network: Network,
    dataset: Dataset,
    progress: Progress,
    mini_batch: int,
    world: World,
    workers: int,
    mixup_beta: float = 0.0,
) -> Iterator[Batch]:
    """Mini-batches of the sizes, numbers and sequences that the cfg asks for; a resumed run has its seed from its beginning."""
    net, first, seed = network.net, progress.first, progress.seed
    head: Head | None = network.head_layers()[-1] if network.heads else None
    random = head.needs().random if head else 0.0

    def size_of(number: int) -> tuple[int, int]:
        iteration = first + number // net.subdivisions
        return (
            network_size(net, random, iteration, first, seed) if head else classifier_size(net, iteration, first, seed)
        )

    def count_of(number: int) -> int:
        return mini_batch_of(net, random, size_of(number)) * net.time_steps

    def sequence_of(number: int) -> int:
        return number - number % net.subdivisions % sequence(net, first + number // net.subdivisions)

    common: dict[str, Any] = {
        "seed": seed, "start": mini_batch + world.rank, "step": world.size, "workers": workers, "mini_batch": count_of, "size": size_of,
    }  # fmt: skip
    if head:
        return detection_batches(dataset, net, head.options, sequence=sequence_of, mixup_beta=mixup_beta, **common)
    tree = next((layer.tree for layer in network.layers if isinstance(layer, Softmax)), None)
    return classifier_batches(dataset, net, classes=network.classes, tree=tree, **common)
