"""The recipes of the later YOLOs, made of [net]'s options: YOLOv5 to v8, which differ in few numbers, YOLOX, and
mmdetection's YOLOv3.

Where labels have polygons, YOLOv5's and v7's mosaics, and all samples of YOLOv8, are warped by them, and objects
pasted. Of single images YOLOv5 and v7 warp the boxes, and so does this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from darknet_py.data.augment.canvas import CanvasMosaic, Fitted, Inside, SpiralMosaic
from darknet_py.data.augment.colour import HueOffsets, HueTables, Photometry
from darknet_py.data.augment.mixup import Blended, Overlaid
from darknet_py.data.augment.paste import Choose, CopyPaste, PasteIn, some_of_those_that_fit, those_of_some_that_fit
from darknet_py.data.augment.patches import Expand, OverlapCrop
from darknet_py.data.augment.place import Flip
from darknet_py.data.augment.steps import Either, OneImage, Recipe, Then
from darknet_py.data.augment.warp import CornerWarp, Limits, Over, Resampled, Warp, Warped
from darknet_py.layers import NetOptions
from darknet_py.layers.needs import BoxNeeds
from darknet_py.pictures.fit import FITS

PLACED = frozenset({"mosaic", "mosaic_probability", "mixup_probability", "angle", "zoom", "shear", "translate", "flip"})
WARPED = PLACED | {"mixup_beta", "hue", "saturation", "exposure", "flip_down"}
COPIED = WARPED | {"perspective", "copy_paste_probability"}
READS = {
    "yolov5": COPIED,
    "yolov6": WARPED,
    "yolov7": COPIED | {"paste_in_probability"},
    "yolov8": COPIED,
    "yolox": PLACED,
    "mmdet": frozenset({"flip"}),
}
"""The words of [net] that each recipe reads."""


class Outlines(NamedTuple):
    """How polygons are used.

    copies: the objects that are pasted mirrored. of_images: each image's are resampled, and single images warped by
    them; otherwise a mosaic's, after it has cut them. pastes_in: objects of other mosaics are pasted, too.
    """

    copies: Choose
    of_images: bool = False
    pastes_in: bool = False


def yolov5(net: NetOptions, needs: BoxNeeds) -> Recipe:
    outlines = Outlines(those_of_some_that_fit)
    return _warped(net, needs, net.perspective, aspect=100, beta=32, shuffled=True, outlines=outlines)


def yolov6(net: NetOptions, needs: BoxNeeds) -> Recipe:
    # The margins of labels are whole pixels, as with YOLOv8's fit; those of a detection's boxes are not.
    return _warped(net, needs, aspect=20, beta=32, fit="yolov8", shuffled=True)


def yolov7(net: NetOptions, needs: BoxNeeds) -> Recipe:
    outlines = Outlines(those_of_some_that_fit, pastes_in=True)
    return _warped(net, needs, net.perspective, aspect=20, beta=8, spirals=0.2, outlines=outlines)


def yolov8(net: NetOptions, needs: BoxNeeds) -> Recipe:
    outlines, fit = Outlines(some_of_those_that_fit, of_images=True), "yolov8"
    return _warped(
        net, needs, net.perspective, aspect=100, beta=32, whole=math.ceil, fit=fit, mixes_all=True, outlines=outlines
    )


def _warped(
    net: NetOptions,
    needs: BoxNeeds,
    perspective: float = 0.0,
    *,
    aspect: float,
    beta: float,
    whole: Callable[[float], int] = int,
    fit: str = "yolov5",
    mixes_all: bool = False,
    spirals: float = 0.0,
    shuffled: bool = False,
    outlines: Outlines | None = None,
) -> Recipe:
    """Mosaic, copies of objects, warp, mixup, colour, objects of others, flips.

    aspect: limit of the boxes that stay. beta: of the mixup, unless mixup_beta says one. whole: from an image's size in
    the input, pixels, to a whole number. fit: where a single image then lies. mixes_all: samples that are no mosaic are
    blended too. spirals: fraction of the mosaics that have nine images. shuffled: the four of others lie in any order.
    outlines: how polygons are used; None: not at all.
    """
    warp = Warp(net.angle, net.zoom, net.shear, net.translate, perspective, limits=Limits(aspect=aspect))
    of_images = outlines is not None and outlines.of_images
    inside = Inside(whole)
    tile: Recipe = OneImage((inside,), needs, polygons=outlines is not None)
    one: Recipe = OneImage((inside, Fitted(FITS[fit])), needs, polygons=of_images)
    if of_images:
        tile, one = Resampled(tile), Resampled(one)
    four, nine = CanvasMosaic(tile, needs.max_truths, shuffled), SpiralMosaic(tile, needs.max_truths)
    mosaic: Recipe = Either(spirals, nine, four)
    if outlines and net.copy_paste_probability:
        mosaic, one = (
            CopyPaste(of, outlines.copies, net.copy_paste_probability, needs.max_truths) for of in (mosaic, one)
        )
    several, one = Warped(mosaic if of_images else Resampled(mosaic), warp), Warped(one, warp)

    def blended(of: Recipe) -> Recipe:
        return Blended(of, net.mixup_probability, net.mixup_beta or beta, needs.max_truths)

    made = blended(_sometimes(net, several, one)) if mixes_all else _sometimes(net, blended(several), one)
    colour = HueTables(net.hue, max(net.saturation - 1, 0), max(net.exposure - 1, 0))
    made = Then(made, (colour,))
    if outlines and outlines.pastes_in and net.paste_in_probability:
        made = PasteIn(made, four, net.paste_in_probability, needs.max_truths)
    return Then(made, (Flip(net.flip_down, down=True), Flip(0.5 * bool(net.flip))))


def _sometimes(net: NetOptions, several: Recipe, one: Recipe) -> Recipe:
    """A mosaic as often as the cfg says, else a sample of one image."""
    return Either(net.mosaic_probability, several, one) if net.mosaic else one


def yolox(net: NetOptions, needs: BoxNeeds) -> Recipe:
    """Mosaic, warp, mixup; colour and flip; boxes of a pixel are left out. Without mosaic, the latter alone."""
    fitted = OneImage((Fitted(FITS["yolox"]),), needs)
    warp = CornerWarp(net.angle, net.zoom, net.shear, net.translate)
    mosaic = Then(CanvasMosaic(OneImage((Inside(exact=True),), needs), needs.max_truths), (warp,))
    made = _sometimes(net, Overlaid(mosaic, fitted, net.mixup_probability, needs.max_truths), fitted)
    return Then(made, (HueOffsets(), Flip(0.5 * bool(net.flip)), Over(1)))


def mmdet(net: NetOptions, needs: BoxNeeds) -> Recipe:
    """Expanded, cropped, changed in its colours, mirrored, and fitted into the input.

    mmdetection resizes before the colours change, and fills up afterwards; here one step does both.
    """
    steps = (Expand(), OverlapCrop(), Photometry(), Flip(0.5 * bool(net.flip)), Fitted(FITS["mmdet"]))
    return OneImage(steps, needs)
