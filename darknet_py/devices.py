"""The device that a user names: "cpu", "cuda", "cuda:1", Darknet's plain number of a GPU, or "auto"; and how it
multiplies float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.text import whole_number


def pick_device(name: str | int | torch.device) -> torch.device:
    """The device of that name; "auto": a GPU if there is one, else the CPU; a number: that GPU, as Darknet's `-i`.

    Raises:
        DarknetError: there is no such device.
    """
    text = str(name)
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    elif whole_number(text) is not None:
        text = f"cuda:{text}"
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        if text.startswith("cuda") and not torch.cuda.is_available():
            raise DarknetError(f"device '{name}': no CUDA device is available; use cpu") from None
        raise DarknetError(f"device '{name}': there is no such device; use cpu, or cuda with a GPU") from None
    return device


def constant(numbers: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.tensor` on a device, without waiting until it has done all that it was given before."""
    return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)


@contextmanager
def multiplying(precision: str, device: torch.device, *, searched: bool = False) -> Iterator[None]:
    """Within it, convolutions on a GPU keep all 24 bits of their factors with "fp32"; PyTorch's own default is 11 bits,
    as here with "tf32". searched: cuDNN tries its algorithms for each new shape, and takes the fastest one."""
    cudnn = torch.backends.cudnn
    if device.type != "cuda":
        yield
        return
    with cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark or searched,
        deterministic=cudnn.deterministic,
        allow_tf32=precision != "fp32",
    ):
        yield
