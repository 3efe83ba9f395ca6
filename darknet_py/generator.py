"""Text written by a character network, symbol after symbol (Darknet: rnn.c:test_char_rnn)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from darknet_py.errors import DarknetError
from darknet_py.layers.softmax import Softmax
from darknet_py.network import Network

MIN_PROBABILITY = 0.0001  # smaller ones count as 0


@torch.inference_mode()
def generate(
    network: Network, seed: Sequence[int], length: int, temperature: float = 0.7, random_seed: int | None = None
) -> Iterator[int]:
    """`length` symbols after `seed`, each drawn with the probabilities that the network gives it after those before.

    Args:
        network: left untouched, with its options and what it remembers: a copy of it writes.
        seed: symbols, numbers below the network's inputs (bytes for character networks).
        temperature: above 0; below 1 the text is more probable, above 1 more varied.
        random_seed: the same number gives the same text.

    Raises:
        DarknetError: the network does not have as many outputs as inputs, a symbol of the seed is not one of its own,
            or the temperature is not above 0.
    """
    inputs = network.input_shape.count
    if network.classes != inputs or network.input_shape.c:
        raise DarknetError(
            f"{network.cfg.path}: {inputs} inputs and {network.classes} outputs; a text network has as many of both"
        )
    if wrong := [symbol for symbol in seed if not 0 <= symbol < inputs]:
        raise DarknetError(f"symbol {wrong[0]} of the seed: this network knows 0 to {inputs - 1}")
    if temperature <= 0:
        raise DarknetError(f"a temperature of {temperature:g}; write a number above 0")
    writer = copy.deepcopy(network).eval()
    writer.reset_state()
    for layer in writer.layers:
        if isinstance(layer, Softmax):
            layer.options = replace(layer.options, temperature=temperature)
    generator = torch.Generator()
    generator.manual_seed(random_seed) if random_seed is not None else generator.seed()
    one_hot = torch.eye(inputs)
    for symbol in seed[:-1]:
        writer(one_hot[symbol][None])
    symbol = seed[-1] if seed else 0
    for _ in range(length):
        probabilities = writer(one_hot[symbol][None])[0].flatten()
        probabilities = torch.where(probabilities < MIN_PROBABILITY, 0.0, probabilities)
        symbol = int(torch.multinomial(probabilities, 1, generator=generator))
        yield symbol
