"""Checkpoints: files with all that an interrupted run needs to continue as if uninterrupted."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.files import replacing
from darknet_py.training.step import Trainer

FORMAT = "darknet_py checkpoint 3"


def save_checkpoint(path: str | os.PathLike[str], trainer: Trainer, progress: Mapping[str, object]) -> None:
    """Writes the trainer's state, the random state and `progress` (plain values); replaces an existing file at the end.

    Raises:
        DarknetError: the file cannot be written, e.g. the disk is full; an existing one is untouched.
    """
    content = {
        "format": FORMAT,
        "cfg": trainer.network.cfg.text,
        "trainer": trainer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if trainer.device.type == "cuda" else None,
        "progress": dict(progress),
    }
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or "no space left on the device?"
        raise DarknetError(f"{path}: cannot write this checkpoint: {reason}; the previous one is untouched") from None


def load_checkpoint(
    path: str | os.PathLike[str], trainer: Trainer, settings: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Restores the state of a new trainer of the same cfg, and the random state; no code in the file is executed.

    Args:
        settings: options that must be those of the interrupted run, by name.

    Returns:
        The `progress` that was saved.

    Raises:
        DarknetError: there is no checkpoint, it is damaged, or it is of another network or other `settings`.
    """
    content = _read(path)
    try:
        return _restore(path, content, trainer, settings or {})
    except DarknetError:  # a ValueError, too
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        raise DarknetError(f"{path}: not a checkpoint, or damaged: {_first_line(error)}") from None


def _restore(
    path: str | os.PathLike[str], content: dict[str, Any], trainer: Trainer, settings: Mapping[str, object]
) -> dict[str, Any]:
    saved = content["progress"].get("settings", {})
    for name, value in settings.items():
        before = saved.get(name)
        if before not in (None, value):
            text = f"this run was started with {name.replace('_', '-')} {before}, not {value}; resume it with the same"
            raise DarknetError(f"{path}: {text}")
    if content["cfg"] != trainer.network.cfg.text:
        text = f"{trainer.network.cfg.path}: the cfg has changed since the run of {path} was started"
        warnings.warn(text, CfgWarning, stacklevel=2)
    try:
        trainer.load_state_dict(content["trainer"])
    except DarknetError as error:
        raise DarknetError(f"{path}: {error}") from None
    torch.set_rng_state(content["random"])
    if content["random_cuda"] is not None and trainer.device.type == "cuda":
        torch.cuda.set_rng_state(content["random_cuda"])
    return dict(content["progress"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not Path(path).is_file():
        raise DarknetError(f"{path}: no such checkpoint to resume from; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DarknetError(f"{path}: not a checkpoint, or damaged: {_first_line(error)}") from None
    if not isinstance(content, dict) or not str(content.get("format", "")).startswith(FORMAT[:-1]):
        raise DarknetError(f"{path}: not a checkpoint of this program")
    if content["format"] != FORMAT:
        raise DarknetError(f"{path}: a checkpoint of another version of this program; start from the weights instead")
    return content
