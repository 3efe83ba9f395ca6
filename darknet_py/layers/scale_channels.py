"""[scale_channels]: an earlier map, each channel (or each pixel) multiplied by a value of the input (Darknet: scale_channels_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from darknet_py.layers.activation import activate, activation_option
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option


class ScaleChannels(Layer, kinds=("scale_channels",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        from_: int | None = option(None, "the layer to scale; negative: counted back from here")
        scale_wh: int = option(0, "0: the input has a value for each channel; 1: a value for each pixel")
        activation: str = activation_option("linear")

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        if options.from_ is None:
            place.fail(None, "names no layer; write e.g. from=-4")
        return (place.index - 1, place.layer("from", options.from_))

    def references(self) -> tuple[int, ...]:
        return self.source_indices[1:]

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        place.earlier[self.index - 1].read_by_name = True
        scale = place.image()
        self.shape = place.earlier[self.source_indices[1]].shape
        needed = (1, self.shape.h, self.shape.w) if options.scale_wh else (self.shape.c, 1, 1)
        if scale[:3] != needed:
            place.fail("from", f"layer {self.source_indices[1]} gives {self.shape}, so the layer before must give "
                               f"{needed[2]} x {needed[1]} x {needed[0]}; it gives {scale}")  # fmt: skip

    def forward(self, scale: Tensor, x: Tensor) -> Tensor:
        return activate(x * scale, self.options.activation, own=True, exact=self.exact)

    def describe(self) -> dict[str, Any]:
        return {
            "inputs_count": self.shape.count,
            "inputs": list(self.references()),
            "activation": self.options.activation,
            "scale_wh": self.options.scale_wh,
        }
