"""The device that a user names: "cpu", "cuda", "cuda:1", Darknet's plain number of a GPU, or "auto"."""

from __future__ import annotations

import torch

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
