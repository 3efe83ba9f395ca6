"""[rnn], and the states that all recurrent layers carry from input to input (Darknet: rnn_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.activation import CONVOLUTIONS_ONLY, activation_option
from darknet_py.layers.connected import Connected
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Recurrent(Layer):
    """A layer with states: tensors that start at 0 and are kept until `reset` (or until the batch size changes).

    A kind defines `step`, a time step. In inference `forward` takes a single step; in training it takes the time_steps
    of a mini-batch, and gradients pass back through them.
    """

    folds = ("batch_normalize",)

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        self.states: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) → (n, …); in training n is time_steps x lanes, the first step of all lanes first."""
        steps = self.arithmetic.time_steps if self.training else 1
        outputs = [self.step(part) for part in (x.chunk(steps) if steps > 1 else (x,))]
        self.states = {name: state.detach() for name, state in self.states.items()}
        return torch.cat(outputs) if steps > 1 else outputs[0]

    def step(self, x: Tensor) -> Tensor:
        """A time step: the output for x (lanes, …), and new `states`."""
        raise NotImplementedError

    def reset(self, lanes: Tensor | None = None) -> None:
        """Sets the states to 0. lanes: (n,) bool, of which rows; None: of all."""
        if lanes is None:
            self.states.clear()
            return
        for name, state in self.states.items():
            if len(state) == len(lanes):
                self.states[name] = state.masked_fill(lanes.to(state.device).view(-1, *[1] * (state.ndim - 1)), 0)

    def state(self, name: str, x: Tensor, *shape: int) -> Tensor:
        """The state `name`, (n, *shape); zeros at the start."""
        state = self.states.get(name)
        if state is None or state.shape[0] != x.shape[0] or state.device != x.device:
            return x.new_zeros((x.shape[0], *shape))
        return state.to(x.dtype)  # in mixed precision, the first layer's input is float32


def connected(place: Place, inputs: int, output: int, activation: str, batch_normalize: int) -> Connected:
    """A connected layer inside a recurrent one."""
    options = Connected.Options(output=output, activation=activation, batch_normalize=batch_normalize)
    return Connected(options, place.part(Shape.flat(inputs)))


class Rnn(Recurrent, kinds=("rnn",)):
    zeroed = CONVOLUTIONS_ONLY
    parts = ("input_layer", "self_layer", "output_layer")

    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        output: int = option(1, "values of the output", minimum=1)
        hidden: int = option(1, "values of the state", minimum=1)
        activation: str = activation_option("logistic")
        batch_normalize: int = option(0, "1: batch norm in the three connected layers inside")
        logistic: int = option(
            0,
            "activation of the state's connection to itself: 0: as `activation`, 1: logistic, 2: loggy",
            minimum=0,
            maximum=2,
        )
        shortcut: int = option(0, "1: the old state is added to the new one")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        state_activation = (options.activation, "logistic", "loggy")[options.logistic]
        normalise = options.batch_normalize
        self.input_layer = connected(place, place.input.count, options.hidden, options.activation, normalise)
        self.self_layer = connected(place, options.hidden, options.hidden, state_activation, normalise)
        self.output_layer = connected(place, options.hidden, options.output, options.activation, normalise)
        self.shape = self.output_layer.shape

    def step(self, x: Tensor) -> Tensor:
        """(n, …) → (n, output, 1, 1)"""
        old = self.state("hidden", x, self.options.hidden, 1, 1)
        state = self.input_layer(x) + self.self_layer(old)
        if self.options.shortcut:
            state = state + old
        self.states["hidden"] = state
        return self.output_layer(state)

    def describe(self) -> dict[str, object]:
        return {"hidden": self.options.hidden}

    def filters_text(self) -> str:
        return str(self.options.output)
