"""A classifier measured on a data set (Darknet: classifier.c:validate_classifier_single).

result = accuracy(network, open_dataset("data/imagenet.data", "valid"), top=5)
print(result.top_1, result.top_k, result.text())
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.classifier import Classifier
from darknet_py.data.class_labels import labels_in
from darknet_py.data.dataset import Dataset
from darknet_py.errors import DarknetError, ImageError
from darknet_py.measuring.results import ratio
from darknet_py.network import Network
from darknet_py.pictures.threads import batched, read_ahead


@dataclass(frozen=True)
class Accuracy:
    """How often a classifier is right.

    names: of the classes. labels: (n,) int64, the class of each image by its path; -1: no label occurs in it.
    guesses: (n, k) int64, its most probable classes, the most probable first; -1: the image cannot be read.
    """

    names: list[str]
    labels: NDArray[np.int64]
    guesses: NDArray[np.int64]

    def within(self, k: int) -> float:
        """The fraction of all images whose label is among the k most probable classes, 0..1."""
        is_found = (self.guesses[:, :k] == self.labels[:, None]).any(1) & (self.labels >= 0)
        return ratio(float(is_found.sum()), len(self.labels))

    @property
    def top_1(self) -> float:
        return self.within(1)

    @property
    def k(self) -> int:
        return self.guesses.shape[1]

    @property
    def top_k(self) -> float:
        return self.within(self.k)

    @property
    def unreadable(self) -> int:
        return int((self.guesses[:, 0] < 0).sum())

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes) images by label (row) and most probable class (column)."""
        result = np.zeros((len(self.names),) * 2, np.int64)
        known = (self.labels >= 0) & (self.guesses[:, 0] >= 0)
        np.add.at(result, (self.labels[known], self.guesses[known, 0]), 1)
        return result

    def text(self) -> str:
        """Darknet's last line."""
        return f"{len(self.labels)} images: top 1: {self.top_1:f}, top {self.k}: {self.top_k:f}"

    def as_json(self) -> dict[str, Any]:
        matrix = self.confusion()
        classes = [
            {"name": name, "images": int(row.sum()), "correct": int(row[number])}
            for number, (name, row) in enumerate(zip(self.names, matrix, strict=True))
        ]
        numbers = {"metric": "accuracy", "images": len(self.labels), "top_1": self.top_1, "k": self.k}
        numbers |= {"top_k": self.top_k, "unlabelled": int((self.labels < 0).sum()), "unreadable": self.unreadable}
        return numbers | {"classes": classes}


def accuracy(
    model: Network | Classifier, dataset: Dataset, top: int = 1, *, batch: int = 8, limit: int | None = None
) -> Accuracy:
    """Measures a classifier, even in the middle of its training: a network is left untouched, see `Classifier`.

    An image's class is the first label in its path (`labels_in`); one without a label, or that cannot be read, counts
    as wrong, as in Darknet.

    Args:
        top: the label must be among so many classes; at most all. batch: images per forward pass. limit: only the first
            so many images.

    Raises:
        DarknetError: the labels are not as many as the classes.
    """
    labels = dataset.labels or dataset.names
    classifier = model if isinstance(model, Classifier) else Classifier(model, labels or None)
    classes = len(classifier.names)
    if len(labels) < classes:
        raise DarknetError(f"{dataset.source}: {len(labels)} labels, but the network has {classes} classes")
    images = dataset.images[:limit]
    found = [labels_in(dataset.written_path(index), labels[:classes]) for index in range(len(images))]
    guesses = np.full((len(images), min(max(top, 1), classes)), -1, np.int64)
    with tqdm(total=len(images), unit="image", disable=None, leave=False) as bar:
        contents = enumerate(read_ahead(images, classifier.read, 2 * batch))
        for numbers_and_contents in batched(contents, batch):
            good = []
            for number, (_, content) in numbers_and_contents:
                if isinstance(content, ImageError):
                    tqdm.write(f"error: {content}", file=sys.stderr)
                else:
                    good.append((number, content))
            if good:
                numbers, pixels = (list(column) for column in zip(*good, strict=True))
                guesses[numbers] = classifier.probabilities(pixels).topk(guesses.shape[1]).indices.cpu().numpy()
            bar.update(len(numbers_and_contents))
    return Accuracy(classifier.names, np.array([one[0] if one else -1 for one in found], np.int64), guesses)
