"""Options of [net] on how images come into the network's input, and what detection does where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from darknet_py.options import option

FITS = ("darknet", "yolov5", "yolov8", "yolox", "mmdet")
ORDERS = ("rgb", "bgr")
BEST_ALWAYS = 2  # of best_class


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What NetOptions inherits; the defaults are Darknet's."""

    image_fit: str = option(
        "darknet",
        "how images come into the input: darknet: as letter_box says; the others keep the aspect ratio and resize "
        "bytes by OpenCV: yolov5 (also YOLOv6, YOLOv7) and yolov8: in the middle of grey 114; yolox: at the left top "
        "of it, sizes cut to integers; mmdet: at the left top of black",
        choices=FITS,
        own=True,
    )
    channel_order: str = option("rgb", "order of the input's channels: rgb or bgr (YOLOX)", choices=ORDERS, own=True)
    input_max: float = option(1.0, "value of white in the input: 1, or 255 (YOLOX)", minimum=1e-6, own=True)
    input_mean: tuple[float, ...] = option(
        (0.0,), "subtracted from the input's channels, in their order and range; one number holds for all", own=True
    )
    input_deviation: tuple[float, ...] = option(
        (1.0,), "the input's channels are divided by it, after input_mean", minimum=1e-6, own=True
    )
    thresh: float = option(0.25, "detection: minimum confidence, unless the user says one", minimum=0, own=True)
    nms: float = option(
        0.45, "detection: overlap above which the less confident of two boxes is suppressed, unless the user says one",
        minimum=0, own=True,
    )  # fmt: skip
    valid_thresh: float | None = option(
        None, "evaluation: minimum confidence; default: the metric's", minimum=0, own=True
    )
    valid_nms: float | None = option(None, "evaluation: overlap, as nms; default: the metric's", minimum=0, own=True)
    best_class: int = option(
        0,
        "0: a box counts for each class over the threshold; 1: detection counts the most probable class alone; 2: so "
        "does evaluation (YOLOX)",
        minimum=0,
        maximum=2,
        own=True,
    )
    agnostic: int = option(0, "1: detection: boxes of different classes suppress each other too", own=True)
    objectness_thresh: float | None = option(
        None, "detection and evaluation: minimum objectness, whatever the class (MMDetection's conf_thr)", minimum=0,
        own=True,
    )  # fmt: skip
    class_thresh: float | None = option(
        None,
        "detection and evaluation: what a class probability must exceed before the objectness multiplies it, and then "
        "max_nms counts by it (MMDetection's score_thr and nms_pre)",
        minimum=0,
        own=True,
    )
    max_nms: int | None = option(
        None, "boxes of an image that suppression sees, the most confident; default: all", minimum=1, own=True
    )
    max_det: int | None = option(
        None, "most objects of an image, the most confident; default: all", minimum=1, own=True
    )
