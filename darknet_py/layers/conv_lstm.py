"""[conv_lstm]: long short-term memory whose gates are convolutions (Darknet: conv_lstm_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.activation import activation_option
from darknet_py.layers.convolutional import Convolutional
from darknet_py.layers.crnn import ConvolutionOptions
from darknet_py.layers.layer import Place, Shape
from darknet_py.layers.rnn import Recurrent
from darknet_py.options import option


class ConvLstm(Recurrent, kinds=("conv_lstm",)):
    """`u` convolutions read the input, `w` the last output, `v` (peephole) the old cell (`vo`: the new one).

    With bottleneck=1 a single convolution `wf` reads the last output and the input, and the `u` convolutions read its
    output. `lstm_activation` and `bottleneck` follow Darknet's GPU code: its CPU code always uses tanh and has no
    bottleneck.
    """

    vf: Convolutional
    vi: Convolutional
    vo: Convolutional
    wf: Convolutional
    wi: Convolutional
    wg: Convolutional
    wo: Convolutional
    uf: Convolutional
    ui: Convolutional
    ug: Convolutional
    uo: Convolutional

    @dataclass(frozen=True, kw_only=True)
    class Options(ConvolutionOptions):
        output: int = option(1, "channels of the output, which is also the state", minimum=1)
        activation: str = activation_option("linear")
        lstm_activation: str = option(
            "tanh", "activation of the candidate and of the cell", choices=("tanh", "leaky", "linear")
        )
        peephole: int = option(0, "1: the gates also read the cell")
        bottleneck: int = option(0, "1: the last output and the input pass through one convolution before the gates")
        state_constrain: int | None = option(
            None, "limits the cell to -this..this; default: 32 per time step; 0: no limit", minimum=0
        )
        shortcut: int = option(0, "1, with bottleneck: half of the bottleneck's channels are added to the output")
        time_normalizer: float = option(1.0, "divides the gradient through time", use="untrained")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.shape = options.convolution(place, shape, options.output, options.activation).shape
        twice = Shape.image(2 * self.shape.c, *self.shape[1:3])
        inputs = {
            "v": self.shape,
            "w": twice if options.bottleneck else self.shape,
            "u": self.shape if options.bottleneck else shape,
        }
        if options.bottleneck and shape != self.shape:
            place.fail("bottleneck", f"input and output must have the same shape; they are {shape} and {self.shape}")
        peephole = ("vf", "vi", "vo") if options.peephole else ()
        self.parts = (*peephole, *(("wf",) if options.bottleneck else ("wf", "wi", "wg", "wo")), "uf", "ui", "ug", "uo")
        for part in self.parts:
            convolution = options.convolution(place, inputs[part[0]], options.output, options.activation)
            if convolution.shape != self.shape:
                place.fail(
                    "stride" if options.stride > 1 else "size",
                    f"the state would change its size, {self.shape} → {convolution.shape}; use stride=1 and pad=1",
                )
            setattr(self, part, convolution)
        self.limit = 32 if options.state_constrain is None else options.state_constrain

    def step(self, x: Tensor) -> Tensor:
        options = self.options
        cell, hidden = self.state("cell", x, *self.shape[:3]), self.state("hidden", x, *self.shape[:3])
        if options.bottleneck:
            x = self.arithmetic.activate(self.wf(torch.cat((hidden, x), 1)), options.lstm_activation)
            f, i, g, o = self.uf(x), self.ui(x), self.ug(x), self.uo(x)
        else:
            f, i = self.wf(hidden) + self.uf(x), self.wi(hidden) + self.ui(x)
            g, o = self.wg(hidden) + self.ug(x), self.wo(hidden) + self.uo(x)
        if options.peephole:
            f, i = f + self.vf(cell), i + self.vi(cell)
        cell = f.sigmoid() * cell + i.sigmoid() * self.arithmetic.activate(g, options.lstm_activation)
        if options.peephole:
            o = o + self.vo(cell)
        hidden = o.sigmoid() * self.arithmetic.activate(cell, options.lstm_activation)
        if self.limit:
            cell = cell.clamp(-self.limit, self.limit)
        self.states.update(cell=cell, hidden=hidden)
        if options.shortcut and options.bottleneck:
            half = hidden.shape[1] // 2
            return torch.cat((hidden[:, :half] + x[:, :half], hidden[:, half:]), 1)
        return hidden

    @property
    def bflops(self) -> float:
        return super().bflops + (12 if self.options.peephole else 9) * self.shape.count / 1e9

    def describe(self) -> dict[str, object]:
        names = ("peephole", "bottleneck", "activation", "lstm_activation")
        return {name: getattr(self.options, name) for name in names}

    def filters_text(self) -> str:
        return str(self.options.output)

    def size_text(self) -> str:
        return self.uf.size_text()
