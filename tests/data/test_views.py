"""Mini-batches whose images belong together: views of one image (contrastive), sequences (track), weights of mixup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from darknet_py.data.dataset import Dataset
from darknet_py.data.loader import image_batches
from darknet_py.data.samples import ImageBatch
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxList, BoxNeeds, ClassNeeds

HEAD = BoxNeeds(classes=2, max_truths=4, truth_format=BoxList(4), jitter=0.3)
NET = NetOptions(width=48, height=32, channels=3, batch=6, hue=0.2, saturation=2.0, exposure=2.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty images, each in a grey of its own, with one object."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number in range(20):
        path = folder / f"{'cat' if number % 2 else 'dog'}-{number:02}.png"
        image = np.full((40, 60, 3), 10 + 10 * number, np.uint8)
        image[10:30, 20:40, 1] //= 2
        cv2.imwrite(str(path), image)
        path.with_suffix(".txt").write_text(f"{number % 2} .5 .5 .33 .5\n")
        paths.append(str(path))
    return Dataset(paths, ["dog", "cat"], "set", labels=["dog", "cat"])


def detections(dataset: Dataset, count: int = 4, head: BoxNeeds = HEAD, **options: float) -> list[ImageBatch]:
    net = replace(NET, **options)  # type: ignore[arg-type]
    stream = image_batches(dataset, net, head, mini_batch=6, seed=3, workers=0)
    return [batch for _, batch in zip(range(count), stream, strict=False)]


def numbers(batch: ImageBatch) -> list[int]:
    return [int(Path(path).stem[-2:]) for path in batch.paths]


def test_contrastive_pairs_are_views_of_one_image(dataset: Dataset) -> None:
    for batch in detections(dataset, contrastive=1, contrastive_jit_flip=1, contrastive_color=1):
        shown = numbers(batch)
        assert shown[::2] == shown[1::2]
        assert len(set(shown)) > 1
        tracks = [set(rows[rows[:, 0] > 0][:, 5].tolist()) for rows in batch.truths]
        assert tracks[0] | tracks[1] == tracks[0] or tracks[1] > tracks[0], (
            "an object has the same number in both views"
        )
        assert not np.array_equal(batch.images[0], batch.images[1])


def test_views_have_place_and_colour_in_common_unless_the_cfg_asks_for_others(dataset: Dataset) -> None:
    def differences(**options: float) -> tuple[bool, bool]:
        place = colour = False
        for batch in detections(dataset, contrastive=1, **options):
            for first, second in ((0, 1), (2, 3), (4, 5)):
                place |= bool((batch.truths[first] != batch.truths[second]).any())
                colour |= bool(
                    (batch.images[first].amax((1, 2)) - batch.images[second].amax((1, 2))).abs().max() > 0.02
                )
        return place, colour

    still = {"hue": 0.0, "saturation": 1.0, "exposure": 1.0}
    assert differences() == (False, False)
    assert differences(contrastive_color=1) == (False, True)
    assert differences(contrastive_jit_flip=1, **still) == (True, False)


def test_contrastive_classifiers_see_each_image_twice(dataset: Dataset) -> None:
    net = replace(NET, contrastive=1, angle=20.0)
    batch = next(image_batches(dataset, net, ClassNeeds(2), mini_batch=6, seed=1, workers=0))
    shown = numbers(batch)
    assert shown[::2] == shown[1::2]
    assert batch.truths.argmax(1).tolist() == [number % 2 for number in shown]
    unknown = next(image_batches(dataset, replace(net, unsupervised=1), ClassNeeds(2), mini_batch=6, seed=1, workers=0))
    assert numbers(unknown) == shown
    assert (unknown.truths[::2] == unknown.truths[1::2]).all()
    assert unknown.truths.sum(1).tolist() == [1] * 6


def test_track_walks_through_the_list_in_lines(dataset: Dataset) -> None:
    """data.c:get_sequential_paths: image i of a sequence belongs to line i mod lines, and each step goes on by the same
    number."""
    steps: set[int] = set()
    for batch in detections(dataset, count=8, track=1, time_steps=3, augment_speed=2):
        shown = np.array(numbers(batch)).reshape(3, 2)
        step = (shown[1:] - shown[:-1]) % len(dataset)
        assert (step == step[0, 0]).all()
        steps.add(int(step[0, 0]))
        places = [rows[0, :4].tolist() for rows in batch.truths]
        assert all(place == pytest.approx(places[0]) for place in places), "all are augmented alike"
    assert steps == {1, 2}


def test_a_sequence_goes_on_through_several_mini_batches(dataset: Dataset) -> None:
    net = replace(NET, track=1, time_steps=3, augment_speed=1)

    def begin(number: int) -> int:
        return number - number % 2

    stream = image_batches(dataset, net, HEAD, mini_batch=6, seed=3, workers=0, sequence=begin)
    first, second, third = (np.array(numbers(batch)).reshape(3, 2) for _, batch in zip(range(3), stream, strict=False))
    assert ((second[0] - first[-1]) % 20).tolist() == [1, 1]
    assert ((third[0] - second[-1]) % 20).tolist() != [1, 1]


def test_truths_of_a_blend_weigh_as_much_as_their_image(dataset: Dataset) -> None:
    for beta in (0.0, 1.5):
        net = replace(NET, mixup=1)
        stream = image_batches(dataset, replace(net, mixup_beta=beta), HEAD, mini_batch=20, seed=3, workers=0)
        batch = next(stream)
        assert batch.truths.shape == (20, 4, 7)
        weights = batch.truths[..., 6]
        single, double = weights[batch.truths[:, 1, 0] == 0], weights[batch.truths[:, 1, 0] > 0]
        assert len(single)
        assert len(double)
        assert (single[:, 0] > 0).all()
        assert double[:, :2].sum(1).tolist() == pytest.approx([1] * len(double))
        assert (len(double[:, 0].unique()) > 1) == (beta > 0)
