"""What a network is trained with: mini-batches of a data set's images, or of a text, as its cfg asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.samples import ImageBatch
from darknet_py.data.text import TextBatch, read_symbols, text_batches
from darknet_py.errors import DarknetError
from darknet_py.layers.needs import BoxNeeds
from darknet_py.layers.rnn import Recurrent
from darknet_py.names import read_data
from darknet_py.network import Network
from darknet_py.training.schedule import sequence
from darknet_py.training.sizes import classifier_size, mini_batch_of, network_size
from darknet_py.training.world import World


@dataclass(frozen=True)
class Material:
    """`count` images or symbols (`unit`).

    batches: (seed, first iteration of the run, number of a mini-batch counted from there, the processes) → the
    mini-batches from it on, each process's own. options: of the .data file. dataset: of images.
    """

    count: int
    unit: str
    batches: Callable[[int, int, int, World], Iterator[Any]]
    options: dict[str, str]
    dataset: Dataset | None = None


def open_material(
    data: str | os.PathLike[str],
    network: Network,
    *,
    workers: int = 0,
    tokenized: bool = False,
) -> Material:
    """The images of a .data file, or, for a character network, a text.

    Args:
        workers: processes that read and augment images. tokenized: the text is numbers.

    Raises:
        DarknetError: it cannot be read, holds nothing, or does not fit the network.
    """
    if not network.input_shape.c and any(isinstance(layer, Recurrent) for layer in network.layers):
        return _open_text(data, network, tokenized)
    if tokenized:
        raise DarknetError(f"{network.cfg.path}: --tokenized is for character networks; this one reads images")
    dataset = open_dataset(data, "train")
    if not len(dataset):
        raise DarknetError(f"{dataset.source}: no images to train with")
    _check_classes(network, dataset)

    def batches(seed: int, first_iteration: int, mini_batch: int, world: World) -> Iterator[ImageBatch]:
        return _image_batches(network, dataset, seed, first_iteration, mini_batch, world, workers)

    return Material(len(dataset), "images", batches, read_data(data), dataset)


def _open_text(data: str | os.PathLike[str], network: Network, tokenized: bool) -> Material:
    symbols = network.input_shape.count
    text = read_symbols(data, symbols, tokenized=tokenized)

    def batches(seed: int, first_iteration: int, mini_batch: int, world: World) -> Iterator[TextBatch]:
        return text_batches(text, network.net, symbols, seed=seed, start=mini_batch, path=os.fspath(data))

    return Material(len(text), "symbols", batches, {})


def _check_classes(network: Network, dataset: Dataset) -> None:
    if network.heads and dataset.names and network.classes != len(dataset.names):
        names = f"{dataset.names_file or dataset.source} has {len(dataset.names)} names"
        raise DarknetError(
            f"{network.cfg.path}: the head has classes={network.classes}, but {names}; "
            "set classes (and the filters before each head), or correct the names"
        )


def _image_batches(
    network: Network,
    dataset: Dataset,
    seed: int,
    first_iteration: int,
    mini_batch: int,
    world: World,
    workers: int,
) -> Iterator[ImageBatch]:
    """Mini-batches of the sizes, numbers and sequences that the cfg asks for."""
    net, needs = network.net, network.needs()
    if needs is None:
        raise DarknetError(
            f"{network.cfg.path}: no layer has a loss, so there is nothing to train; add a head or [cost]"
        )
    random = needs.random if isinstance(needs, BoxNeeds) else 0.0

    def size_of(number: int) -> tuple[int, int]:
        iteration = first_iteration + number // net.subdivisions
        if isinstance(needs, BoxNeeds):
            return network_size(net, random, iteration, first_iteration, seed)
        return classifier_size(net, iteration, first_iteration, seed)

    def count_of(number: int) -> int:
        return mini_batch_of(net, random, size_of(number)) * net.time_steps

    def sequence_of(number: int) -> int:
        return number - number % net.subdivisions % sequence(net, first_iteration + number // net.subdivisions)

    return image_batches(
        dataset,
        net,
        needs,
        mini_batch=count_of,
        seed=seed,
        start=mini_batch + world.rank,
        step=world.size,
        workers=workers,
        size=size_of,
        sequence=sequence_of if isinstance(needs, BoxNeeds) else None,
    )
