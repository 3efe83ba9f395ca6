"""From a network to what runs it fast: derived from the network, and nothing but images → the heads' raw outputs.

runner = prepare(network, precision="bf16")
heads = runner(images)                          # as network(images), and the network can still be trained
"""

from __future__ import annotations

import torch
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.inference.deploy import deployed
from darknet_py.network import Network

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Runner:
    """Images → the heads' raw outputs, and nothing else.

    Attributes:
        network: what is run, derived from the user's network. precision: a key of PRECISIONS. batch: images at once.
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
        """images: (n, channels, height, width), 0..1, RGB, of the runner's dtype and device."""
        return self.network(images)


def prepare(
    network: Network,
    *,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
    batch: int = 8,
) -> Runner:
    """Derives a runner from a network, which is not touched and can be trained on.

    Args:
        device: where it runs; None: where the network is.
        precision: "fp32" (the C program's numbers), "bf16" or "fp16" (faster where the hardware has it).
        size: (width, height) of the input in pixels; None: the network's.
        batch: images that pass the network at once.

    Raises:
        DarknetError: an unknown precision, or a batch below 1.
    """
    if precision not in PRECISIONS:
        raise DarknetError(f"precision '{precision}' is not known; write one of {', '.join(PRECISIONS)}")
    if batch < 1:
        raise DarknetError(f"a batch of {batch} images; write 1 or more")
    derived = deployed(network, size=size).to(device or network.device, PRECISIONS[precision])
    return Runner(derived.channels_last(), precision, batch)


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto": a GPU where there is one.

    Raises:
        DarknetError: there is no such device here.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise DarknetError(f"device '{name}': no CUDA device is available; write cpu") from None
        raise DarknetError(
            f"device '{name}': there is no such device here; write cpu, or cuda where there is a GPU"
        ) from None
    return device
