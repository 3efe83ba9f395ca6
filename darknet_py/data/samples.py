"""How a mini-batch's samples are made: which images, with which random numbers, read from their files (Darknet:
data.c:load_data_detection, load_data_augment, get_sequential_paths).

All that is random about a sample comes from a generator of its own, made from the seed, the mini-batch's number and the
sample's place in it. With track and contrastive, samples have generators in common. Where the cfg counts in `epochs`,
the image that a sample begins with comes from the shuffled data set; others, of a mosaic, are drawn.
"""

from __future__ import annotations

import functools
import itertools
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.data.augment.dice import Dice, rand_int
from darknet_py.data.augment.steps import LoadedImage, Recipe, Size
from darknet_py.data.class_labels import class_vector, fill_hierarchy
from darknet_py.data.dataset import Dataset
from darknet_py.data.truths import DataWarning, ImageTruths
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxNeeds, ClassNeeds, Needs, Rows
from darknet_py.pictures.levels import levels_of
from darknet_py.pictures.read import read_image

MAX_FAILURES = 50  # images in a row that cannot be used, before training stops


class ImageBatch(NamedTuple):
    """A mini-batch.

    images: (n, c, h, w) float32 in 0..1. paths: of the images; of several in one, the first's.
    truths: of a detector what its head's truth format makes of the rows, usually (n, max_truths, 6) float32 x, y, w, h,
    class, track_id, where zeros end the list (with mixup a seventh number: the weight of the truth's image in the
    blend); of a classifier (n, classes).
    """

    images: Tensor
    truths: Tensor
    paths: list[str]


class BatchRequest(NamedTuple):
    """A mini-batch by its number: so many images, (width, height), the number of the mini-batch that began its
    sequence, and whether its images are not blended with others."""

    number: int
    images: int
    size: Size
    begin: int
    plain: bool = False


class ImageRequest(NamedTuple):
    """One of the images that a sample is made of: its random numbers, and its number in the data set if that is not
    drawn."""

    dice: Dice
    number: int | None = None


def generator(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of something that the key names."""
    return np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, *key])


@functools.lru_cache(maxsize=2)  # a mini-batch can be of two epochs
def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of `count` images in an epoch."""
    return generator(seed, epoch, 0, 0, 0, 8).permutation(count)


@dataclass(frozen=True)
class SampleMaker:
    """Makes mini-batches of a data set by their numbers. It is sent to worker processes, so all of it is picklable.

    recipe, plain_recipe: how images are augmented, and how if they are not blended with others. mini_batch: so many
    images of each mini-batch are the next of an epoch; further ones, of `dynamic_minibatch`, are drawn.
    """

    dataset: Dataset
    net: NetOptions
    needs: Needs
    recipe: Recipe
    plain_recipe: Recipe
    mini_batch: int
    seed: int

    def __getitem__(self, request: BatchRequest) -> ImageBatch | DarknetError:
        """A mini-batch; a mistake is returned, as a worker's exceptions lose their shape."""
        images = np.empty((request.images, self.net.channels, request.size[1], request.size[0]), np.float32)
        truths, paths = [], []
        recipe = self.plain_recipe if request.plain else self.recipe
        try:
            for place in range(request.images):
                rng, requests = self.requests(request, place)
                sample = recipe(map(self.load, requests), request.size, rng)
                levels_of(self.net).fill(images[place], sample.image)
                truths.append(self.formatted(sample.truths))
                paths.append(sample.path)
        except DarknetError as error:
            return error
        except (OSError, ValueError, MemoryError, cv2.error) as error:
            return DarknetError(f"a mini-batch cannot be made: {type(error).__name__}: {error}")
        return ImageBatch(torch.from_numpy(images), torch.from_numpy(np.stack(truths)), paths)

    def rng(self, *key: int) -> np.random.Generator:
        return generator(self.seed, *key)

    def requests(self, batch: BatchRequest, place: int) -> tuple[np.random.Generator, Iterator[ImageRequest]]:
        """What decides how a sample is made, and its images, without end."""
        net, number, begin = self.net, batch.number, batch.begin
        if net.track:
            position, lines = (number - begin) * batch.images + place, max(batch.images // net.time_steps, 1)
            return self.rng(begin, 0, 0, 0, 1), self._in_sequence(begin, position, lines)
        if net.contrastive:
            return self.rng(number, 0, 0, 0, 1), self._in_pairs(number, place)
        own = self.rng(number, place)
        drawn = ImageRequest(Dice.of(own))
        return own, itertools.chain((drawn._replace(number=self.in_epoch(number, place)),), itertools.repeat(drawn))

    def in_epoch(self, number: int, place: int) -> int | None:
        """The image that a sample of a mini-batch begins with, where the cfg counts in epochs: they follow one another
        without a gap, each in an order of its own. None: it is drawn."""
        if not self.net.epochs or place >= self.mini_batch:
            return None
        epoch, position = divmod(number * self.mini_batch + place, len(self.dataset))
        return int(shuffled(self.seed, epoch, len(self.dataset))[position])

    def _in_pairs(self, number: int, place: int) -> Iterator[ImageRequest]:
        """Samples 2k and 2k+1 are views of one image, at the same place or in the same colours unless the cfg asks for
        others."""
        pair = place // 2 * 2
        of_place = place if self.net.contrastive_jit_flip else pair
        of_colour = place if self.net.contrastive_color else pair
        for turn in itertools.count():
            own = self.rng(number, place, turn, 2)
            places, colours = self.rng(number, of_place, turn, 3), self.rng(number, of_colour, turn, 4)
            yield ImageRequest(Dice(self.rng(number, pair, turn, 5), own, places, colours, own))

    def _in_sequence(self, begin: int, position: int, lines: int) -> Iterator[ImageRequest]:
        """Each line of images goes through the list from a place of its own, all augmented alike
        (data.c:get_sequential_paths)."""
        time, line = divmod(position, lines)
        line = line // 2 * 2 if self.net.contrastive else line
        for turn in itertools.count():
            common = self.rng(begin, 0, turn, 6)
            speed = rand_int(1, max(self.net.augment_speed, 1), common)
            first = int(self.rng(begin, line, turn, 7).integers(len(self.dataset)))
            yield ImageRequest(Dice.of(common), (first + time * speed) % len(self.dataset))

    def load(self, request: ImageRequest) -> LoadedImage:
        """An image with its truths, drawn at random where the request does not name it; one that cannot be used is
        replaced by another."""
        reason, index, dataset = "", request.number, self.dataset
        dice = (
            request.dice if isinstance(self.needs, BoxNeeds) else Dice.of(request.dice.rest)
        )  # views of a class share nothing
        for _ in range(MAX_FAILURES):
            index = int(request.dice.image.integers(len(dataset))) if index is None else index
            try:
                image, path = read_image(dataset.images[index], self.net.channels), dataset.images[index]
                label_file = dataset.label_file(index) if isinstance(self.needs, BoxNeeds) else ""
                return LoadedImage(image, self.truths_of(index), path, label_file, dice)
            except DarknetError as error:
                reason, index = str(error), None
                warnings.warn(f"{reason}; another image takes its place", DataWarning, stacklevel=2)
        text = f"{MAX_FAILURES} images in a row cannot be used, so training stops; run python -m darknet_py.check"
        raise DarknetError(f"{reason}; {text}")

    def formatted(self, truths: Rows) -> Rows:
        """A sample's truths as the loss reads them."""
        return self.needs.truth_format(truths) if isinstance(self.needs, BoxNeeds) else truths

    def truths_of(self, index: int) -> ImageTruths | Rows:
        if isinstance(self.needs, BoxNeeds):
            return self.dataset.truths(index)
        return self.classes_of(self.dataset.written_path(index), self.needs)

    def classes_of(self, path: str, needs: ClassNeeds) -> Rows:
        """(classes,) float32, by the labels in an image's path."""
        if self.net.unsupervised:  # nothing is known: each image has a class of its own, whichever
            return np.eye(needs.classes, dtype=np.float32)[zlib.crc32(os.fsencode(path)) % needs.classes]
        labels = (self.dataset.labels or self.dataset.names)[: needs.classes]
        classes = class_vector(path, labels, self.net.label_smooth_eps)
        return classes if needs.tree is None else fill_hierarchy(classes, needs.tree)
