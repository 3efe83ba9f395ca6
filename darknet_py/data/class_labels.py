"""A classifier's ground truth: the labels in an image's path (Darknet: data.c:fill_truth_smooth, fill_hierarchy)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from darknet_py.data.truths import DataWarning
from darknet_py.layers.needs import ClassTree, Rows

SECRET_NUM = -1234.0  # a truth that says nothing (Darknet's name for it)


def labels_in(path: str, labels: Sequence[str]) -> list[int]:
    """The labels that an image's path, as its list writes it, says that the image has: their numbers, in order.

    Darknet takes every label that occurs anywhere in the path. Where these are several, those count that are its
    folder's name; or else those that occur in the names of folder and file: `cat_or_dog/train/dog/1.jpg` is a dog.
    """
    found = [number for number, label in enumerate(labels) if label in path]
    if len(found) > 1:
        *_, folder, _ = ["", *(parts := path.replace("\\", "/").split("/"))]
        near = "/".join(parts[-2:])
        for closer in ([k for k in found if labels[k] == folder], [k for k in found if labels[k] in near]):
            if closer:
                return closer
    return found


def class_vector(path: str, labels: Sequence[str], label_smooth_eps: float = 0.0) -> Rows:
    """(classes,) float32: 1 for every label that `labels_in` finds (data.c:fill_truth_smooth).

    With label_smooth_eps, 1 - eps for those, and eps / (classes - 1) for the others. A path with no label or several is
    named in a warning.
    """
    found = labels_in(path, labels)
    if len(found) != 1:
        names = ", ".join(labels[number] for number in found)
        text = f"several labels occur in this path: {names}" if names else "no label occurs in this path"
        warnings.warn(f"{path}: {text}", DataWarning, stacklevel=2)
    result = np.full(len(labels), label_smooth_eps / max(len(labels) - 1, 1), np.float32)
    result[found] = 1 - label_smooth_eps
    return result


def fill_hierarchy(classes: Rows, tree: ClassTree) -> Rows:
    """A class vector with the ancestors of its classes; groups of siblings of which it has none say nothing
    (SECRET_NUM)."""
    result = classes.copy()
    level = np.unique(tree.parents[result != 0])
    while (level := level[level >= 0]).size:
        result[level] = 1
        level = np.unique(tree.parents[level])
    known = np.zeros(int(tree.groups.max()) + 1, bool)
    known[tree.groups[result != 0]] = True
    result[~known[tree.groups]] = SECRET_NUM
    return result
