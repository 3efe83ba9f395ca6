"""A classifier's ground truth: the labels in an image's path (Darknet: data.c:fill_truth_smooth, fill_hierarchy)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from darknet_py.data.truths import DataWarning
from darknet_py.layers.needs import ClassTree, Rows

SECRET_NUM = -1234.0  # a truth that says nothing (Darknet's name for it)


def class_vector(path: str, labels: Sequence[str], label_smooth_eps: float = 0.0) -> Rows:
    """(classes,) float32: 1 for every label that occurs in the path as the list writes it (data.c:fill_truth_smooth).

    With label_smooth_eps, 1 - eps for those, and eps / (classes - 1) for the others. A path with no label or several is
    named in a warning.
    """
    found = np.array([label in path for label in labels])
    if found.sum() != 1:
        names = ", ".join(label for label, is_found in zip(labels, found, strict=True) if is_found)
        text = f"several labels occur in this path: {names}" if names else "no label occurs in this path"
        warnings.warn(f"{path}: {text}", DataWarning, stacklevel=2)
    rest = label_smooth_eps / max(len(labels) - 1, 1)
    return np.where(found, np.float32(1 - label_smooth_eps), np.float32(rest))


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
