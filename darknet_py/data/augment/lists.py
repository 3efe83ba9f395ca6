"""The recipes of augmentation by their names, which a head's needs say: Darknet's, and what other modules add.

Darknet augments a detector's images differently where it was built with OpenCV, and that is what people train with, so
it is what stands here: pixels of 8 bits, OpenCV's resize and HSV, and the image's mean colour around it. A classifier's
images it augments in floating point (image.c) in both builds. Images of 16 bits go through image.c's formulas
everywhere. Darknet draws with rand(); the distributions are the same here, the numbers are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from darknet_py.data.augment.blur import Blur, ClassifierBlur
from darknet_py.data.augment.classifier import ResizeToNetwork, TurnCrop
from darknet_py.data.augment.colour import ColourShift
from darknet_py.data.augment.cutmix import cutmix_classes
from darknet_py.data.augment.dice import rand_int
from darknet_py.data.augment.mixup import Mixup, mixup_classes
from darknet_py.data.augment.mosaic import Mosaic, mosaic_classes
from darknet_py.data.augment.noise import Noise
from darknet_py.data.augment.place import JitterCrop
from darknet_py.data.augment.steps import HalfMixed, OneImage, Recipe, Sample, Size, Then
from darknet_py.data.augment.yolos import READS as READ_BY_YOLOS
from darknet_py.data.augment.yolos import mmdet, yolov5, yolov6, yolov7, yolov8, yolox
from darknet_py.data.truths import DataWarning
from darknet_py.errors import DarknetError
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxNeeds, ClassNeeds, Needs

MIXUP, CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC = 1, 2, 3, 4  # Darknet's net.mixup


class RecipeMaker(Protocol):
    """(the network's [net], what its head or loss needs) → the recipe."""

    def __call__(self, net: NetOptions, needs: Any) -> Recipe: ...


def mixup_code(net: NetOptions) -> int:
    """Darknet's net.mixup: 0, MIXUP, CUTMIX, MOSAIC or CUTMIX_OR_MOSAIC (parser.c:parse_net_options)."""
    if net.mosaic:
        return CUTMIX_OR_MOSAIC if net.cutmix else MOSAIC
    return CUTMIX if net.cutmix else net.mixup


def darknet(net: NetOptions, needs: BoxNeeds) -> Recipe:
    """Darknet's augmentation of a detector: crop, colour, blur and noise of each image; of these, one, a mosaic, or a
    mixup.

    Raises:
        DarknetError: options that Darknet refuses together, or an impossible zoom.
    """
    one, mixing, max_truths = _one_image(net, needs), mixup_code(net), needs.max_truths
    if mixing in (CUTMIX, CUTMIX_OR_MOSAIC):
        _warn("cutmix=1: Darknet uses it for classifiers only, and ignores it here")
    if mixing in (MOSAIC, CUTMIX_OR_MOSAIC):
        if net.letter_box:
            raise DarknetError("letter_box=1 and mosaic=1 do not go together; write one of them")
        return Mosaic(one, max_truths, bool(net.mosaic_bound))
    return Mixup(one, max_truths, net.mixup_beta) if mixing == MIXUP else one


def darknet_cells(net: NetOptions, needs: BoxNeeds) -> Recipe:
    """The same without mixup, for a head whose truths are by cell: data.c:load_data_region knows none."""
    if mixup_code(net) != MIXUP:
        return darknet(net, needs)
    _warn("mixup=1: Darknet ignores it with a [detection] head, and so does this")
    return _one_image(net, needs)


def _one_image(net: NetOptions, needs: BoxNeeds) -> OneImage:
    if needs.resize <= 0:
        raise DarknetError(
            f"resize={needs.resize:g}: a zoom by this factor is not possible; write 1 (no zoom) or e.g. 1.5"
        )
    steps = (
        JitterCrop(needs.jitter, needs.resize, bool(net.letter_box), bool(net.flip)),
        ColourShift(net.hue, net.saturation, net.exposure),
        Blur(net.blur),
        Noise(net.gaussian_noise),
    )
    return OneImage(steps, needs)


def darknet_classifier(net: NetOptions, needs: ClassNeeds) -> Recipe:
    """Darknet's augmentation of a classifier: turn and crop, colour; of these, one, or several in one; blur."""
    colour = ColourShift(net.hue, net.saturation, net.exposure, in_floats=True)
    recipe: Recipe = OneImage((TurnCrop(net), colour, ResizeToNetwork()), needs)
    if code := mixup_code(net):
        recipe = HalfMixed(recipe, *CLASSIFIER_MIXES.get(code, (2, mixup_classes)))
    return Then(recipe, (ClassifierBlur(net.blur),)) if net.blur else recipe


def cutmix_or_mosaic(samples: Sequence[Sample], net_size: Size, rng: np.random.Generator) -> Sample:
    """Of both, one at random."""
    mix = (cutmix_classes, mosaic_classes)[rand_int(0, 1, rng)]
    return mix(samples, net_size, rng)


CLASSIFIER_MIXES = {  # how many images become one, and how
    MIXUP: (2, mixup_classes),
    CUTMIX: (2, cutmix_classes),
    MOSAIC: (4, mosaic_classes),
    CUTMIX_OR_MOSAIC: (4, cutmix_or_mosaic),
}

AUGMENTATIONS: dict[str, RecipeMaker] = {
    "darknet": darknet,
    "darknet_cells": darknet_cells,
    "darknet_classifier": darknet_classifier,
    "yolov5": yolov5,
    "yolov6": yolov6,
    "yolov7": yolov7,
    "yolov8": yolov8,
    "yolox": yolox,
    "mmdet": mmdet,
}

OF_DARKNET = frozenset({
    "jitter", "resize", "mosaic", "mosaic_bound", "mixup", "mixup_beta", "cutmix", "hue", "saturation", "exposure",
    "blur", "gaussian_noise", "flip", "angle", "aspect", "min_crop", "max_crop", "min_ratio", "max_ratio", "center",
})  # fmt: skip
# Darknet's cfgs write these whichever of its three recipes it is, as `angle=0` in those of detectors
READS = dict.fromkeys(("darknet", "darknet_cells", "darknet_classifier"), OF_DARKNET) | READ_BY_YOLOS
"""The words of [net], and of a head, that each recipe has a use for; of a recipe that is missing, all may be."""


def unread_words(net: NetOptions, needs: Needs) -> frozenset[str]:
    """Options that other recipes have a use for, and the one that [net] names, or else the needs, has not."""
    name = recipe_name(net, needs)
    return frozenset().union(*READS.values()) - READS[name] if name in READS else frozenset()


def recipe_name(net: NetOptions, needs: Needs) -> str:
    return needs.augmentation if net.augmentation == "darknet" else net.augmentation


def recipe_for(net: NetOptions, needs: Needs) -> Recipe:
    """The recipe that [net] names, or else the needs.

    Raises:
        DarknetError: there is none of this name, or what its options say cannot be done.
    """
    name = recipe_name(net, needs)
    if name not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise DarknetError(f"there is no augmentation '{name}'; known are {known}")
    if net.augmentation != "darknet" and needs.augmentation != "darknet":
        raise DarknetError(
            f"augmentation={name} changes images whose truths are lists of boxes; this network needs others; remove it"
        )
    return AUGMENTATIONS[name](net, needs)


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
