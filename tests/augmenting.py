"""What the tests of augmentation and of batches share: the options of a network and of a head, and random numbers."""

from dataclasses import dataclass

import numpy as np

from darknet_py.layers import NetOptions

NET = NetOptions(width=416, height=416, channels=3)


@dataclass(frozen=True)
class Head:
    """What is read of a detection head's options."""

    jitter: float = 0.3
    resize: float = 1.0
    classes: int = 3
    max: int = 20


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
