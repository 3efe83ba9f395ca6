"""What a network is trained with, as its cfg asks for it: mini-batches of a data set's images, or of a text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.preview import preview
from darknet_py.data.samples import ImageBatch
from darknet_py.data.survey import survey
from darknet_py.data.text import TextBatch, read_symbols, text_batches
from darknet_py.errors import DarknetError
from darknet_py.layers.needs import BoxNeeds, Needs
from darknet_py.layers.rnn import Recurrent
from darknet_py.names import DataFile, read_data
from darknet_py.network import Network
from darknet_py.pictures.levels import Levels, levels_of
from darknet_py.pictures.write import write_image
from darknet_py.training.schedule import is_plain, sequence_length
from darknet_py.training.sizes import classifier_size, mini_batch_of, network_size
from darknet_py.training.step import losses_of
from darknet_py.training.world import World

MiniBatch: TypeAlias = ImageBatch | TextBatch
Batches: TypeAlias = Callable[[int, int, int, World], Iterator[MiniBatch]]
"""(seed, first iteration of the run, number of a mini-batch, counted from 0 at that iteration, this process) → this
process's mini-batches from that number on: with rank r of n processes number + r, number + r + n …"""


@dataclass(frozen=True)
class Material:
    """What a network is trained with.

    count: how many images or symbols, as `unit` says. batches: its mini-batches, without end. options: of the .data
    file; none of a text. dataset: the images; None for a text. summary: what of them can be used, in a sentence.
    levels: how the images became values.
    """

    count: int
    unit: str
    batches: Batches
    options: DataFile
    dataset: Dataset | None = None
    summary: str = ""
    levels: Levels = field(default_factory=Levels)


def open_material(
    data: str | os.PathLike[str],
    network: Network,
    *,
    workers: int = 0,
    tokenized: bool = False,
) -> Material:
    """Opens the images of a .data file, or, for a character network, a text.

    Args:
        data: path of the .data file or the text.
        workers: processes that read and augment images; 0: none, it is done between the steps.
        tokenized: the text is numbers, one for each symbol.

    Raises:
        DarknetError: it cannot be read, is empty, or does not fit the network.
    """
    if workers < 0:
        raise DarknetError(f"--workers {workers}: write 0 or more")
    if not network.input_shape.c and any(isinstance(layer, Recurrent) for layer in network.layers):
        return _open_text(data, network, tokenized)
    if tokenized:
        raise DarknetError(f"{network.cfg.path}: --tokenized is for character networks; this one reads images")
    dataset = open_dataset(data, "train")
    if not len(dataset):
        raise DarknetError(f"{dataset.source}: no images to train with")
    options, needs = read_data(data), _needs(network)
    _check_classes(network, dataset, options)
    is_labelled = isinstance(needs, BoxNeeds) or not network.net.unsupervised
    summary = survey(dataset, needs, network.size).summary(_names(dataset, needs)) if is_labelled else ""

    def batches(seed: int, first_iteration: int, mini_batch: int, world: World) -> Iterator[ImageBatch]:
        return _image_batches(network, dataset, seed, first_iteration, mini_batch, world, workers)

    return Material(len(dataset), "images", batches, options, dataset, summary, levels_of(network.net))


def _names(dataset: Dataset, needs: Needs) -> list[str]:
    return dataset.names if isinstance(needs, BoxNeeds) else dataset.labels or dataset.names


def _needs(network: Network) -> Needs:
    needs = network.needs()
    if needs is None:
        for layer, _ in losses_of(network):
            text = "it is trained with the truths of a head, and there is none; write one, e.g. [roi_head]"
            network.cfg.fail(network.cfg.sections[layer.index + 1], None, text)
        raise DarknetError(f"{network.cfg.path}: nothing to train: no layer has a loss; add a head or [cost]")
    return needs


def _open_text(data: str | os.PathLike[str], network: Network, tokenized: bool) -> Material:
    symbols = network.input_shape.count
    text = read_symbols(data, symbols, tokenized=tokenized)

    def batches(seed: int, first_iteration: int, mini_batch: int, world: World) -> Iterator[TextBatch]:
        return text_batches(text, network.net, symbols, seed=seed, start=mini_batch, path=os.fspath(data))

    return Material(len(text), "symbols", batches, DataFile(data))


def _check_classes(network: Network, dataset: Dataset, options: DataFile) -> None:
    network.check_classes()
    if network.heads and dataset.names and network.classes != len(dataset.names):
        names = f"{dataset.names_file or dataset.source} has {len(dataset.names)} names"
        raise DarknetError(
            f"{network.cfg.path}: the head has classes={network.classes}, but {names}; "
            "set classes (and the filters before each head), or correct the names"
        )
    if not network.heads and options.count("classes") not in (None, network.classes):  # classifier.c: train_classifier
        raise DarknetError(
            f"{options.where('classes')}: but {network.cfg.path} has {network.classes} outputs; "
            "set the filters of its last convolution, or correct classes"
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
    """Mini-batches with the image sizes, numbers of images and sequences that the cfg asks for."""
    net, needs = network.net, _needs(network)
    random = needs.random if isinstance(needs, BoxNeeds) else 0.0

    def size_of(number: int) -> tuple[int, int]:
        iteration = first_iteration + number // net.subdivisions
        if isinstance(needs, BoxNeeds):
            return network_size(net, random, iteration, first_iteration, seed)
        return classifier_size(net, iteration, first_iteration, seed)

    def count_of(number: int) -> int:
        return mini_batch_of(net, random, size_of(number)) * net.time_steps

    def sequence_of(number: int) -> int:
        length = sequence_length(net, first_iteration + number // net.subdivisions)
        return number - number % net.subdivisions % length

    def plain(number: int) -> bool:
        return is_plain(net, first_iteration + number // net.subdivisions)

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
        plain=plain,
    )


def write_previews(material: Material, folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Writes the first `count` mini-batches of a run, as augmented, with their boxes: batch-1.png, batch-2.png …

    Raises:
        DarknetError: of a text, which has no images.
    """
    if material.dataset is None:
        raise DarknetError("a character network has no images; leave --show-batches out")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, batch in zip(range(count), material.batches(seed, 1, 0, World()), strict=False):
        assert isinstance(batch, ImageBatch)
        written.append(folder / f"batch-{number + 1}.png")
        write_image(written[-1], preview(batch, material.dataset.names, levels=material.levels))
    return written
