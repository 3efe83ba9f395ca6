"""[sam]: the input times an earlier layer's output, element by element (Darknet: sam_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from darknet_py.layers.activation import activate, activation_option
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option


class Sam(Layer, kinds=("sam",)):
    overwrites = 1

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
        if place.image() != self.shape:
            place.fail(
                "from",
                f"layer {self.source_indices[1]} gives {self.shape}, the layer before gives {place.input}; they must be equal",
            )

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return activate(x * other, self.options.activation, own=True, exact=self.exact)

    def describe(self) -> dict[str, Any]:
        return {"inputs": list(self.references()), "activation": self.options.activation}
