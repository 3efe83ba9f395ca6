"""Everything that a run needs to go on as if it had never stopped, in one file."""

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
from darknet_py.losses import Rejection
from darknet_py.training.ema import Ema
from darknet_py.training.step import Trainer

FORMAT = "darknet_py checkpoint 2"


def save_checkpoint(path: str | os.PathLike[str], trainer: Trainer, ema: Ema, progress: dict[str, Any]) -> None:
    """Writes weights, optimizer, average, counters, random state and `progress` (plain values); renamed into place when complete.

    Raises:
        DarknetError: the file cannot be written (a full disk …); one that was there before is untouched.
    """
    network = trainer.network
    content = {
        "format": FORMAT,
        "cfg": "\n".join(network.cfg.lines),
        "weights": {
            f"layers.{layer.index}.{one.name}": one.tensor.detach().cpu()
            for layer in network.layers
            for one in layer.stored()
        },
        "optimizer": trainer.optimizer.state_dict(),
        "ema": {name: value.cpu() for name, value in ema.values.items()},
        "scaler": trainer.scaler.state_dict(),
        "states": network.states(),
        "rejection": vars(trainer.rejection),
        "iteration": trainer.iteration,
        "seen": trainer.seen,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if trainer.device.type == "cuda" else None,
        "progress": progress,
    }
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or "no space left on the device?"
        raise DarknetError(f"{path}: cannot write this checkpoint: {reason}; the last good one is untouched") from None


def load_checkpoint(
    path: str | os.PathLike[str], trainer: Trainer, ema: Ema, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Brings a fresh trainer of the same cfg to where the file's was; returns its `progress`. Nothing in the file is executed.

    Raises:
        DarknetError: no checkpoint, a damaged one, one of another network, or of a run with other `settings`.
    """
    if not Path(path).is_file():
        raise DarknetError(f"{path}: there is no checkpoint to resume from; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DarknetError(f"{path}: not a checkpoint, or a damaged one: {str(error).splitlines()[0][:120]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DarknetError(f"{path}: not a checkpoint of this program")
    network = trainer.network
    for name, value in (settings or {}).items():
        if (before := content["progress"].get("settings", {}).get(name, value)) != value:
            raise DarknetError(
                f"{path}: this run was begun with {name.replace('_', '-')} {before}, not {value}; resume it as it began"
            )
    if content["cfg"] != "\n".join(network.cfg.lines):
        warnings.warn(f"{network.cfg.path}: has changed since the run in {path} began", CfgWarning, stacklevel=2)
    with torch.no_grad():
        for layer in network.layers:
            for one in layer.stored():
                value = content["weights"].pop(f"layers.{layer.index}.{one.name}", None)
                if value is None or value.shape != one.tensor.shape:
                    raise DarknetError(
                        f"{path}: of another network than {network.cfg.path}: layer {layer.index} ({layer.kind}, {one.name}) differs"
                    )
                one.tensor.copy_(value)
    if content["weights"]:
        raise DarknetError(
            f"{path}: of another network than {network.cfg.path}: it has {next(iter(content['weights']))}"
        )
    try:
        trainer.optimizer.load_state_dict(content["optimizer"])
    except ValueError:
        raise DarknetError(
            f"{path}: the layers that are trained, or their options, are not those that this run began with"
        ) from None
    if content["scaler"]:
        trainer.scaler.load_state_dict(content["scaler"])
    device = trainer.device
    ema.values = {name: value.to(device) for name, value in content["ema"].items()}
    network.set_states(content["states"])
    trainer.rejection = Rejection(**content["rejection"])
    trainer.iteration, trainer.seen = content["iteration"], content["seen"]
    network.seen = trainer.seen
    torch.set_rng_state(content["random"])
    if content["random_cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(content["random_cuda"])
    return dict(content["progress"])
