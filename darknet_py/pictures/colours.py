"""One colour for each class, the same in every picture and chart."""

from __future__ import annotations

import colorsys

GOLDEN = 0.618033988749895  # of the colour circle: neighbouring classes get colours far apart


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB, 0..255."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * GOLDEN + 0.02) % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
