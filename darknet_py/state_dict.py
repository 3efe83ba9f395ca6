"""A network's tensors as a PyTorch state_dict (.pt, .pth), what `network.load_state_dict(torch.load(path))` takes.

Of a file only tensors are read (`weights_only`), never the code that a pickle may hold.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from darknet_py.errors import WeightsError, out_of_memory
from darknet_py.files import open_file, replacing

SUFFIXES = (".pt", ".pth")


def is_state_dict(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix in SUFFIXES


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


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file by their names.

    Raises:
        WeightsError: it cannot be read, is no PyTorch file, or holds something else than tensors by names.
    """
    try:
        open_file(path).close()
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type for entry in archive.infolist()):  # it could be of any size
                raise WeightsError(f"{path}: a compressed archive, which torch.save does not write; not read")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    except WeightsError:
        raise
    except zipfile.BadZipFile:
        raise WeightsError(
            f"{path}: not a file as torch.save writes it since PyTorch 1.6; is it cut off? (an older one: load it with "
            "PyTorch and save it again)"
        ) from None
    except Exception as error:  # torch's reader gives whatever strange bytes lead to
        if out_of_memory(error):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        text = "it holds more than tensors, and could run code" if "weights" in first.lower() else first
        raise WeightsError(f"{path}: not a PyTorch state_dict: {text}; save network.state_dict() alone") from None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        what = f"keys {', '.join(map(str, content))[:80]}" if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"{path}: not a state_dict of tensors ({what}); save network.state_dict() alone")
    return content
