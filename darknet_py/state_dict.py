"""A network's tensors as a PyTorch state_dict (.pt, .pth), what `network.load_state_dict(torch.load(path))` takes.

Here such a file is written; pickled.py reads it.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from darknet_py.errors import WeightsError
from darknet_py.files import replacing

SUFFIXES = (".pt", ".pth")


def is_state_dict(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in SUFFIXES


def save_state_dict(tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Writes the tensors under their names; an existing file is replaced at the end.

    Raises:
        WeightsError: the file cannot be written, e.g. the disk is full.
    """
    try:
        with replacing(path) as temporary:
            temporary.touch()  # what is wrong with the place is an OSError
            torch.save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or "is there space left on the device?"
        raise WeightsError(f"{path}: cannot write this file: {reason}") from None
