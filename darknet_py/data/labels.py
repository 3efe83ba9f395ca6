"""Darknet's label files: where an image's stands, and what it says (Darknet: utils.c:replace_image_to_label,
data.c:read_boxes).

truths = read_labels(label_path("data/obj/dog.jpg"))
truths.classes, truths.xywh                 # (n,) and (n, 4): centre and size, fractions of the image
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from darknet_py.data.truths import ImageTruths, make_truths
from darknet_py.errors import DarknetError
from darknet_py.names import read_text

# Darknet replaces the first occurrence of each, in this order (utils.c, where `/images/` → `/labels/` is commented out)
FOLDERS = (
    ("/images/train2017/", "/labels/train2017/"), ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("\\images\\train2017\\", "\\labels\\train2017\\"), ("\\images\\val2017\\", "\\labels\\val2017\\"),
    ("\\images\\train2014\\", "\\labels\\train2014\\"), ("\\images\\val2014\\", "\\labels\\val2014\\"),
    ("/images/train2014/", "/labels/train2014/"), ("/images/val2014/", "/labels/val2014/"),
    ("\\JPEGImages\\", "\\labels\\"),
)  # fmt: skip
ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".bmp", ".BMP", ".ppm", ".PPM", ".tiff", ".TIFF")
IMAGE_FOLDERS = ("images", "JPEGImages")
FLT_MAX = 3.4e38  # larger numbers do not fit into 32 bits


def replace_image_to_label(image: str) -> str:
    """Darknet's own rule, which looks at no file: `VOC/JPEGImages/1.jpg` → `VOC/labels/1.txt`.

    The ending becomes .txt if it is one of ENDINGS; folders change only as FOLDERS says: a plain `/images/` stays.
    """
    for folder, replacement in FOLDERS:
        image = image.replace(folder, replacement, 1)
    image = image.strip(" \t")
    for ending in ENDINGS:
        image = image.removesuffix(ending) + ".txt" if image.endswith(ending) else image
    return image


def in_sibling(image: str, folder: str, ending: str) -> list[str]:
    """The same name in the sibling of its image folder: `a/images/b/1.jpg` → `a/labels/b/1.txt` and
    `a/labels/1.txt`."""
    parts = re.split(r"([/\\])", os.path.splitext(image)[0] + ending)
    for k in range(len(parts) - 3, -1, -2):
        if parts[k] in IMAGE_FOLDERS:
            root = [*parts[:k], folder, parts[k + 1]]
            return ["".join(root + parts[k + 2 :]), "".join([*root, parts[-1]])]
    return []


def label_path(image: str) -> str:
    """The Darknet label file of an image.

    Of these, the first that exists; the first of all if none does:
    what Darknet's rule says (`replace_image_to_label`); the image's name ending in .txt, beside it (endings that
    Darknet does not know, such as .webp); the same in the folder `labels`, the sibling of the last `images` or
    `JPEGImages` of the path.
    """
    rule = replace_image_to_label(image)
    candidates = [rule] if rule.endswith(".txt") else []
    candidates += [os.path.splitext(image)[0] + ".txt", *in_sibling(image, "labels", ".txt")[:1]]
    return next((path for path in candidates if os.path.exists(path)), candidates[0])


def read_labels(path: str | os.PathLike[str]) -> ImageTruths:
    """A Darknet label file: a line `class x y w h` for each object, fractions of the image; white space and empty lines
    do not count.

    Numbers are taken as they are; classes that do not exist and boxes outside the image are the business of
    `training_truths` and of the check command.

    Raises:
        DarknetError: it cannot be read, or a line is not five numbers, the first of them an integer. (Darknet silently
            reads no further there, and takes a sixth number for the next class.)
    """
    lines = read_text(path, "label file").split("\n")
    fields = [words for line in lines if (words := line.split())]
    if not fields:
        return make_truths()
    try:
        classes = np.array([int(words[0]) for words in fields], np.int64)
        xywh = np.array([words[1:] for words in fields], np.float64)
        is_valid = xywh.shape == (len(fields), 4) and bool((np.abs(xywh) < FLT_MAX).all())
    except (ValueError, OverflowError):
        is_valid = False
    if not is_valid:
        raise DarknetError(_first_mistake(path, lines))
    return make_truths(classes, xywh)


def _first_mistake(path: str | os.PathLike[str], lines: Sequence[str]) -> str:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{os.fspath(path)}:{number}: '{line.strip()[:60]}'"
        if len(words) != 5:
            return f"{where} has {len(words)} values; write 'class x y w h'"
        try:
            np.int64(int(words[0]))
        except (ValueError, OverflowError):
            return f"{where}: the class '{words[0]}' is not an integer"
        for word in words[1:]:
            try:
                is_finite = abs(float(word)) < FLT_MAX
            except ValueError:
                is_finite = False
            if not is_finite:
                return f"{where}: '{word}' is not a number"
    return f"{os.fspath(path)}: this label file cannot be read"
