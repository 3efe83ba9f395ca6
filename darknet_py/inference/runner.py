"""From a network to a runner, which computes images → raw outputs of the heads fast, and nothing else.

runner = prepare(network, precision="bf16")
heads = runner(images)                          # as network(images); the network stays trainable
"""

from __future__ import annotations

import torch
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.inference.deploy import deployed
from darknet_py.network import Network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Runner:
    """Images → raw outputs of the heads.

    Attributes:
        network: what runs, derived from the user's network. precision: a key of PRECISIONS. batch: images per batch.
    """

    def __init__(self, network: Network, precision: str, batch: int) -> None:
        self.network, self.precision, self.batch = network, precision, batch
        self.dtype = PRECISIONS[precision]
        self.device = network.device

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images, pixels."""
        return self.network.size

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """As `Network.forward`. images: (n, channels, height, width), 0..1, RGB, of the runner's dtype and device."""
        return self.network(images)


def prepare(
    network: Network,
    *,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
    batch: int = 8,
) -> Runner:
    """Derives a runner from a network, which is not changed and stays trainable.

    Args:
        device: where it runs; None: the network's device.
        precision: "fp32" (the C program's numbers), "bf16" or "fp16" (faster on hardware that supports them).
        size: (width, height) of the input in pixels; None: the network's.
        batch: images per batch.

    Raises:
        DarknetError: the precision is unknown, or the batch is below 1.
    """
    if precision not in PRECISIONS:
        raise DarknetError(f"unknown precision '{precision}'; write one of {', '.join(PRECISIONS)}")
    if batch < 1:
        raise DarknetError(f"a batch cannot have {batch} images; write 1 or more")
    derived = deployed(network, size=size).to(device or network.device, PRECISIONS[precision])
    return Runner(derived.channels_last(), precision, batch)


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto": a GPU if there is one, else the CPU.

    Raises:
        DarknetError: there is no such device.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise DarknetError("no CUDA device is available; use --device cpu") from None
        raise DarknetError(f"there is no such device: '{name}'; use --device cpu, or cuda with a GPU") from None
    return device
