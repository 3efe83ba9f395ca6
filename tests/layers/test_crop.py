"""[crop] takes the middle of an image, and in training any window of it, mirrored or not (Darknet: crop_layer.c)."""

from __future__ import annotations

import torch

from darknet_py.cfg import parse_text
from darknet_py.layers import Layer
from darknet_py.network import Network

IMAGES = torch.arange(2 * 4 * 5.0).view(2, 1, 4, 5)
HEIGHT, WIDTH = 3, 2


def crop(options: str) -> Layer:
    text = f"[net]\nwidth=5\nheight=4\nchannels=1\n[crop]\ncrop_height={HEIGHT}\ncrop_width={WIDTH}\n{options}\n"
    return Network(parse_text(text)).layers[0]


def windows(images: torch.Tensor) -> list[torch.Tensor]:
    return [images[:, :, top : top + HEIGHT, left : left + WIDTH] for top in range(2) for left in range(4)]


def number_of(result: torch.Tensor, candidates: list[torch.Tensor]) -> int:
    return next(number for number, candidate in enumerate(candidates) if torch.equal(result, candidate))


def test_the_middle_is_taken_and_stretched_to_minus_1_and_1() -> None:
    middle = IMAGES[:, :, 0:3, 1:3]
    assert torch.equal(crop("flip=1").eval()(IMAGES), middle * 2 - 1)
    assert torch.equal(crop("noadjust=1").eval()(IMAGES), middle)


def test_in_training_every_window_of_a_mini_batch_is_as_likely() -> None:
    torch.manual_seed(0)
    layer, candidates = crop("noadjust=1").train(), windows(IMAGES)
    counts = torch.bincount(torch.tensor([number_of(layer(IMAGES), candidates) for _ in range(800)]), minlength=8)
    assert (counts > 60).all(), counts
    assert (counts < 140).all(), counts


def test_with_flip_half_of_the_mini_batches_are_mirrored() -> None:
    torch.manual_seed(0)
    layer, candidates = crop("noadjust=1\nflip=1").train(), windows(IMAGES) + windows(IMAGES.flip(3))
    mirrored = [number_of(layer(IMAGES), candidates) >= 8 for _ in range(400)]
    assert 160 < sum(mirrored) < 240


def test_a_seed_repeats_the_windows() -> None:
    layer = crop("flip=1").train()
    first, second = (torch.stack([layer(IMAGES) for _ in range(20)]) for _ in map(torch.manual_seed, (7, 7)))
    assert torch.equal(first, second)
