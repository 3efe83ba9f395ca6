"""The deployed form of a network: an equivalent network, with a cfg of its own, that leaves less to do in inference.

small = deployed(network)
small.save_weights("deployed.weights")          # and small.cfg.text is its cfg
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from darknet_py.cfg import Cfg
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
        result = Network(deployed_cfg(network), size=network.size_override if size is None else size)
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
    result.seen, result.version, result.names = network.seen, network.version, network.names
    return result.to(network.device).requires_grad_(False).eval()


def deployed_cfg(network: Network) -> Cfg:
    """The cfg of `deployed(network)`: options that were folded into the weights are set to 0, other lines are kept."""
    options = {}
    for layer in network.layers:
        section = network.cfg.sections[layer.index + 1]
        options[layer.index] = {name: 0 for name in (*layer.folds, *UNLOADED) if section.get(name) is not None}
    return network.cfg.with_options(options)
