"""Batches for training: what they hold, that any number of workers makes the same ones, and what cannot be used."""

import multiprocessing
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from augmenting import NET, needs, rng
from kit import REALDATA, needs_realdata

from darknet_py.data import loader
from darknet_py.data.augment import mosaic as mosaics
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import AUGMENTATIONS, recipe_for
from darknet_py.data.augment.place import JitterCrop
from darknet_py.data.augment.steps import DrawContext, HalfMixed, ImageStep, OneImage, Recipe, Sample, Then
from darknet_py.data.class_labels import SECRET_NUM, class_vector, fill_hierarchy
from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.preview import preview
from darknet_py.data.samples import BatchRequest, ImageBatch, SampleMaker
from darknet_py.data.truths import OUTSIDE, DataWarning
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxNeeds, CellGrid, ClassNeeds, ClassTree

SMALL = replace(NET, width=64, height=48, hue=0.1, saturation=1.5, exposure=1.5)


# Truths -------------------------------------------------------------------------------------------------------------


def test_a_classifiers_label_is_any_that_occurs_in_the_path() -> None:
    labels = ["cat", "dog", "n0123"]
    assert class_vector("train/n0123/5.jpg", labels).tolist() == [0, 0, 1]
    np.testing.assert_allclose(class_vector("dog.jpg", labels, 0.1), [0.05, 0.9, 0.05], rtol=1e-6)
    with pytest.warns(DataWarning, match="several labels occur in this path: cat, dog"):
        assert class_vector("cat_and_dog.jpg", labels).tolist() == [1, 1, 0]
    with pytest.warns(DataWarning, match="no label occurs in this path"):
        assert class_vector("bird.jpg", labels).tolist() == [0, 0, 0]


def test_a_class_tree_fills_in_the_ancestors_and_masks_groups_without_a_truth() -> None:
    # 0 animal, 1 thing; 2 dog and 3 cat below 0; 4 car and 5 cup below 1; 6 poodle below 2
    parents, groups = np.array([-1, -1, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2, 3])
    vector = np.zeros(7, np.float32)
    vector[2] = 1
    assert fill_hierarchy(vector, ClassTree(parents, groups)).tolist() == [
        1,
        0,
        1,
        0,
        SECRET_NUM,
        SECRET_NUM,
        SECRET_NUM,
    ]


def test_truths_by_cell_for_yolov1() -> None:
    rows = np.array([[0.75, 0.3, 0.2, 0.4, 1, 0], [0.8, 0.1, 0.1, 0.1, 0, 0], [1.0, 1.0, 0.5, 0.5, 0, 0]], np.float32)
    cells = CellGrid(2, 3)(rows).reshape(2, 2, 8)
    np.testing.assert_allclose(
        cells[0, 1], [1, 0, 1, 0, 0.5, 0.6, 0.2, 0.4], rtol=1e-6
    )  # of two in the cell, the first
    assert cells[1, 1, :4].tolist() == [1, 1, 0, 0]
    assert not cells[:, 0].any()


# Batches ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six images of different sizes with one to four objects each."""
    folder = tmp_path_factory.mktemp("set")
    generator = rng(9)
    images = []
    for k in range(6):
        height, width = generator.integers(40, 90, 2)
        path = folder / f"cat{k}.png"
        cv2.imwrite(str(path), generator.integers(0, 256, (height, width, 3), np.uint8))
        lines = [
            f"{generator.integers(3)} {' '.join(f'{v:.3f}' for v in generator.uniform(0.3, 0.6, 4))}"
            for _ in range(1 + k % 4)
        ]
        path.with_suffix(".txt").write_text("\n".join(lines))
        images.append(str(path))
    return Dataset(images, ["cat", "dog", "cow"], "set")


def first(batches: Iterator[ImageBatch], count: int) -> list[ImageBatch]:
    result = list(islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return result


def assert_same(left: list[ImageBatch], right: list[ImageBatch]) -> None:
    assert len(left) == len(right)
    for batch, other in zip(left, right, strict=True):
        assert batch.paths == other.paths
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.truths, other.truths)


@pytest.mark.parametrize("options", [{"mosaic": 1}, {"mixup": 1}, {"letter_box": 1}, {"blur": 1, "gaussian_noise": 20}])
def test_a_batch_is_images_and_truths(dataset: Dataset, options: dict[str, int]) -> None:
    for batch in first(image_batches(dataset, replace(SMALL, **options), needs(), mini_batch=5, seed=1, workers=0), 6):
        assert batch.images.shape == (5, 3, 48, 64)
        assert batch.images.dtype == batch.truths.dtype == torch.float32
        assert 0 <= batch.images.min() < batch.images.max() <= 1
        assert batch.truths.shape == (5, 20, 7 if options.get("mixup") else 6)
        assert set(batch.paths) <= set(dataset.images)
        real = batch.truths[..., 0] > 0
        assert (real == (batch.truths[..., 2] > 0)).all()
        assert (real.int().diff(dim=1) <= 0).all()  # zeros end the list
        rows = batch.truths[real]
        assert len(rows) > 0
        low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
        beyond = 1 / 48 if "mosaic" in options else 1e-6  # a mosaic's boxes are cut at whole pixels, towards 0
        assert low.min() > -beyond
        assert high.max() < 1 + beyond
        assert (rows[:, 2:4] >= 1 / torch.tensor([64, 48]) - 1e-6).all()
        assert set(rows[:, 4].tolist()) <= {0, 1, 2}


def test_the_same_seed_gives_the_same_batches_whatever_the_number_of_workers(dataset: Dataset) -> None:
    net = replace(SMALL, mosaic=1, gaussian_noise=20)

    def batches(workers: int, seed: int = 4, **more: Any) -> list[ImageBatch]:
        return first(image_batches(dataset, net, needs(), mini_batch=3, seed=seed, workers=workers, **more), 5)

    plain = batches(0)
    for workers in (1, 2):
        assert_same(batches(workers), plain)
    assert not torch.equal(batches(0, seed=5)[0].images, plain[0].images)
    assert not torch.equal(plain[0].images, plain[1].images)


def test_starting_at_a_mini_batch_is_the_same_as_skipping_those_before(dataset: Dataset) -> None:
    for workers in (0, 2):
        whole = first(image_batches(dataset, SMALL, needs(), mini_batch=2, seed=4, workers=0), 7)
        assert_same(
            first(image_batches(dataset, SMALL, needs(), mini_batch=2, seed=4, start=4, workers=workers), 3),
            whole[4:],
        )


def test_size_and_mini_batch_may_follow_the_number(dataset: Dataset) -> None:
    def size_of(number: int) -> tuple[int, int]:
        return (32 + 32 * min(number // 2, 9), 32)

    for workers in (0, 2):
        batches = image_batches(
            dataset, SMALL, needs(), mini_batch=lambda k: min(1 + k, 9), seed=1, start=1, workers=workers, size=size_of
        )
        shapes = [tuple(batch.images.shape) for batch in first(batches, 4)]
        assert shapes == [(2, 3, 32, 32), (3, 3, 32, 64), (4, 3, 32, 64), (5, 3, 32, 96)]


def test_images_are_drawn_evenly_with_replacement(dataset: Dataset) -> None:
    net = replace(SMALL, width=8, height=8)
    batch = next(image_batches(dataset, net, needs(), mini_batch=1500, seed=1, workers=0))
    share = np.array([batch.paths.count(path) for path in dataset.images]) / 1500
    np.testing.assert_allclose(share, 1 / 6, atol=0.039)


def test_half_of_the_samples_are_mosaics(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(mosaics, "mosaic", lambda images, *_: made.append(1) or images[0])
    next(
        image_batches(dataset, replace(SMALL, width=8, height=8, mosaic=1), needs(), mini_batch=500, seed=1, workers=0)
    )
    assert len(made) / 500 == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize(("channels", "kind"), [(1, np.uint8), (3, np.uint16), (4, np.uint8)])
def test_grey_transparent_and_16_bit_images(tmp_path: Path, channels: int, kind: Any) -> None:
    image = rng(1).integers(0, np.iinfo(kind).max, (40, 50, 4 if channels == 4 else 3), kind)
    cv2.imwrite(str(tmp_path / "1.png"), image)
    (tmp_path / "1.txt").write_text("0 .5 .5 .5 .5")
    dataset = Dataset([str(tmp_path / "1.png")], ["cat"], "set")
    for options in ({}, {"mosaic": 1}, {"mixup": 1}, {"blur": 5}):
        net = replace(SMALL, channels=channels, **options)
        batch = next(image_batches(dataset, net, needs(), mini_batch=8, seed=1, workers=0))
        assert batch.images.shape == (8, channels, 48, 64)
        assert 0.1 < batch.images.mean() < 0.9


def damaged(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A good image, a missing file, a file that is no image, and an image with malformed labels."""
    (tmp_path / "none.jpg").write_bytes(b"not an image")
    image = cv2.imread(dataset.images[0])
    cv2.imwrite(str(tmp_path / "labels.png"), image)
    (tmp_path / "labels.txt").write_text("0 .5 .5")
    return replace(
        dataset,
        images=[
            dataset.images[1],
            str(tmp_path / "missing.jpg"),
            str(tmp_path / "none.jpg"),
            str(tmp_path / "labels.png"),
        ],
    )


def test_an_image_that_cannot_be_used_is_named_and_another_takes_its_place(dataset: Dataset, tmp_path: Path) -> None:
    bad = damaged(dataset, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        batch = next(image_batches(bad, SMALL, needs(), mini_batch=30, seed=1, workers=0))
    assert set(batch.paths) == {dataset.images[1]}
    said = sorted(str(warning.message) for warning in caught)
    assert len(said) == 3
    assert all(text.endswith("; another image takes its place") for text in said)
    assert "labels.txt:1: '0 .5 .5' has 3 values" in said[0]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_where_no_image_can_be_used_training_stops_with_a_sentence(
    dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    bad = replace(damaged(dataset, tmp_path), images=[str(tmp_path / "missing.jpg")])
    with pytest.raises(DarknetError, match=r"missing\.jpg: cannot read .* 50 images in a row") as raised:
        next(image_batches(bad, SMALL, needs(), mini_batch=2, seed=1, workers=workers))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("net", "head", "message"),
    [
        ({"letter_box": 1, "mosaic": 1}, {}, "letter_box=1 and mosaic=1 do not go together"),
        ({}, {"resize": 0.0}, "resize=0"),
        ({"channels": 6}, {}, "channels=6"),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(
    dataset: Dataset, net: dict[str, int], head: dict[str, float], message: str
) -> None:
    with pytest.raises(DarknetError, match=message):
        image_batches(dataset, replace(SMALL, **net), needs(**head), mini_batch=2, seed=1, workers=0)


def test_a_data_set_without_any_label_file_cannot_train_a_detector(dataset: Dataset) -> None:
    with pytest.raises(DarknetError, match="none of its 6 images has a label file"):
        image_batches(replace(dataset, kind="none"), SMALL, needs(), mini_batch=2, seed=1, workers=0)


def test_detectors_ignore_cutmix_and_say_so(dataset: Dataset) -> None:
    with pytest.warns(DataWarning, match="cutmix=1"):
        batches = image_batches(dataset, replace(SMALL, cutmix=1), needs(), mini_batch=2, seed=1, workers=0)
    assert_same(first(batches, 2), first(image_batches(dataset, SMALL, needs(), mini_batch=2, seed=1, workers=0), 2))


def test_workers_end_with_their_batches(dataset: Dataset) -> None:
    before = {process.pid for process in multiprocessing.active_children()}
    batches = image_batches(dataset, SMALL, needs(), mini_batch=2, seed=1, workers=2)
    next(batches)
    assert len({process.pid for process in multiprocessing.active_children()} - before) == 2
    batches.close()  # type: ignore[attr-defined]
    assert {process.pid for process in multiprocessing.active_children()} <= before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals as on Unix")
def test_workers_stay_when_all_processes_are_asked_to_end(dataset: Dataset) -> None:
    """`timeout` and schedulers send SIGTERM to the whole group; the parent needs batches to finish its iteration."""
    before = {process.pid for process in multiprocessing.active_children()}
    batches = image_batches(dataset, SMALL, needs(), mini_batch=2, seed=1, workers=2)
    next(batches), next(batches)  # one of each worker, so both have started
    for pid in {process.pid for process in multiprocessing.active_children()} - before:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert len(first(batches, 8)) == 8
    assert {process.pid for process in multiprocessing.active_children()} <= before


def test_a_worker_that_is_killed_is_one_sentence(dataset: Dataset) -> None:
    before = {process.pid for process in multiprocessing.active_children()}
    batches = image_batches(dataset, SMALL, needs(), mini_batch=2, seed=1, workers=1)
    next(batches)
    (worker,) = [process for process in multiprocessing.active_children() if process.pid not in before]
    worker.kill()
    worker.join()
    with pytest.raises(DarknetError, match="a worker process died"):
        first(batches, 100)


def test_the_global_random_numbers_are_left_alone(dataset: Dataset) -> None:
    torch.manual_seed(3)
    state, ours = torch.get_rng_state(), np.random.get_state()[1].copy()
    first(image_batches(dataset, replace(SMALL, mosaic=1), needs(), mini_batch=2, seed=1, workers=1), 2)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], ours)


@pytest.mark.parametrize(
    "options", [{}, {"mixup": 1}, {"cutmix": 1}, {"mosaic": 1}, {"mosaic": 1, "cutmix": 1}, {"blur": 1}]
)
def test_batches_for_a_classifier(dataset: Dataset, options: dict[str, int]) -> None:
    mixed = replace(dataset, images=dataset.images[:2], written=["cat/1.png", "dog/2.png"], kind="none")
    net = replace(SMALL, angle=7, aspect=0.75, label_smooth_eps=0.1, **options)

    def batches(workers: int, start: int = 0) -> Iterator[ImageBatch]:
        return image_batches(mixed, net, ClassNeeds(3), mini_batch=8, seed=2, workers=workers, start=start)

    whole = first(batches(0), 3)
    for batch in whole:
        assert batch.images.shape == (8, 3, 48, 64)
        assert batch.truths.shape == (8, 3)
        np.testing.assert_allclose(batch.truths.sum(1), 1, rtol=1e-5)
        assert 0.1 < batch.images.mean() < 0.9
    assert_same(first(batches(2, 1), 2), whole[1:])
    pure = np.isclose(np.concatenate([batch.truths for batch in whole]).max(1), 0.9)
    assert pure.all() == (not set(options) & {"mixup", "cutmix", "mosaic"})


def test_a_class_tree_in_batches_for_a_classifier(dataset: Dataset) -> None:
    labelled = replace(dataset, labels=["animal", "thing", "cat", "dog"], images=dataset.images[:1])
    tree = ClassTree(np.array([-1, -1, 0, 0]), np.array([0, 0, 1, 1]))
    batch = next(image_batches(labelled, SMALL, ClassNeeds(4, tree), mini_batch=2, seed=1, workers=0))
    assert batch.truths.tolist() == [[1, 0, 1, 0]] * 2


def test_a_yolov1_head_gets_its_truths_by_cell(dataset: Dataset) -> None:
    head = replace(needs(), truth_format=CellGrid(5, 3), augmentation="darknet_cells")
    batch = next(image_batches(dataset, SMALL, head, mini_batch=4, seed=1, workers=0))
    assert batch.truths.shape == (4, 5 * 5 * (1 + 3 + 4))
    cells = batch.truths.reshape(4, 25, 8)
    responsible = cells[..., 0] == 1
    assert responsible.any()
    assert (cells[responsible][:, 1:4].sum(1) == 1).all()
    assert not cells[~responsible].any()


def test_all_that_a_worker_needs_can_be_sent_to_it(dataset: Dataset) -> None:
    """Where processes are not forked (Windows, macOS), it is pickled."""
    request = BatchRequest(3, 2, (32, 32), 3)
    for mixing in ({}, {"mosaic": 1}, {"mixup": 1}, {"mosaic": 1, "cutmix": 1, "blur": 1}):
        net = replace(SMALL, **mixing)
        for wanted in (ClassNeeds(3),) if "cutmix" in mixing else (needs(), ClassNeeds(3)):
            samples = SampleMaker(dataset, net, wanted, recipe_for(net, wanted), recipe_for(SMALL, wanted), 2, 1)
            left, right = samples[request], pickle.loads(pickle.dumps(samples))[request]
            assert_same([left], [right])


# From outside the package -------------------------------------------------------------------------------------------


class HalfTurn(ImageStep):
    """Half of the images are turned upside down."""

    def draw(self, context: DrawContext, dice: Dice) -> bool:
        assert context.boxes.shape[1] == 4
        return bool(dice.place.integers(2))

    def move(self, boxes: np.ndarray, drawn: bool) -> np.ndarray:
        return np.concatenate((1 - boxes[:, :2], boxes[:, 2:]), 1) if drawn else boxes

    def apply(self, image: np.ndarray, drawn: bool, truths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image[::-1, ::-1]) if drawn else image


class LeftHalf(ImageStep):
    """Objects in the right half are no longer to be seen."""

    def draw(self, context: DrawContext, dice: Dice) -> None:
        assert context.size == context.net_size

    def move(self, boxes: np.ndarray, drawn: None) -> np.ndarray:
        return np.where(boxes[:, :1] < 0.5, boxes, OUTSIDE)

    def apply(self, image: np.ndarray, drawn: None, truths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        assert (truths[:, 0] < 0.5).all()
        return image


def twice(samples: Sequence[Sample], net_size: tuple[int, int], generator: np.random.Generator) -> Sample:
    """Two images, one over the other."""
    first, second = samples
    height = net_size[1] // 2
    return first._replace(image=np.concatenate((first.image[:height], second.image[height:])))


def centre_count(rows: np.ndarray) -> np.ndarray:
    """A truth format: how many centres lie on the left, and on the right."""
    return np.bincount((rows[:, 0] >= 0.5).astype(int), minlength=2).astype(np.float32)


def test_augmentation_and_truth_format_may_come_from_outside(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(net: NetOptions, wanted: BoxNeeds) -> Recipe:
        return Then(HalfMixed(OneImage((HalfTurn(), JitterCrop(flip=False)), wanted), 2, twice), (LeftHalf(),))

    monkeypatch.setitem(AUGMENTATIONS, "halves", halves)
    wanted = replace(needs(), augmentation="halves", truth_format=centre_count)
    batch = next(image_batches(dataset, SMALL, wanted, mini_batch=40, seed=1, workers=0))
    assert batch.truths.shape == (40, 2)
    assert (batch.truths[:, 0] > 0).any()
    assert (batch.truths[:, 1] == 0).all()
    again = next(image_batches(dataset, SMALL, wanted, mini_batch=40, seed=1, workers=1))
    assert_same([batch], [again])


def test_an_unknown_augmentation_is_named(dataset: Dataset) -> None:
    with pytest.raises(DarknetError, match="there is no augmentation 'mosiac'; known are darknet, "):
        image_batches(dataset, SMALL, replace(needs(), augmentation="mosiac"), mini_batch=2, seed=1, workers=0)


def test_mixup_with_a_yolov1_head_is_ignored_and_named(dataset: Dataset) -> None:
    head = replace(needs(), truth_format=CellGrid(5, 3), augmentation="darknet_cells")
    with pytest.warns(DataWarning, match="mixup=1: Darknet ignores it with a .detection. head"):
        batches = image_batches(dataset, replace(SMALL, mixup=1), head, mini_batch=2, seed=1, workers=0)
    assert_same(first(batches, 2), first(image_batches(dataset, SMALL, head, mini_batch=2, seed=1, workers=0), 2))


def test_a_classifier_needs_as_many_labels_as_classes(dataset: Dataset) -> None:
    with pytest.raises(DarknetError, match="3 labels, but the network has 10 classes"):
        image_batches(dataset, SMALL, ClassNeeds(10), mini_batch=2, seed=1, workers=0)
    batch = next(image_batches(dataset, SMALL, ClassNeeds(2), mini_batch=2, seed=1, workers=0))
    assert batch.truths.shape == (2, 2)


@needs_realdata
def test_a_preview_shows_all_images_with_their_boxes() -> None:
    bccd = open_dataset(REALDATA / "bccd/bccd.data")
    net = replace(NET, width=256, height=192, mosaic=1, saturation=1.5, exposure=1.5, hue=0.1)
    batch = next(image_batches(bccd, net, needs(90), mini_batch=5, seed=3, workers=0))
    shown = preview(batch, bccd.names)
    assert shown.shape == (2 * 192, 3 * 256, 3)
    assert shown.dtype == np.uint8
    plain = (batch.images[0].permute(1, 2, 0).numpy() * 255).round()
    changed = (shown[:192, :256] != plain).any(2)
    assert 0.01 < changed.mean() < 0.6  # lines and names
    assert (shown[192:, 512:] == 127).all()  # no sixth image
    vector = ImageBatch(batch.images, torch.eye(5)[:, :3], batch.paths)
    assert preview(vector, bccd.names, columns=5).shape == (192, 5 * 256, 3)


def test_too_little_shared_memory_for_the_workers_is_found_before_they_start(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    growing = loader._Requests(0, 1, 4, lambda number: (416, 416) if number > 1000 else (32, 32))
    with pytest.raises(DarknetError, match=r"has 1 MB free, but the batches of 2 workers take 42 MB; use fewer"):
        loader._check_shared_memory(growing, 3, 2)
    with pytest.raises(DarknetError, match="use fewer"):
        next(image_batches(dataset, replace(SMALL, width=416, height=416), needs(), mini_batch=64, seed=1, workers=2))
    loader._check_shared_memory(growing, 3, 0)
    loader._check_shared_memory(loader._Requests(0, 1, 1, (32, 32)), 3, 2)


class Unsendable(torch.Tensor):
    def __reduce_ex__(self, protocol: object) -> object:
        raise RuntimeError("unable to allocate shared memory")


@pytest.mark.skipif(sys.platform == "win32", reason="workers are forked")
def test_a_worker_that_cannot_hand_over_its_batch_is_one_sentence(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when /dev/shm fills up in the middle of a run: the worker lives on, but its batch never comes."""
    monkeypatch.setattr(loader, "_as_it_is", lambda _: torch.zeros(1).as_subclass(Unsendable))
    with pytest.raises(DarknetError, match=r"a worker process died .*; memory, or shared memory \(/dev/shm\)"):
        first(image_batches(dataset, SMALL, needs(), mini_batch=2, seed=1, workers=2), 1)
