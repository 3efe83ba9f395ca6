"""This project's own options of [net] on how training changes the images: as the programs of the later YOLOs do.

Darknet's own words (net.py) do the rest: `angle`, `hue`, `saturation`, `exposure`, `flip`, `mosaic`.
"""

from __future__ import annotations

from dataclasses import dataclass

from darknet_py.options import option

AUGMENTATIONS = ("darknet", "yolov5", "yolov6", "yolov7", "yolov8", "yolox", "mmdet")


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    augmentation: str = option(
        "darknet",
        "how training changes the images: darknet: as Darknet; the others as the program of this name, by what it has "
        "of angle, zoom, shear, perspective, translate, hue, saturation, exposure, flip, flip_down, mosaic=1 (four "
        "images in one), mosaic_probability, mixup_probability, mixup_beta, copy_paste_probability and "
        "paste_in_probability",
        choices=AUGMENTATIONS,
        use="training",
        own=True,
    )
    zoom: tuple[float, float] = option(
        (0.5, 1.5), "of augmentation: lowest and highest factor of the size", minimum=0.01, maximum=100, rising=True,
        use="training", own=True,
    )  # fmt: skip
    shear: float = option(
        0.0, "of augmentation: both axes are sheared within +-shear, degrees", minimum=0, maximum=80, use="training",
        own=True,
    )  # fmt: skip
    perspective: float = option(
        0.0, "of augmentation=yolov5, yolov7 or yolov8: perspective within +-this, per pixel, e.g. .0005",
        minimum=0, maximum=0.01, use="training", own=True,
    )  # fmt: skip
    translate: float = option(
        0.1, "of augmentation: shift within +-this fraction of the input", minimum=0, maximum=1, use="training",
        own=True,
    )  # fmt: skip
    flip_down: float = option(
        0.0, "of augmentation: fraction of the samples that are turned upside down", minimum=0, maximum=1,
        use="training", own=True,
    )  # fmt: skip
    mosaic_probability: float = option(
        1.0, "of augmentation, with mosaic=1: fraction of the samples that are mosaics", minimum=0, maximum=1,
        use="training", own=True,
    )  # fmt: skip
    mixup_probability: float = option(
        0.0, "of augmentation: fraction of the mosaics (yolov8: of all samples) that are two, blended",
        minimum=0, maximum=1, use="training", own=True,
    )  # fmt: skip
    copy_paste_probability: float = option(
        0.0,
        "of augmentation=yolov5, yolov7 (of their mosaics) or yolov8: fraction of the objects with polygons that are "
        "pasted mirrored, too",
        minimum=0, maximum=1, use="training", own=True,
    )  # fmt: skip
    paste_in_probability: float = option(
        0.0,
        "of augmentation=yolov7: fraction of the samples that get objects of others, cut out by polygons",
        minimum=0, maximum=1, use="training", own=True,
    )  # fmt: skip
    mixup_beta: float = option(
        0.0,
        "detectors' images are blended by a fraction from Beta(b, b), e.g. 1.5; 0: with mixup=1 half of each, as "
        "Darknet; with mixup_probability as the program of augmentation, Beta(32, 32), of yolov7 Beta(8, 8)",
        minimum=0,
        maximum=1000,
        use="training",
        own=True,
    )
