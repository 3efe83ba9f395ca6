"""One fused graph of a whole network for a fixed number of images: the same numbers, faster on a CPU.

TorchScript hands the network to oneDNN Graph, which joins convolutions, activations, sums and concatenations into one
kernel each. The switch is public (torch.jit.enable_onednn_fusion), but whether anything is fused depends on the
PyTorch and the machine: so the graph is looked at, and its outputs are compared, before it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

from darknet_py.layers import Layer
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network

Graph: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
CALLS = 2  # the first one notes shapes, the second one compiles
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""By number format: how far an output may be from the unfused one, relative to its largest value."""


def fused_graph(network: Network, count: int) -> Graph | None:
    """The network as a function of `count` images, (count, channels, height, width) → what `network(images)` gives;
    compiled. None: this PyTorch does not fuse it, or fused it gives other numbers.

    network: in evaluation mode, on the CPU. Its tensors are the graph's weights, which must not change afterwards.
    """
    images = example(network, count)
    if images is None or images.device.type != "cpu" or images.dtype not in TOLERANCES:
        return None
    with torch.inference_mode(False), torch.no_grad(), _fusing():
        try:
            # of a function, not of a module: then weights are constants, and no module is made for each layer
            graph = torch.jit.trace(_as_tuple(network), images.clone(), check_trace=False, strict=False)
            for _ in range(CALLS):
                outputs = graph(images)
            is_fused = "oneDNNFusionGroup" in str(torch._C._last_executed_optimized_graph())
        except (RuntimeError, NotImplementedError):  # what TorchScript cannot say
            return None
        expected = network(images)
    if not is_fused or difference(outputs, expected) > TOLERANCES[images.dtype]:
        return None
    return lambda images: graph(images.contiguous(memory_format=torch.channels_last))


def example(network: Network, count: int) -> Tensor | None:
    """Random images as the network reads them, of its type and on its device, channels last in memory. None: no graph
    can say it, as it reads none or keeps states, or has no weights to fuse."""
    parameter, shape = next(network.parameters(), None), network.input_shape
    if parameter is None or not shape.c or any(isinstance(layer, Recurrent) for layer in network.layers):
        return None
    images = torch.rand((count, shape.c, shape.h, shape.w), generator=torch.Generator().manual_seed(0))
    return images.to(parameter).contiguous(memory_format=torch.channels_last)


def _as_tuple(network: Network) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A network whose outputs are a tuple, as a trace gives no list."""

    def kept(layer: Layer, source: int, output: Tensor) -> Tensor:
        """What a layer reads of another. A fused sum overwrites what it adds, so what is read later, or is part of
        another tensor, is hidden from the fusion by a slice of all channels."""
        is_part = output.untyped_storage().nbytes() != output.numel() * output.element_size()
        if layer.kind == "shortcut" and (is_part or network.is_read_after(source, layer.index)):
            return output[:, : int(output.shape[1])]
        return output

    return lambda images: tuple(network(images, kept))


@contextmanager
def _fusing() -> Iterator[None]:
    """The switch is one for the whole process, so it is set back; TorchScript's deprecation is no news for users."""
    before = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.jit.enable_onednn_fusion(before)


def difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The greatest difference of an output, relative to its largest value; infinite where shapes or NaN differ."""
    worst = 0.0
    for ours, plain in zip(outputs, expected, strict=True):
        if ours.shape != plain.shape:
            return float("inf")
        largest = plain.abs().max().clamp(min=1e-30)
        one = float((ours - plain).abs().max() / largest)
        worst = max(worst, one if one == one else float("inf"))
    return worst
