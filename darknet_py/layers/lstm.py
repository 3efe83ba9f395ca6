"""[lstm]: long short-term memory (Darknet: lstm_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darknet_py.layers.connected import Connected
from darknet_py.layers.layer import LayerOptions, Place, Shape
from darknet_py.layers.rnn import Recurrent, connected
from darknet_py.options import option


class Lstm(Recurrent, kinds=("lstm",)):
    wf: Connected
    wi: Connected
    wg: Connected
    wo: Connected
    uf: Connected
    ui: Connected
    ug: Connected
    uo: Connected
    parts = ("wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo")

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        output: int = option(1, "values of the output, which is also the state", minimum=1)
        batch_normalize: int = option(0, "1: batch norm in the eight connected layers inside")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        for gate in "figo":
            for name, count in ((f"w{gate}", options.output), (f"u{gate}", place.input.count)):
                setattr(self, name, connected(place, count, options.output, "linear", options.batch_normalize))
        self.shape = Shape.image(options.output, 1, 1)

    def step(self, x: Tensor) -> Tensor:
        """(n, …) → (n, output, 1, 1)"""
        cell = self.state("cell", x, self.options.output, 1, 1)
        hidden = self.state("hidden", x, self.options.output, 1, 1)
        f = (self.wf(hidden) + self.uf(x)).sigmoid()
        i = (self.wi(hidden) + self.ui(x)).sigmoid()
        g = (self.wg(hidden) + self.ug(x)).tanh()
        o = (self.wo(hidden) + self.uo(x)).sigmoid()
        cell = f * cell + i * g
        hidden = o * cell.tanh()
        self.states.update(cell=cell, hidden=hidden)
        return hidden

    def describe(self) -> dict[str, object]:
        return {"batch_normalize": self.options.batch_normalize}

    def filters_text(self) -> str:
        return str(self.options.output)
