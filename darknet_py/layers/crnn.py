"""[crnn]: a recurrent layer made of convolutions (Darknet: crnn_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darknet_py.layers.activation import activation_option
from darknet_py.layers.convolutional import Convolutional
from darknet_py.layers.layer import LayerOptions, Place, Shape
from darknet_py.layers.rnn import Recurrent
from darknet_py.options import option


@dataclass(frozen=True, kw_only=True)
class ConvolutionOptions(LayerOptions):
    """What the convolutions inside [crnn] and [conv_lstm] share."""

    size: int = option(3, "width and height of the kernels, pixels", minimum=1)
    stride: int = option(1, "step of the kernels, pixels", minimum=1)
    dilation: int = option(1, "distance between the kernels' taps, pixels", minimum=1)
    pad: int = option(0, "1: pad by size/2 pixels (integer division) on each side, and ignore `padding`")
    padding: int = option(0, "pixels of zeros on each side, where pad=0", minimum=0)
    groups: int = option(1, "number of groups of channels in the convolutions", minimum=1)
    batch_normalize: int = option(0, "1: batch norm in the convolutions inside")
    xnor: int = option(0, "1: the convolutions inside have binary weights and inputs")

    def convolution(self, place: Place, shape: Shape, filters: int, activation: str) -> Convolutional:
        """A convolution inside a recurrent layer; shape: of its input."""
        names = ("size", "stride", "dilation", "pad", "padding", "groups", "batch_normalize", "xnor")
        values = {name: getattr(self, name) for name in names}
        options = Convolutional.Options(filters=filters, activation=activation, **values)
        return Convolutional(options, place.part(shape))


class Crnn(Recurrent, kinds=("crnn",)):
    parts = ("input_layer", "self_layer", "output_layer")

    @dataclass(frozen=True, kw_only=True)
    class Options(ConvolutionOptions):
        output: int = option(1, "channels of the output", minimum=1)
        hidden: int = option(1, "channels of the state", minimum=1)
        output_filters: int | None = option(None, "the same as output (pjreddie)", minimum=1)
        hidden_filters: int | None = option(None, "the same as hidden (pjreddie)", minimum=1)
        activation: str = activation_option("logistic")
        shortcut: int = option(0, "1: the old state is added to the new one")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.filters, hidden = options.output_filters or options.output, options.hidden_filters or options.hidden
        self.input_layer = options.convolution(place, shape, hidden, options.activation)
        self.hidden = self.input_layer.shape
        self.self_layer = options.convolution(place, self.hidden, hidden, options.activation)
        if self.self_layer.shape != self.hidden:
            place.fail(
                "stride" if options.stride > 1 else "size",
                f"the state would change its size, {self.hidden} → {self.self_layer.shape}; use stride=1 and pad=1",
            )
        self.output_layer = options.convolution(place, self.hidden, self.filters, options.activation)
        self.shape = self.output_layer.shape

    def step(self, x: Tensor) -> Tensor:
        old = self.state("hidden", x, *self.hidden[:3])
        state = self.input_layer(x) + self.self_layer(old)
        if self.options.shortcut:
            state = state + old
        self.states["hidden"] = state
        return self.output_layer(state)

    def describe(self) -> dict[str, object]:
        return {"hidden": self.hidden.count, "hidden_filters": self.hidden.c, "activation": self.options.activation}

    def filters_text(self) -> str:
        return str(self.filters)

    def size_text(self) -> str:
        return self.output_layer.size_text()
