"""Where the heads of a fresh network begin: their losses say which objects they expect before they have seen any."""

from __future__ import annotations

import torch

from darknet_py.layers.channels import deciding
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
            sources = deciding(network.layers, layer.source_indices[0])
            values = loss.start(layer, network.net.width / layer.shape.w)
            parts = values.split([source.shape.c for source in sources]) if sources else []
            for source, part in zip(sources, parts, strict=True):
                if isinstance(source, Convolutional) and source.scales is None and not source.shared:
                    source.biases.copy_(part)
    return network
