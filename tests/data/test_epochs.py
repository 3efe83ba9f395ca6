"""Where a cfg counts in epochs, each of them has every image once, in an order of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from augmenting import NET, needs
from small_data import write_noise

from darknet_py.data.augment.canvas import CanvasMosaic
from darknet_py.data.augment.steps import Sample
from darknet_py.data.dataset import Dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.samples import ImageBatch

IMAGES = 7
NETWORK = replace(NET, width=32, height=32, batch=4, subdivisions=1, max_batches=0, epochs=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images of noise with an object each."""
    folder = tmp_path_factory.mktemp("set")
    images = [write_noise(folder / f"{number}.png", number) for number in range(IMAGES)]
    for image in images:
        image.with_suffix(".txt").write_text("0 .5 .5 .4 .4")
    return Dataset([str(image) for image in images], ["cat"], "set")


def batches(dataset: Dataset, count: int, *, net: Any = NETWORK, **more: Any) -> list[ImageBatch]:
    stream = image_batches(dataset, net, needs(), **{"mini_batch": 4, "seed": 3, "workers": 0} | more)
    made = list(islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return made


def passes(made: list[ImageBatch]) -> list[list[str]]:
    """The images, in pieces as long as the data set."""
    paths = [Path(path).stem for batch in made for path in batch.paths]
    return [paths[start : start + IMAGES] for start in range(0, len(paths) - IMAGES + 1, IMAGES)]


@pytest.mark.parametrize("recipe", ["darknet", "yolov5", "yolov7", "yolov8", "yolox"])
@pytest.mark.parametrize("mosaic", [0, 1])
def test_each_image_comes_once_in_an_epoch_though_batches_do_not_end_with_it(
    dataset: Dataset, recipe: str, mosaic: int
) -> None:
    found = passes(batches(dataset, 7, net=replace(NETWORK, augmentation=recipe, mosaic=mosaic)))
    assert len(found) == 4
    assert all(len(set(images)) == IMAGES for images in found)
    assert len({tuple(images) for images in found}) == 4


def test_the_order_depends_on_the_seed_alone(dataset: Dataset) -> None:
    whole = batches(dataset, 8)
    for more in ({"workers": 2}, {"start": 3}, {"start": 3, "workers": 1}):
        for made, wanted in zip(batches(dataset, 5, **more), whole[more.get("start", 0) :], strict=False):
            assert made.paths == wanted.paths
            assert torch.equal(made.images, wanted.images)
    assert [batch.paths for batch in batches(dataset, 8, seed=4)] != [batch.paths for batch in whole]


def test_processes_share_an_epoch(dataset: Dataset) -> None:
    halves = [batches(dataset, 4, start=rank, step=2) for rank in (0, 1)]
    alone = [batch.paths for batch in batches(dataset, 8)]
    assert [batch.paths for pair in zip(*halves, strict=True) for batch in pair] == alone


def test_what_larger_mini_batches_have_more_is_drawn(dataset: Dataset) -> None:
    made = batches(dataset, 7, mini_batch=lambda number: 4 + number)
    assert all(len(set(paths)) == IMAGES for paths in passes([batch._replace(paths=batch.paths[:4]) for batch in made]))


def test_without_epochs_images_are_drawn_with_replacement(dataset: Dataset) -> None:
    assert any(len(set(paths)) < IMAGES for paths in passes(batches(dataset, 14, net=replace(NETWORK, epochs=None))))


def test_the_first_image_lies_anywhere_in_a_mosaic_of_yolov5(dataset: Dataset) -> None:
    rng, numbers = np.random.default_rng(0), iter(range(10_000))

    def one(*_: Any) -> Sample:
        number = next(numbers) % 4
        return Sample(np.full((8, 8, 3), number, np.uint8), np.zeros((0, 6), np.float32), str(number))

    for shuffled in (False, True):
        mosaic = CanvasMosaic(one, 10, shuffled)
        made = [mosaic(iter(()), (8, 8), rng) for _ in range(200)]
        places = Counter(int(np.flatnonzero((sample.image[..., 0] == 0).reshape(-1))[0] // 128) for sample in made)
        assert {sample.path for sample in made} == {"0"}
        assert len(places) == (2 if shuffled else 1)
