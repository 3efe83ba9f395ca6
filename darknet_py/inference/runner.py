"""From a network to a runner, which computes images → raw outputs of the heads fast, and nothing else.

runner = prepare(network, precision="bf16")
heads = runner(images)                          # as network(images); the network stays trainable
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from darknet_py.arguments import whole
from darknet_py.choices import PRECISIONS
from darknet_py.devices import multiplying, pick_device
from darknet_py.errors import DarknetError
from darknet_py.inference.captured import captured_graph
from darknet_py.inference.fused import Graph, fused_graph
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.layers import Candidates
from darknet_py.network import Network

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in PRECISIONS.items()}


class Runner:
    """Images → raw outputs of the heads.

    Attributes:
        network: what runs, derived from the user's network. precision: a key of PRECISIONS. batch: images per batch.
        dtype: of the images. engine: what runs it, with its version.

    compile: makes what runs a fixed number of images in the network's place (fused.py, engines.py), or None if it
        cannot; None: the network itself runs.
    """

    def __init__(
        self,
        network: Network,
        precision: str,
        batch: int,
        *,
        compile: Callable[[Network, int], Graph | None] | None = None,
        engine: str = f"torch {torch.__version__}",
    ) -> None:
        self.network, self.precision, self.batch, self.engine = network, precision, batch, engine
        parameter = next(network.parameters(), None)
        self.dtype = DTYPES[precision] if parameter is None else parameter.dtype
        self.device = network.device
        self.letterbox = network.net.keeps_aspect
        self._compile = compile
        self._graphs: dict[int, Graph | None] = {}
        if compile is not None:
            self._graph(batch)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images, pixels."""
        return self.network.size

    @property
    def runs_graph(self) -> bool:
        """Whether whole batches are run by something compiled; see `prepare`."""
        return self._graphs.get(self.batch) is not None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """As `Network.forward`. images: (n, channels, height, width), 0..1, RGB, of the runner's dtype and device.

        Raises:
            DarknetError: the images are something else; the message says what is expected.
        """
        self.check(images)
        count = len(images)
        graph = self._graph(1 if count == 1 else self.batch) if count <= self.batch else None
        if graph is None:
            with multiplying(self.precision, self.device):
                return self.network(images)
        if 1 < count < self.batch:
            images = torch.cat((images, images.new_zeros((self.batch - count, *images.shape[1:]))))
        outputs = graph(images)
        return [output[:count] for output in outputs]

    def _graph(self, count: int) -> Graph | None:
        """What runs batches of `count` images in the network's place; the first call compiles it."""
        if self._compile is not None and count not in self._graphs:
            self._graphs[count] = self._compile(self.network, count)
        return self._graphs.get(count)

    def candidates(self, raw: Sequence[Tensor], thresh: float, class_map: Tensor | None = None) -> Candidates:
        """What `__call__` gave → the boxes of all heads before suppression, relative to the network's input."""
        heads, size = self.network.head_layers(), self.size
        each = [head.decode(one, thresh, size, class_map=class_map) for head, one in zip(heads, raw, strict=True)]
        return each[0] if len(each) == 1 else Candidates(*map(torch.cat, zip(*each, strict=True)))

    def check_limits(self, thresh: float, nms: float) -> None:
        """Refuses a threshold and an overlap that this runner's outputs cannot be asked for.

        Raises:
            DarknetError: see `OnnxRunner`, whose file may have suppressed detections already.
        """

    def check(self, images: Any) -> None:
        """Refuses images of another shape, type or device.

        Raises:
            DarknetError: see `__call__`.
        """
        network = self.network
        shape = network.input_shape
        one = (shape.c, shape.h, shape.w) if shape.c else (shape.count,)
        if not isinstance(images, Tensor) or images.ndim != len(one) + 1 or images.shape[1:] != one or not len(images):
            got = tuple(images.shape) if hasattr(images, "shape") else type(images).__name__
            wanted = ", ".join(map(str, one))
            raise DarknetError(f"a runner of {network.cfg.path} reads a tensor of shape (n, {wanted}), not {got}")
        if images.dtype != self.dtype or images.device != self.device:
            raise DarknetError(
                f"a runner of {network.cfg.path} reads {self.dtype} on {self.device}, not {images.dtype} on "
                f"{images.device}; write images.to(runner.device, runner.dtype)"
            )


def prepare(
    network: Network,
    *,
    device: str | int | torch.device | None = None,
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
    batch: int = 8,
    fused: bool = False,
    compiled: bool = False,
) -> Runner:
    """Derives a runner from a network, which is not changed and stays trainable.

    Args:
        device: where it runs; None: the network's device.
        precision: "fp32" (the C program's numbers), "bf16", "fp16" (faster on hardware that supports them) or "tf32"
            (float32, rounded in the products of an NVIDIA GPU; elsewhere fp32).
        size: (width, height) of the input in pixels; None: the network's.
        batch: images per batch.
        fused: compile the network for batches of this size, and when a single image comes for that: up to a second,
            and half as fast again or more. It changes no number beyond rounding. Without effect where PyTorch has no
            such compiler. On a GPU, a CUDA graph is captured.
        compiled: of a GPU: fused, and the kernels are made by torch.compile; that takes seconds, up to a minute.

    Raises:
        DarknetError: the precision, the size or the device is unknown, or the batch is no whole number from 1 on.
    """
    if not isinstance(network, Network):
        raise DarknetError(f"a network is needed, as darknet_py.load(cfg, weights) gives, not {network!r}")
    if precision not in PRECISIONS:
        raise DarknetError(f"unknown precision '{precision}'; write one of {', '.join(PRECISIONS)}")
    target = network.device if device is None else pick_device(device)
    derived = reparameterised(network, size=size).to(target, DTYPES[precision])
    captured = partial(captured_graph, precision=precision, compiled=compiled)
    compile = captured if target.type == "cuda" else fused_graph
    return Runner(
        derived.channels_last(), precision, whole("batch", batch), compile=compile if fused or compiled else None
    )
