"""[cost]: a loss at the end of a classifier; in inference the input passes unchanged (Darknet: cost_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.layers.needs import ClassNeeds
from darknet_py.options import option

# seg, L1 and wgan are pjreddie's; AlexeyAB's program uses sse in place of words that it does not know
COST_TYPES = ("sse", "masked", "smooth", "seg", "L1", "wgan")


class Cost(Layer, kinds=("cost",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        type: str = option(
            "sse",
            "sse: squared error; masked: the same, except where the truth is -1234; smooth: Huber loss",
            choices=COST_TYPES,
            fallback="sse",
            use="training",
        )
        scale: float = option(1.0, "multiplies the gradient", use="training")
        ratio: float = option(0.0, "read by Darknet, but affects no result", use="none")
        noobj: float = option(1.0, "multiplies the gradient where there is no object (pjreddie)", use="untrained")
        thresh: float = option(
            0.0, "gradients below this, divided by the number of outputs, count as 0 (pjreddie)", use="training"
        )

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = Shape.flat(place.input.count)
        before = place.earlier[-1].needs() if place.earlier else None
        self.class_needs = before if isinstance(before, ClassNeeds) else ClassNeeds(self.shape.count)

    def needs(self) -> ClassNeeds:
        """Those of a [softmax] just before, which may have a class tree; or else a class for each value."""
        return self.class_needs

    def forward(self, x: Tensor) -> Tensor:
        return x

    def describe(self) -> dict[str, object]:
        return {"cost_type": self.options.type, "scale": self.options.scale, "ratio": self.options.ratio}
