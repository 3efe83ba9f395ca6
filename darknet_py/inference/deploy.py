"""The deployed form of a network: what inference can do beforehand is done, and the result is a network with a cfg text of its own.

small = deployed(network)
small.save_weights("deployed.weights")          # and small.cfg.text is its cfg
"""

from __future__ import annotations

import warnings

import torch

from darknet_py.cfg import parse_text
from darknet_py.errors import CfgWarning
from darknet_py.network import Network


def deployed(network: Network, *, size: tuple[int, int] | None = None) -> Network:
    """A network with the same answers whose batch norm is folded into the weights (as `detector test` does). It shares nothing with
    the given one, is in evaluation mode, asks for no gradients, and loads, runs and saves like any other.

    Args:
        size: (width, height) of the input in pixels; None: the network's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # whoever has read the cfg has seen them
        result = Network(parse_text(deployed_text(network), network.cfg.path), size=size or network.given_size)
    with torch.no_grad():
        for layer, source in zip(result.layers, network.layers, strict=True):
            values = dict(source.folded())
            for stored in layer.stored():
                stored.tensor.copy_(values[stored.name])
    result.seen, result.version = network.seen, network.version
    return result.to(network.device).requires_grad_(False).eval()


def deployed_text(network: Network) -> str:
    """The cfg with the options at 0 that `deployed` has taken into the weights; all other lines stay."""
    lines = list(network.cfg.lines)
    for layer, section in zip(network.layers, network.cfg.sections[1:], strict=True):
        for name in layer.folds:
            if (option := section.get(name)) is not None:
                lines[option.line - 1] = f"{name}=0"
    return "\n".join(lines)
