"""Where a fresh network begins: the losses of its heads say which objects they expect before they have seen any."""

from __future__ import annotations

import torch
from torch import Tensor

from darknet_py.layers.channels import deciding
from darknet_py.layers.connected import Connected
from darknet_py.layers.convolutional import Convolutional
from darknet_py.layers.deconvolutional import Deconvolutional
from darknet_py.losses.loss import Start
from darknet_py.network import Network
from darknet_py.training.step import losses_of

Weighted = Convolutional | Connected


@torch.no_grad()
def start_network(network: Network, seed: int = 0) -> Network:
    """Sets weights and biases of the layers that heads read, and of all layers before, where the heads' loss has a
    start of its own (`Loss.start`); Darknet's has none. A head is passed over where other layers than convolutions and
    [connected] have a say in its channels.

    Args:
        network: changed in place, and returned. seed: the same one gives the same weights.

    Raises:
        CfgError: a layer names a loss or an assigner that is not known.
    """
    generator = torch.Generator().manual_seed(seed + 1)  # `Network.initialise` has drawn from the seed itself
    starts = [
        (layer, loss.start(layer, network.net.width / max(layer.shape.w, 1)))
        for layer, loss in losses_of(network)
        if loss.start is not None
    ]
    if any(start.pytorch for _, start in starts):
        for part in network.modules():
            if isinstance(part, Weighted | Deconvolutional) and not getattr(part, "shared", False):
                _begin_as_pytorch(part, generator)
    for layer, start in starts:
        predictors = _behind(network, layer.source_indices[0])
        counts = [len(predictor.biases) for predictor in predictors]
        if sum(counts) != len(start.biases):
            continue
        for predictor, channels in zip(predictors, torch.arange(sum(counts)).split(counts), strict=True):
            if predictor.scales is None and not getattr(predictor, "shared", False):
                _begin(predictor, start, channels, generator)
        if start.before is not None:
            before = [one for predictor in predictors for one in _behind(network, predictor.source_indices[0])]
            for one in {id(one): one for one in before}.values():
                one.weights.normal_(0.0, start.before, generator=generator)
    return network


def _begin_as_pytorch(layer: Weighted | Deconvolutional, generator: torch.Generator) -> None:
    """Weights, and biases where there is no batch norm, uniform within 1/sqrt(inputs)."""
    limit = layer.weights[0].numel() ** -0.5
    layer.weights.uniform_(-limit, limit, generator=generator)
    if layer.scales is None:
        layer.biases.uniform_(-limit, limit, generator=generator)


def _behind(network: Network, index: int) -> list[Weighted]:
    """The layers with weights whose outputs are the channels of a layer, in their order; []: there are others too."""
    layers = deciding(network.layers, index)
    weighted = [layer for layer in layers if isinstance(layer, Weighted)]
    return weighted if len(weighted) == len(layers) else []


def _begin(predictor: Weighted, start: Start, channels: Tensor, generator: torch.Generator) -> None:
    """channels: the numbers of the predictor's channels in the head's raw output."""
    weights, biases = predictor.weights, predictor.biases
    limit = weights[0].numel() ** -0.5
    if start.deviations is None:
        weights.uniform_(-limit, limit, generator=generator)
    else:
        deviations = start.deviations[channels].view(-1, *[1] * (weights.ndim - 1))
        weights.normal_(generator=generator).mul_(deviations)
    biases.copy_(start.biases[channels])
    if start.varied is not None:
        added = torch.empty_like(biases).uniform_(-limit, limit, generator=generator)
        biases.add_(added * start.varied[channels])
