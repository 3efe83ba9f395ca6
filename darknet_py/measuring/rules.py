"""Which boxes each metric looks at, and at how many points of a curve."""

from __future__ import annotations

from typing import NamedTuple

from darknet_py.errors import DarknetError


class Rule(NamedTuple):
    """Which boxes are found: minimum confidence, the overlap of suppression, and whether that is measured in pixels."""

    thresh: float
    nms: float
    pixels: bool


# detector.c: validate_detector_map has fractions of the image, validate_detector pixels
RULES = {"darknet": Rule(0.005, 0.45, False), "voc": Rule(0.001, 0.6, True), "coco": Rule(0.001, 0.6, True)}


def check_points(points: int) -> None:
    """Recall points are 0, or at least the two ends of the curve.

    Raises:
        DarknetError: neither.
    """
    if points < 0 or points == 1:
        raise DarknetError(f"points={points}: write 0 (area under the curve), 11 (VOC 2007) or 101 (COCO)")
