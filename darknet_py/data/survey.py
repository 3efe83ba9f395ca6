"""What of a data set a network can be trained or measured with, looked at before the first iteration.

print(survey(dataset, network.needs(), network.size))       # train: 8 usable boxes in 4 images: red 4, blue 4
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from darknet_py.data.class_labels import labels_in
from darknet_py.data.dataset import Dataset, picture_size
from darknet_py.data.truths import DataWarning, left_out
from darknet_py.errors import DarknetError
from darknet_py.layers.needs import BoxNeeds, Needs

MAX_LISTED = 20  # classes that the summary names
MIN_LABELLED = 0.1  # fraction of a classifier's images that must have a label, and only one
PICTURES = 50  # whose sizes are compared with what their annotations say
ADVICE = "python -m darknet_py.check names them all"


@dataclass
class Survey:
    """What can be used.

    what: "boxes", or "images" of a classifier. per_class: (classes,) int64, how many. images: with at least one.
    reasons: why others cannot be used → how many, and where the first one is.
    """

    what: str
    per_class: NDArray[np.int64]
    images: int = 0
    reasons: dict[str, tuple[int, str]] = field(default_factory=dict)

    def leave_out(self, reason: str, count: int, where: str) -> None:
        before, first = self.reasons.get(reason, (0, where))
        self.reasons[reason] = before + count, first

    @property
    def usable(self) -> int:
        return int(self.per_class.sum())

    @property
    def unusable(self) -> int:
        return sum(count for count, _ in self.reasons.values())

    def why(self) -> str:
        """How many cannot be used, and why: `2 of 8 boxes cannot be used: 2 without area (first: 1.txt: box 1)`."""
        reasons = ", ".join(f"{count} {reason} (first: {where})" for reason, (count, where) in self.reasons.items())
        many = " (most of them)" if self.unusable > self.usable else ""
        how_many = f"{self.unusable} of {self.usable + self.unusable} {self.what}{many} cannot be used"
        how_many = how_many if self.usable else f"none of {self.unusable} {self.what} can be used"
        return f"{how_many}: {reasons}; {ADVICE}"

    def summary(self, names: Sequence[str]) -> str:
        """How many there are of each class, the most frequent first; classes without one are named."""
        order = np.argsort(-self.per_class, kind="stable")
        listed = [f"{names[k] if k < len(names) else k} {self.per_class[k]}" for k in order[:MAX_LISTED].tolist()]
        rest = f", and {len(order) - MAX_LISTED} classes more" if len(order) > MAX_LISTED else ""
        absent = int((self.per_class == 0).sum())
        none = f" ({absent} of them without {self.what})" if rest and absent else ""
        where = f" in {self.images} images" if self.what == "boxes" else ""
        return f"{self.usable} usable {self.what}{where}: {', '.join(listed)}{rest}{none}"


def survey(dataset: Dataset, needs: Needs, size: tuple[int, int]) -> Survey:
    """Looks through a data set's labels before a training; what is left out is named in warnings.

    Args:
        dataset: the images and truths. needs: what the network is trained with (`Network.needs`).
        size: (width, height) of its input, pixels.

    Raises:
        DarknetError: there is no usable box at all, or hardly an image has a classifier's label.
    """
    found = _boxes(dataset, needs.classes, size) if isinstance(needs, BoxNeeds) else _labels(dataset, needs.classes)
    enough = 1 if isinstance(needs, BoxNeeds) else MIN_LABELLED * len(dataset)
    if found.usable < enough:
        raise DarknetError(f"{dataset.source}: {found.why() if found.unusable else 'no image shows an object'}")
    if found.unusable:
        warnings.warn(f"{dataset.source}: {found.why()}", DataWarning, stacklevel=2)
    for text in turned(dataset):
        warnings.warn(text, DataWarning, stacklevel=2)
    return found


def _progress(dataset: Dataset) -> Iterator[int]:
    return iter(tqdm(range(len(dataset)), unit="label file", disable=None, leave=False))


def _boxes(dataset: Dataset, classes: int, size: tuple[int, int]) -> Survey:
    result = Survey("boxes", np.zeros(classes, np.int64))
    for index in _progress(dataset):
        try:
            truths = dataset.truths(index)
        except DarknetError as error:
            result.leave_out("malformed label files", 1, str(error))
            continue
        is_usable = ~truths.difficult
        for reason, is_wrong in left_out(truths, size, classes).items():
            wrong = np.flatnonzero(is_wrong & is_usable)
            if len(wrong):
                result.leave_out(reason, len(wrong), f"{dataset.label_file(index)}: box {wrong[0] + 1}")
                is_usable &= ~is_wrong
        result.per_class += np.bincount(truths.classes[is_usable], minlength=classes)
        result.images += bool(is_usable.any())
    return result


def _labels(dataset: Dataset, classes: int) -> Survey:
    labels = (dataset.labels or dataset.names)[:classes]
    result = Survey("images", np.zeros(classes, np.int64))
    for index in _progress(dataset):
        path = dataset.written_path(index)
        found = labels_in(path, labels)
        if len(found) == 1:
            result.per_class[found] += 1
            result.images += 1
        elif found:
            several = ", ".join(labels[number] for number in found[:3])
            result.leave_out("with several labels in their path", 1, f"{path}: {several}")
        else:
            result.leave_out("with no label in their path", 1, path)
    return result


def turned(dataset: Dataset) -> Iterator[str]:
    """Where annotations have width and height of their pictures swapped: a sentence. A sample of them is looked at."""
    numbers = np.unique(np.linspace(0, len(dataset) - 1, PICTURES).astype(int)).tolist()
    wrong = [text for index in numbers if (text := turned_text(dataset, index))]
    if wrong:
        yield f"{wrong[0]} (so are {len(wrong)} of the {len(numbers)} pictures that were compared)"


def turned_text(dataset: Dataset, index: int, size: tuple[int, int] | None = None) -> str:
    """A sentence if an image's annotation has its width and height swapped, or ""; size: (width, height) if known."""
    try:
        written = dataset.written_size(index)
        size = size or (picture_size(dataset.images[index]) if written else None)
    except DarknetError:
        return ""  # named where it is read
    if not (written and size and (written[0] - written[1]) * (size[0] - size[1]) < 0):
        return ""
    sizes = "its size is {}x{}, but the picture {} is {}x{}, upright as its EXIF data say"
    return (
        f"{dataset.label_file(index)}: {sizes.format(*written, dataset.images[index], *size)}; the boxes may be wrong"
    )


def sound(dataset: Dataset, classes: int) -> Dataset:
    """The images of a data set whose labels can be measured with; others are named in a warning.

    Raises:
        DarknetError: there is none.
    """
    kept, wrong = [], []
    for index in _progress(dataset):
        try:
            numbers = dataset.truths(index).classes
        except DarknetError as error:
            wrong.append(str(error))
            continue
        unknown = numbers[(numbers < 0) | (numbers >= classes)]
        if len(unknown):
            wrong.append(f"{dataset.label_file(index)}: class {unknown[0]}, but the classes are 0 to {classes - 1}")
        else:
            kept.append(index)
    if not kept:
        raise DarknetError(f"{dataset.source}: no image has labels to measure with: {wrong[0]}; {ADVICE}")
    if wrong:
        text = f"{len(wrong)} of {len(dataset)} images are not measured, as their labels are wrong (first: {wrong[0]})"
        warnings.warn(f"{dataset.source}: {text}; {ADVICE}", DataWarning, stacklevel=2)
    return dataset.subset(kept) if wrong else dataset
