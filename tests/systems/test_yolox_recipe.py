"""The cfgs of YOLOX train with the settings of its own program (`hyper` in `../shared/yolos/yolox`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augmenting import NET, needs
from project import CFGS
from yolos import YOLOS

from darknet_py.cfg import parse_cfg
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mixup import Overlaid
from darknet_py.data.augment.steps import LoadedImage, Sample, Size
from darknet_py.data.augment.yolos import yolov5, yolov8, yolox
from darknet_py.data.truths import make_truths
from darknet_py.layers import NetOptions
from darknet_py.layers.anchor_free import AnchorFree
from darknet_py.options import read_options
from darknet_py.training.sizes import network_size

SETTINGS = [path for path in sorted(YOLOS.glob("yolox/*.json")) if (CFGS / f"yolox-{path.stem}.cfg").is_file()]
RNG = np.random.default_rng(0)


@pytest.mark.skipif(not SETTINGS, reason="the settings of YOLOX's program are not available")
@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_a_cfg_has_the_settings_of_the_program(path: Path) -> None:
    about = json.loads(path.read_text())
    hyper, cfg = about["hyper"], parse_cfg(CFGS / f"yolox-{path.stem}.cfg")
    net = read_options(NetOptions, cfg, cfg.sections[0])
    assert [net.height, net.width] == about["train_input_size"]
    assert (net.augmentation, net.mosaic, net.flip) == ("yolox", 1, int(hyper["flip_prob"] == 0.5))
    assert net.mosaic_probability == hyper["mosaic_prob"]
    assert net.mixup_probability == (hyper["mixup_prob"] if hyper["enable_mixup"] else 0)
    assert list(net.zoom) == hyper["mosaic_scale"]
    assert (net.angle, net.shear, net.translate) == (hyper["degrees"], hyper["shear"], hyper["translate"])
    assert (net.epochs, net.burn_in_epochs) == (hyper["max_epoch"], hyper["warmup_epochs"])
    assert net.close_mosaic == hyper["no_aug_epochs"]
    assert net.policy == hyper["scheduler"].removeprefix("yolox")
    assert net.learning_rate == pytest.approx(hyper["basic_lr_per_img"] * net.batch)
    assert net.learning_rate_min == pytest.approx(net.learning_rate * hyper["min_lr_ratio"])
    assert (net.momentum, net.decay) == (hyper["momentum"], hyper["weight_decay"])
    assert bool(net.ema_ramp) == hyper["ema"]


@pytest.mark.parametrize("path", sorted(CFGS.glob("yolox-*.cfg")), ids=lambda path: path.stem)
def test_a_cfg_says_between_which_sizes_it_trains(path: Path) -> None:
    cfg = parse_cfg(path)
    net, head = read_options(NetOptions, cfg, cfg.sections[0]), read_options(AnchorFree.Options, cfg, cfg.sections[-1])
    net = replace(net, max_batches=10_000)
    sizes = {network_size(net, head.random, iteration, 1, 0) for iteration in range(1, 10_000, 10)}
    (said,) = re.findall(r"(\d+) to (\d+) \(`random` of the heads\)", path.read_text())
    assert [min(sizes), max(sizes)] == [(int(side), int(side)) for side in said]


# How often --------------------------------------------------------------------------------------------------------


class Images(Iterator[LoadedImage]):
    """Images without end, which counts them."""

    def __init__(self) -> None:
        self.taken = 0

    def __next__(self) -> LoadedImage:
        self.taken += 1
        box = make_truths(np.zeros(1, np.int64), np.full((1, 4), 0.5, np.float32))
        return LoadedImage(np.zeros((16, 16, 3), np.uint8), box, "", "", Dice.of(RNG))


def images_of_samples(recipe: Any, **options: Any) -> list[int]:
    """Of how many images each of 200 samples is."""
    images, taken = Images(), []
    make = recipe(replace(NET, width=16, height=16, mosaic=1, **options), needs())
    for _ in range(200):
        before = images.taken
        make(images, (16, 16), RNG)
        taken.append(images.taken - before)
    return taken


@pytest.mark.parametrize("recipe", [yolov5, yolov8, yolox])
@pytest.mark.parametrize("probability", [0, 0.5, 1])
def test_so_many_samples_are_mosaics(recipe: Any, probability: float) -> None:
    taken = images_of_samples(recipe, mosaic_probability=probability)
    assert set(taken) <= {1, 4}
    assert taken.count(4) / len(taken) == pytest.approx(probability, abs=0.15 if probability == 0.5 else 0)


def test_only_yolov8_blends_what_is_no_mosaic() -> None:
    assert set(images_of_samples(yolov8, mosaic_probability=0, mixup_probability=1)) == {2}
    for recipe in (yolov5, yolox):
        assert set(images_of_samples(recipe, mosaic_probability=0, mixup_probability=1)) == {1}


def test_yolox_blends_two_samples_with_objects() -> None:
    """An empty first sample stays alone; of the others, the first that is not empty is taken."""
    empty = Sample(np.zeros((16, 16, 3), np.uint8), np.zeros((0, 6), np.float32), "")
    full = Sample(np.full((16, 16, 3), 200, np.uint8), np.array([[0.5, 0.5, 0.5, 0.5, 1, 0]], np.float32), "")

    def blend(first: Sample, others: list[Sample]) -> Sample:
        left = iter(others)

        def other(images: Iterator[LoadedImage], size: Size, rng: np.random.Generator) -> Sample:
            return next(left, others[-1])

        return Overlaid(lambda *_: first, other, 1.0, 10)(iter(()), (16, 16), RNG)

    assert blend(empty, [full]) is empty
    assert blend(full, [empty]) is full
    assert len(blend(full, [empty, empty, full]).truths) == 2
