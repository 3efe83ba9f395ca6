"""[activation], and the option `activation` of every other layer (Darknet: activation_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from darknet_py.layers.functions import ACTIVATIONS
from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option

CONVOLUTIONS_ONLY = frozenset(
    ("mish", "swish", "hard_mish", *(name for name in ACTIVATIONS if name.startswith("normalize_channels")))
)
"""Activations that Darknet computes in [convolutional] and [crnn]; elsewhere it gives 0 (activations.c:activate)."""

HARD_SWISH = "Darknet has no hard swish; write swish, to which it is near, and train again"
OTHER_PROGRAMS = {
    "silu": "this is Darknet's swish; write swish",
    "sigmoid": "this is Darknet's logistic; write logistic",
    "none": "write linear",
    "hardtanh": "this is Darknet's hardtan; write hardtan",
    **dict.fromkeys(("h_swish", "hswish", "hardswish", "hard_swish"), HARD_SWISH),
}
"""Names that other programs have for activations, and what to write instead."""


def activation_option(default: str) -> Any:  # as dataclasses.field: the type is the field's
    """The option `activation`; Darknet uses relu in place of a word that it does not know."""
    return option(
        default, "the activation function", choices=tuple(ACTIVATIONS), fallback="relu", foreign=OTHER_PROGRAMS
    )


class Activation(Layer, kinds=("activation",)):
    zeroed = CONVOLUTIONS_ONLY

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        activation: str = activation_option("linear")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input

    def forward(self, x: Tensor) -> Tensor:
        return self.arithmetic.activate(x, self.options.activation)
