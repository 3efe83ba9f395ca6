"""Lets a character network write text (Darknet: rnn.c:test_char_rnn).

python -m darknet_py.generate --cfg rnn.cfg --weights rnn.weights --seed "To be, " --length 500
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from darknet_py.command import run_command
from darknet_py.errors import DarknetError
from darknet_py.layers.softmax import Softmax
from darknet_py.names import read_text
from darknet_py.network import Network, load

LEAST = 0.0001  # probabilities below count as 0


@torch.inference_mode()
def generate(
    network: Network, seed: Sequence[int], length: int, temperature: float = 0.7, random_seed: int | None = None
) -> Iterator[int]:
    """`length` symbols that follow `seed`, each drawn by the probabilities that the network gives after the ones before.

    Symbols are numbers below the network's inputs: bytes for character networks.

    Raises:
        DarknetError: the network does not give as many values as it reads, or a symbol of the seed is none of its.
    """
    inputs = network.input_shape.count
    if network.classes != inputs or network.input_shape.c:
        raise DarknetError(
            f"{network.cfg.path}: reads {inputs} values and gives {network.classes}; a text network has as many of both"
        )
    if wrong := [symbol for symbol in seed if not 0 <= symbol < inputs]:
        raise DarknetError(f"symbol {wrong[0]} of the seed: this network knows 0 to {inputs - 1}")
    for layer in network.layers:
        if isinstance(layer, Softmax):
            layer.options = replace(layer.options, temperature=temperature)
    generator = torch.Generator()
    generator.manual_seed(random_seed) if random_seed is not None else generator.seed()
    network.reset_state()
    symbols = torch.eye(inputs)
    for symbol in seed[:-1]:
        network(symbols[symbol][None])
    symbol = seed[-1] if seed else 0
    for _ in range(length):
        probabilities = network(symbols[symbol][None])[0].flatten()
        probabilities = torch.where(probabilities < LEAST, 0.0, probabilities)
        symbol = int(torch.multinomial(probabilities, 1, generator=generator))
        yield symbol


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.generate",
        description="Lets a character network write text.",
        epilog='example: python -m darknet_py.generate --cfg rnn.cfg --weights rnn.weights --seed "To be, " --length 500',
    )
    result.add_argument("--cfg", required=True, help="the network's .cfg")
    result.add_argument("--weights", required=True, help="its .weights")
    result.add_argument("--seed", default="\n\n", help="text to begin with")
    result.add_argument("--length", type=int, default=1000, help="symbols to write (default: %(default)s)")
    result.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        help="under 1: likelier text, over 1: wilder text (default: %(default)s)",
    )
    result.add_argument("--random-seed", type=int, help="the same number gives the same text")
    result.add_argument("--tokens", help="file with a word per symbol, for networks that do not read bytes")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.temperature <= 0:
        raise DarknetError(f"a temperature of {given.temperature:g}; write a number over 0")
    tokens = read_text(given.tokens, "tokens file").split("\n") if given.tokens else None
    network = load(given.cfg, given.weights)
    seed = list(given.seed.encode())
    for symbol in [*seed, *generate(network, seed, given.length, given.temperature, given.random_seed)]:
        if tokens is None:
            sys.stdout.buffer.write(bytes([symbol]) if symbol < 256 else b"?")
        else:
            print(tokens[symbol] if symbol < len(tokens) else "?", end=" ")
    print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
