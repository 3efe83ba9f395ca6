"""One colour for each class, the same in every image and chart."""

from __future__ import annotations

import colorsys

GOLDEN = (
    0.618033988749895  # the golden ratio, a fraction of the colour circle: neighbouring classes get distant colours
)


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB, 0..255."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * GOLDEN + 0.02) % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
