"""What augmentation draws has Darknet's distributions.

Statistics are of fixed seeds; a tolerance for a share of n draws is about 4 standard deviations, 4*sqrt(p*(1-p)/n).
"""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from augmenting import NET, draw_all, draw_crop, needs, rng

from darknet_py.data.augment.classifier import DrawnTurn, ResizeToNetwork, TurnCrop
from darknet_py.data.augment.cutmix import draw_patch
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.mosaic import draw_cut, towards_cut
from darknet_py.data.augment.steps import DrawContext, apply_steps, draw_steps
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxNeeds

DRAWS = 20_000


def draws(
    net: NetOptions, head: BoxNeeds, size: tuple[int, int] = (1000, 500), n: int = DRAWS, tile: int | None = None
) -> dict[str, np.ndarray]:
    """What each of n images drew, by names; of a mosaic's tile with what it does to the crop."""
    generator = rng(7)
    results: list[dict[str, Any]] = []
    for _ in range(n):
        drawn = draw_all(net, head, size, generator)
        crop, colour, blur, noise = drawn if tile is None else towards_cut(drawn, generator, tile)
        crop = crop.possible()
        sides = {name: getattr(crop, name) for name in ("pleft", "pright", "ptop", "pbot", "flip", "swidth", "sheight")}
        results.append({**sides, **colour._asdict(), "blur": blur, "noise": noise})
    return {name: np.array([result[name] for result in results]) for name in results[0]}


def draw_turn(
    net: NetOptions, size: tuple[int, int], generator: np.random.Generator, net_size: Any = None
) -> DrawnTurn:
    context = DrawContext(size, net_size or (net.width, net.height), np.empty((0, 4), np.float32))
    return TurnCrop(net).draw(context, Dice.of(generator))


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov: the largest distance of the distributions, 1.95/sqrt(n) at a risk of 1 in 1000."""
    placed = (np.sort(values) - low) / (high - low)
    assert placed[0] >= -1e-6
    assert placed[-1] <= 1 + 1e-6
    assert np.abs(placed - (np.arange(len(placed)) + 0.5) / len(placed)).max() < 1.95 / math.sqrt(len(placed))


@cache
def usual_draws() -> dict[str, np.ndarray]:
    """With jitter, colours, blur and noise, which are drawn independently of each other."""
    net = replace(NET, hue=0.1, saturation=1.5, exposure=3.0, blur=9, gaussian_noise=30)
    return draws(net, needs(jitter=0.3))


def test_jitter_moves_each_side_uniformly_by_up_to_a_fraction_of_the_image() -> None:
    drawn = usual_draws()
    spread = rng(1).uniform(-0.5, 0.5, DRAWS)  # integers made continuous again
    for name, maximum in (("pleft", 300), ("pright", 300), ("ptop", 150), ("pbot", 150)):
        assert abs(drawn[name]).max() <= maximum
        assert_uniform(drawn[name] + spread * 0.999, -maximum - 0.5, maximum + 0.5)
    sides = np.stack([drawn[name] for name in ("pleft", "pright", "ptop", "pbot")])
    np.testing.assert_allclose(np.corrcoef(sides), np.eye(4), atol=0.03)  # independent: 4/sqrt(20000)
    np.testing.assert_array_equal(drawn["swidth"], 1000 - drawn["pleft"] - drawn["pright"])


@pytest.mark.parametrize(("resize", "low", "high"), [(1.5, -250, 166), (0.5, -500, 0), (2.0, -500, 250)])
def test_resize_moves_left_and_top_by_one_zoom_and_right_and_bottom_by_another(
    resize: float, low: int, high: int
) -> None:
    """low = ow*(1-r)/2 and high = ow*(1-1/r)/2 for r >= 1; under 1 there is room to shrink only."""
    drawn = draws(NET, needs(jitter=0, resize=resize))
    spread = rng(1).uniform(0, 1, DRAWS) * np.sign(drawn["pleft"])  # pixels are cut off towards 0
    # parts of 1/1000 pixel, and the doubled 0: a little wider than exact
    placed = np.sort((drawn["pleft"] + spread - low) / (high - low))
    assert np.abs(placed - np.linspace(0, 1, DRAWS)).max() < 0.02
    assert drawn["pleft"].min() >= low
    assert drawn["pleft"].max() <= high
    np.testing.assert_allclose(drawn["pleft"] / 1000, drawn["ptop"] / 500, atol=2.1 / 500)
    np.testing.assert_allclose(drawn["pright"] / 1000, drawn["pbot"] / 500, atol=2.1 / 500)
    assert abs(np.corrcoef(drawn["pleft"], drawn["pright"])[0, 1]) < 0.03


def test_an_impossible_crop_is_the_whole_image() -> None:
    drawn = draws(NET, needs(jitter=0.9), n=2000)
    assert drawn["swidth"].min() > 0
    assert drawn["sheight"].min() > 0
    assert ((drawn["pleft"] == 0) & (drawn["pbot"] == 0)).sum() > 200


def test_half_of_the_images_are_mirrored_unless_flip_is_0() -> None:
    assert usual_draws()["flip"].mean() == pytest.approx(0.5, abs=0.015)
    assert not draws(replace(NET, flip=0), needs(), n=200)["flip"].any()


def test_hue_is_uniform_and_saturation_and_exposure_are_inverted_in_half_of_the_cases() -> None:
    drawn = usual_draws()
    assert_uniform(drawn["hue"], -0.1, 0.1)
    for name, maximum in (("saturation", 1.5), ("exposure", 3.0)):
        raised = drawn[name] >= 1
        assert raised.mean() == pytest.approx(0.5, abs=0.015)
        assert_uniform(drawn[name][raised], 1, maximum)
        assert_uniform(1 / drawn[name][~raised], 1, maximum)
    neutral = draws(NET, needs(), n=50)
    assert {tuple(row) for row in np.stack([neutral[name] for name in ("hue", "saturation", "exposure")], 1)} == {
        (0, 1, 1)
    }


def test_a_saturation_of_0_counts_as_1() -> None:
    assert (draws(replace(NET, saturation=0, exposure=0), needs(), n=20)["saturation"] == 1).all()


def test_blur_is_none_the_background_or_all_and_noise_is_added_in_half_of_the_cases() -> None:
    drawn = usual_draws()
    for value in (0, 1, 9):
        assert (drawn["blur"] == value).mean() == pytest.approx(1 / 3, abs=0.014)
    assert (drawn["noise"] == 30).mean() == pytest.approx(0.5, abs=0.015)
    assert set(drawn["noise"]) == {0, 30}
    assert (draws(replace(NET, blur=1), needs())["blur"] == 1).mean() == pytest.approx(2 / 3, abs=0.014)


@pytest.mark.parametrize("size", [(1000, 500), (500, 1000), (640, 480)])
@pytest.mark.parametrize("net_size", [(416, 416), (608, 352)])
def test_letter_box_adds_margins_until_the_proportions_are_the_networks(
    size: tuple[int, int], net_size: tuple[int, int]
) -> None:
    drawn = draw_crop(replace(NET, letter_box=1), needs(jitter=0), size, rng(), net_size)
    assert drawn.swidth / drawn.sheight == pytest.approx(net_size[0] / net_size[1], rel=0.01)
    assert max(drawn.pleft, drawn.pright, drawn.ptop, drawn.pbot) <= 0
    assert min(drawn.pleft, drawn.ptop) == min(drawn.pright, drawn.pbot)  # the same on both sides
    assert max(drawn.swidth - size[0], 0) * max(drawn.sheight - size[1], 0) == 0  # in one direction


@pytest.mark.parametrize("tile", range(4))
def test_half_of_a_mosaics_images_are_moved_towards_the_cut(tile: int) -> None:
    plain, moved = draws(NET, needs(), n=5000), draws(NET, needs(), n=5000, tile=tile)
    towards_left = (tile % 2 == 0) != moved["flip"]
    in_corner = (np.where(towards_left, moved["pleft"], moved["pright"]) == 0) & (
        (moved["ptop"] if tile < 2 else moved["pbot"]) == 0
    )
    assert in_corner.mean() == pytest.approx(0.5, abs=0.03)
    assert moved["swidth"].mean() == pytest.approx(plain["swidth"].mean(), abs=20)  # the crop keeps its size


def test_a_mosaics_tiles_meet_at_20_to_80_percent() -> None:
    generator = rng(3)
    cuts = np.array([draw_cut((416, 352), generator) for _ in range(DRAWS)])
    assert cuts.min(0).tolist() == [83, 70]  # int(416*.2), int(352*.2)
    assert cuts.max(0).tolist() == [332, 281]
    assert_uniform(cuts[:, 0] + rng(1).uniform(-0.5, 0.5, DRAWS), 82.5, 332.5)


def test_a_cutmix_patch_has_30_to_80_percent_of_each_side_and_lies_anywhere() -> None:
    generator = rng(3)
    left, top, width, height = np.array([draw_patch((224, 100), generator) for _ in range(DRAWS)]).T
    assert (width.min(), width.max(), height.min(), height.max()) == (67, 179, 30, 80)
    assert (left + width).max() == 223  # rand_int(0, w - cut_w - 1)
    assert left.min() == top.min() == 0
    assert (top + height).max() == 99
    assert_uniform(width + rng(1).uniform(-0.5, 0.5, DRAWS), 66.5, 179.5)


def test_a_classifiers_crop() -> None:
    net = replace(
        NET, width=224, height=224, angle=7.0, aspect=0.75, min_crop=128, max_crop=448, hue=0.1, saturation=0.75
    )
    generator = rng(5)
    drawn = [draw_turn(net, (500, 300), generator) for _ in range(DRAWS)]
    assert_uniform(np.degrees([turn.rad for turn in drawn]), -7, 7)
    aspect = np.array([turn.aspect for turn in drawn])
    assert_uniform(aspect[aspect < 1], 0.75, 1)
    assert_uniform(1 / aspect[aspect > 1], 0.75, 1)
    assert (aspect < 1).mean() == pytest.approx(0.5, abs=0.015)
    short = np.array(
        [turn.scale * int(min(300, 500 * turn.aspect)) for turn in drawn]
    )  # the short side becomes min_crop..max_crop
    assert_uniform(short + rng(1).uniform(-0.5, 0.5, DRAWS), 127.5, 448.5)
    room = np.array(
        [[max(0, (500 * turn.scale / turn.aspect - 224) / 2), max(0, (300 * turn.scale - 224) / 2)] for turn in drawn]
    )
    moved = np.array([[turn.dx, turn.dy] for turn in drawn])
    assert (np.abs(moved) <= room + 1e-6).all()
    movable = room[:, 0] > 0
    assert_uniform(moved[movable, 0] / room[movable, 0], -1, 1)
    assert {turn.side for turn in drawn} == {224}
    assert draw_turn(net, (500, 300), generator, net_size=(320, 256)).side == 320
    default = replace(net, min_crop=None, max_crop=None, aspect=1.0)
    short = np.array([draw_turn(default, (500, 300), generator).scale * 300 for _ in range(500)])
    assert 224 <= short.min() < short.max() <= 448.001


def test_center_takes_the_largest_square_in_the_middle() -> None:
    """pjreddie's image.c:center_crop_image"""
    net = NetOptions(
        width=32, height=32, channels=3, center=1, flip=0, aspect=2.0, angle=30.0, min_crop=20, max_crop=90
    )
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200
    context = DrawContext((100, 40), (32, 32), np.empty((0, 4), np.float32))
    steps = (TurnCrop(net), ResizeToNetwork())
    result = apply_steps(
        steps, draw_steps(steps, context, Dice.of(rng())), image, np.eye(2, dtype=np.float32)[0], rng()
    )
    assert result[:, 1:-1] == pytest.approx(200 / 255, abs=0.01)
