"""[gru]: a gated recurrent unit whose candidate passes the logistic function, not tanh (Darknet: gru_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.connected import Connected
from darknet_py.layers.layer import LayerOptions, Place, Shape
from darknet_py.layers.rnn import Recurrent, connected
from darknet_py.options import option


class Gru(Recurrent, kinds=("gru",)):
    input_z: Connected
    input_r: Connected
    input_h: Connected
    state_z: Connected
    state_r: Connected
    state_h: Connected
    parts = ("input_z", "input_r", "input_h", "state_z", "state_r", "state_h")

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        output: int = option(1, "values of the output, which is also the state", minimum=1)
        batch_normalize: int = option(0, "1: batch norm in the six connected layers inside")
        tanh: int = option(0, "1: the activation of the candidate is tanh, 0: logistic (pjreddie)")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        for gate in "zrh":
            for name, count in ((f"input_{gate}", place.input.count), (f"state_{gate}", options.output)):
                setattr(self, name, connected(place, count, options.output, "linear", options.batch_normalize))
        self.shape = Shape.flat(options.output)

    def step(self, x: Tensor) -> Tensor:
        """(n, …) → (n, output)"""
        state = self.state("output", x, self.options.output)
        z = (self.input_z(x) + self.state_z(state)).flatten(1).sigmoid()
        r = (self.input_r(x) + self.state_r(state)).flatten(1).sigmoid()
        candidate = (self.input_h(x) + self.state_h(r * state)).flatten(1)
        candidate = torch.tanh(candidate) if self.options.tanh else candidate.sigmoid()
        output = z * state + (1 - z) * candidate
        self.states["output"] = output
        return output

    def describe(self) -> dict[str, object]:
        return {"batch_normalize": self.options.batch_normalize}

    def filters_text(self) -> str:
        return str(self.options.output)
