"""The deployed form of a network: an equivalent network, with a cfg of its own, that leaves less to do in inference.

small = deployed(network)
small.save_weights("deployed.weights")          # and small.cfg.text is its cfg
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from darknet_py.cfg import parse_text
from darknet_py.errors import CfgWarning
from darknet_py.network import Network

UNLOADED = ("dontload", "dontloadscales", "dontsave", "numload")  # all weights of the deployed form are in its file


def deployed(network: Network, *, size: tuple[int, int] | None = None) -> Network:
    """A network of equal outputs with batch norm folded into its weights (as the C program's `detector test` does).

    It shares nothing with `network`, is in evaluation mode without gradients, and loads, runs and saves like any other.
    Only where a layer shares the weights of one with batch norm and has none itself are its outputs others: it gets the
    folded weights, as in the C program.

    Args:
        size: (width, height) of the input in pixels; None: the network's. The cfg's text keeps its own size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)  # they were given when `network` was built
        cfg = parse_text(deployed_text(network), network.cfg.path)
        cfg.files.update(network.cfg.files)
        result = Network(cfg, size=network.size_override if size is None else size)
    own_size = {name: getattr(result.net, name) for name in ("width", "height", "inputs")}
    result.net = replace(network.net, **own_size)
    with torch.no_grad():
        for layer, source in zip(result.layers, network.layers, strict=True):
            zero = {name: 0 for name in (*source.folds, *UNLOADED) if hasattr(source.options, name)}
            layer.options = replace(source.options, **zero)
            buffers = dict(source.named_buffers())
            for name, buffer in layer.named_buffers():
                buffer.copy_(buffers[name])
            values = dict(source.folded())
            for stored in layer.stored():
                stored.tensor.copy_(values[stored.name])
    result.seen, result.version = network.seen, network.version
    return result.to(network.device).requires_grad_(False).eval()


def deployed_text(network: Network) -> str:
    """The cfg of `deployed(network)`: options that were folded into the weights are set to 0, other lines are kept."""
    lines = list(network.cfg.lines)
    for layer, section in zip(network.layers, network.cfg.sections[1:], strict=True):
        for name in (*layer.folds, *UNLOADED):
            if (option := section.get(name)) is not None:
                lines[option.line - 1] = f"{name}=0"
    return "\n".join(lines)
