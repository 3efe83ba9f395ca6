"""Where the heads of a fresh network begin: their losses say which objects they expect before they have seen any."""

from __future__ import annotations

import torch
from torch import Tensor

from darknet_py.layers.convolutional import Convolutional
from darknet_py.losses import loss_of
from darknet_py.network import Network


@torch.no_grad()
def start_heads(network: Network) -> Network:
    """Sets the biases of the convolutions that heads read, where the heads' loss has a start of its own (`Loss.start`);
    Darknet's has none."""
    for layer in network.layers:
        loss = loss_of(layer)
        if loss is not None and loss.start is not None:
            values = loss.start(layer, network.net.width / layer.shape.w)
            _set_biases(network, layer.source_indices[0], values)
    return network


def _set_biases(network: Network, index: int, values: Tensor) -> None:
    """values: (channels,), of the layer's output; found through layers that only join or scale channels."""
    if index < 0:
        return
    layer = network.layers[index]
    if isinstance(layer, Convolutional):
        if layer.scales is None and not layer.shared:
            layer.biases.copy_(values)
    elif layer.kind == "route" and layer.options.groups == 1:
        channels = [network.layers[source].shape.c for source in layer.source_indices]
        for source, part in zip(layer.source_indices, values.split(channels), strict=True):
            _set_biases(network, source, part)
    elif layer.kind == "implicit_mul":
        _set_biases(network, layer.source_indices[0], values)
