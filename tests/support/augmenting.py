"""Augmentation outside a network: [net] options, the needs of a head, and what the steps draw."""

from typing import Any

import numpy as np

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import recipe_for
from darknet_py.data.augment.place import DrawnCrop
from darknet_py.data.augment.steps import DrawContext, OneImage, draw_steps
from darknet_py.data.truths import ImageTruths, trained, truth_rows
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxList, BoxNeeds, Rows

NET = NetOptions(width=416, height=416, channels=3)


def needs(max_truths: int = 20, **changes: Any) -> BoxNeeds:
    """The needs of a detection head with 3 classes and jitter=.3."""
    return BoxNeeds(**{"classes": 3, "jitter": 0.3, **changes}, max_truths=max_truths, truth_format=BoxList(max_truths))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def training_truths(truths: ImageTruths, *arguments: Any, path: str = "") -> Rows:
    """The truths that training sees, as rows; arguments as of `trained`."""
    return truth_rows(truths, trained(truths, *arguments, path=path), path=path)


def draw_all(
    net: NetOptions, head: BoxNeeds, size: tuple[int, int], generator: np.random.Generator, net_size: Any = None
) -> tuple[Any, ...]:
    """Draws all of Darknet's steps for one image: the crop, the colours, the blur, the noise."""
    recipe = recipe_for(net, head)
    assert isinstance(recipe, OneImage)
    context = DrawContext(size, net_size or (net.width, net.height), np.empty((0, 4), np.float32))
    return draw_steps(recipe.steps, context, Dice.of(generator))


def draw_crop(*arguments: Any, **options: Any) -> DrawnCrop:
    """Where the network's input lies in the image, as far as that is possible."""
    crop = draw_all(*arguments, **options)[0]
    assert isinstance(crop, DrawnCrop)
    return crop.possible()
