"""What the tests of augmentation and of batches share: a network's options, a head's needs, and draws."""

from typing import Any

import numpy as np

from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import recipe_for
from darknet_py.data.augment.place import DrawnCrop
from darknet_py.data.augment.steps import DrawContext, OneImage, draw_steps
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxList, BoxNeeds

NET = NetOptions(width=416, height=416, channels=3)


def needs(max_truths: int = 20, **changes: Any) -> BoxNeeds:
    """Those of a detection head with 3 classes and jitter=.3."""
    return BoxNeeds(**{"classes": 3, "jitter": 0.3, **changes}, max_truths=max_truths, truth_format=BoxList(max_truths))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw_all(
    net: NetOptions, wanted: BoxNeeds, size: tuple[int, int], generator: np.random.Generator, net_size: Any = None
) -> tuple[Any, ...]:
    """What Darknet's steps for one image draw: the crop, the colours, the blur, the noise."""
    recipe = recipe_for(net, wanted)
    assert isinstance(recipe, OneImage)
    context = DrawContext(size, net_size or (net.width, net.height), np.empty((0, 4), np.float32))
    return draw_steps(recipe.steps, context, Dice.of(generator))


def draw_crop(*arguments: Any, **more: Any) -> DrawnCrop:
    """Where the network's input lies in the image, as far as that is possible."""
    crop = draw_all(*arguments, **more)[0]
    assert isinstance(crop, DrawnCrop)
    return crop.possible()
