"""One CUDA graph of a whole network for a fixed number of images: the same kernels, started all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darknet_py.devices import multiplying
from darknet_py.inference.fused import Graph, difference, example
from darknet_py.network import Network

CALLS = 3  # before the capture: libraries allocate their memory and choose their algorithms
MAX_FORMS = 256  # networks and sizes that one process compiles
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""By number format: how far an output may be from the network's own, relative to its largest value; the two may take
different algorithms."""


def captured_graph(network: Network, count: int, precision: str = "fp32", *, compiled: bool = False) -> Graph | None:
    """The network as a function of `count` images, (count, channels, height, width) → what `network(images)` gives.
    None: it cannot be captured, or gives other numbers.

    network: in evaluation mode, on a GPU. The graph reads its weights, so it must not be moved; it may be called by
    several threads and on several streams, one after the other. compiled: its kernels are made by torch.compile, which
    joins biases, activations and sums; that takes seconds.
    """
    images, device = example(network, count), network.device
    if images is None or device.type != "cuda":
        return None
    run = _compiled(network) if compiled else network
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    with torch.inference_mode(False), torch.no_grad(), multiplying(precision, device, searched=True):
        try:
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(CALLS):
                    run(images)
            torch.cuda.current_stream(device).wait_stream(stream)
            with torch.cuda.graph(graph, stream=stream):
                outputs = run(images)
        except RuntimeError:  # a layer waits for the device, or its memory is full
            return None
    captured = _Captured(graph, images, outputs)
    with torch.no_grad(), multiplying(precision, device):
        others = images.flip(-1).contiguous(memory_format=torch.channels_last)
        is_same = difference(captured(others), network(others)) <= TOLERANCES[images.dtype]
    return captured if is_same else None


def _compiled(network: Network) -> Callable[[Tensor], Sequence[Tensor]]:
    """By torch.compile; networks share their code, of which PyTorch compiles only eight forms where it is not told
    otherwise."""
    run = torch.compile(network, dynamic=False)

    def patched(images: Tensor) -> Sequence[Tensor]:
        with torch._dynamo.config.patch(cache_size_limit=MAX_FORMS):
            return run(images)

    return patched


class _Captured:
    """A graph with the memory that it reads and writes, for one call at a time."""

    def __init__(self, graph: torch.cuda.CUDAGraph, images: Tensor, outputs: Sequence[Tensor]) -> None:
        self.graph, self.images, self.outputs = graph, images, outputs
        self.turn, self.done = threading.Lock(), torch.cuda.Event()

    def __call__(self, images: Tensor) -> list[Tensor]:
        with self.turn:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.done)  # of a call on another stream
            self.images.copy_(images)
            self.graph.replay()
            outputs = [output.clone() for output in self.outputs]
            self.done.record(stream)
            return outputs
