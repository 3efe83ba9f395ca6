"""[sam] and [scale_channels]: an earlier map times the layer before: a factor for each value, channel or pixel.

Darknet: sam_layer.c, scale_channels_layer.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darknet_py.layers.activation import CONVOLUTIONS_ONLY, activation_option
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Product(Layer):
    """The layer before times the layer `from`; the output has the shape of the latter."""

    zeroed = CONVOLUTIONS_ONLY

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        from_: int | None = option(None, "the layer to multiply with; negative: counted back from here")
        activation: str = activation_option("linear")

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        if options.from_ is None:
            place.fail(None, "names no layer; write e.g. from=-2")
        return (place.index - 1, place.layer("from", options.from_))

    def references(self) -> tuple[int, ...]:
        return self.source_indices[1:]

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        place.earlier[self.index - 1].read_by_name = True
        self.shape = place.earlier[self.source_indices[1]].shape
        if place.image()[:3] != self.factor_shape():
            needed = Shape.image(*self.factor_shape())
            place.differ(
                "from",
                f"layer {self.source_indices[1]} gives {self.shape}, so the layer before must give {needed}; "
                f"it gives {place.input}",
            )

    def factor_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that the layer before must have."""
        raise NotImplementedError

    def forward(self, before: Tensor, other: Tensor) -> Tensor:
        return self.arithmetic.activate(before * other, self.options.activation, own=True)

    def describe(self) -> dict[str, object]:
        return {"inputs": list(self.references()), "activation": self.options.activation}


class Sam(Product, kinds=("sam",)):
    def factor_shape(self) -> tuple[int, int, int]:
        return self.shape.c, self.shape.h, self.shape.w


class ScaleChannels(Product, kinds=("scale_channels",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(Product.Options):
        scale_wh: int = option(0, "0: the layer before has a factor for each channel; 1: for each pixel")

    def factor_shape(self) -> tuple[int, int, int]:
        return (1, self.shape.h, self.shape.w) if self.options.scale_wh else (self.shape.c, 1, 1)

    def describe(self) -> dict[str, object]:
        return super().describe() | {"inputs_count": self.shape.count, "scale_wh": self.options.scale_wh}
