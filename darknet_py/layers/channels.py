"""Which layers decide how many channels a head reads, and what to write in them where it is another number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from darknet_py.layers.layer import Layer, Place

COUNTED_BY = {"convolutional": "filters", "deconvolutional": "filters", "local": "filters", "connected": "output"}
UNCHANGED = ("implicit_add", "implicit_mul", "dropout")  # give as many channels as they read


def deciding(layers: Sequence[Layer], index: int) -> list[Layer]:
    """The layers whose options say how many channels layer `index` gives, in the order of these; []: others have a
    part in it. They are found through layers that only join or scale channels."""
    layer = layers[index] if index >= 0 else None
    if layer is None:
        return []
    if layer.kind in COUNTED_BY:
        return [layer]
    if layer.kind in UNCHANGED or (layer.kind == "route" and layer.options.groups == 1):
        found = [deciding(layers, source) for source in layer.source_indices]
        return list(chain.from_iterable(found)) if all(found) else []
    return []


def correction(place: Place, parts: Sequence[int]) -> str:
    """What to write so that the layer reads `parts`, e.g. `; set filters=36 at line 7`; "" where that is not known.

    parts: numbers of channels. A layer may give all of them, or [route] joins one for each part.
    """
    found = deciding(place.earlier, place.index - 1)
    needed = parts if len(found) == len(parts) else [sum(parts)] if len(found) == 1 else []
    changes = []
    for layer, count in zip(found, needed, strict=False):
        if layer.shape.c != count:
            name, section = COUNTED_BY[layer.kind], place.cfg.sections[layer.index + 1]  # [net] is sections[0]
            written = section.get(name)
            changes.append(f"{name}={count} at line {written.line if written else section.line}")
    return f"; set {' and '.join(changes)}" if changes else ""
