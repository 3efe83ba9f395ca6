"""How a run measures its network on the valid images: mAP of a detector, accuracy of a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from tqdm import tqdm

from darknet_py.data.dataset import Dataset, open_dataset
from darknet_py.data.survey import sound, survey
from darknet_py.layers.needs import ClassNeeds
from darknet_py.measuring.accuracy import accuracy
from darknet_py.measuring.evaluation import evaluate
from darknet_py.names import DataFile
from darknet_py.network import Network


class Measure(NamedTuple):
    """name: mAP, top-1 … of: gives that of a network, 0..1."""

    name: str
    of: Callable[[Network], float]


def measure_on_valid(data: str | os.PathLike[str], network: Network, train: Dataset, options: DataFile) -> Measure:
    """The measure for a network that is trained on `train`. A classifier's is the accuracy of the .data file's `top`.

    Images with wrong labels are left out with a warning, now and not when training has taken hours.

    Raises:
        DarknetError: the list of `valid` cannot be read, or has no image to measure with.
    """
    valid = open_dataset(data, "valid")
    if set(valid.images) == set(train.images):
        print("note: valid has the same images as train: what is measured is how well the network knows them by heart")
    if network.heads:
        valid = sound(valid, network.classes)
        return Measure("mAP", lambda network: float(evaluate(network, valid).mAP))
    survey(valid, ClassNeeds(network.classes), network.size)
    top = options.count("top") or 1

    def measured(network: Network) -> float:
        result = accuracy(network, valid, top)
        tqdm.write(result.text())
        return result.top_k

    return Measure(f"top-{top} accuracy", measured)
