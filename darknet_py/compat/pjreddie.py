"""pjreddie's `python/darknet.py` without the shared library: as `compat.darknet`, but images are letterboxed.

from darknet_py.compat import pjreddie as darknet
"""

from __future__ import annotations

from typing import Any

from darknet_py.compat import darknet, libdarknet
from darknet_py.compat.darknet import *  # noqa: F403
from darknet_py.compat.libdarknet import IMAGE, METADATA, LoadedNetwork

predict_image = libdarknet.network_predict_image_letterbox
"""The image with its aspect ratio kept; `get_network_boxes` with 8 arguments takes boxes out of the bars again."""


def classify(net: LoadedNetwork, meta: METADATA, im: IMAGE) -> list[tuple[bytes, float]]:  # type: ignore[no-redef]
    """(name, probability) of all classes, the most probable first."""
    predict_image(net, im)
    return darknet._ranked(net, meta, meta.classes)


def detect(  # type: ignore[no-redef]
    net: LoadedNetwork, meta: METADATA, image: Any, thresh: float = 0.5, hier_thresh: float = 0.5, nms: float = 0.45
) -> list[tuple[bytes, float, darknet.Box]]:
    """The objects in a file: (name as bytes, probability, box in its pixels), the most probable first.

    A box is suppressed by one with a higher objectness, whatever their classes.
    """
    pixels = libdarknet.load_image_color(image, 0, 0)
    try:
        names = darknet._names(meta, net.classes())
        predict_image(net, pixels)
        return darknet._by_probability(darknet._found(net, pixels, thresh, nms, libdarknet.do_nms_obj), names)
    finally:
        libdarknet.free_image(pixels)
