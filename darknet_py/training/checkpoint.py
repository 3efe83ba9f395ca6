"""Checkpoints: files with all that an interrupted run needs to continue as if uninterrupted.

A checkpoint is what torch.save writes, and the hash of that. The one before stays beside it, for the day on which a
disk fails.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darknet_py.errors import CfgWarning, DarknetError, out_of_memory
from darknet_py.files import read_file, replacing
from darknet_py.training.step import Trainer

FORMAT = "darknet_py checkpoint 5"
MARK = b"darknet_py hash:"  # between what torch.save wrote and its hash
HASH_BYTES = 32
MAX_BYTES = 1 << 36


class _DamagedError(DarknetError):
    """A checkpoint that is not what this program wrote."""


def save_checkpoint(
    path: str | os.PathLike[str], trainer: Trainer, progress: Mapping[str, object], *, keep: bool = False
) -> None:
    """Writes the trainer's state, the random state and `progress` (plain values); replaces an existing file at the end.

    keep: the existing file is of this run, and stays as `previous_of(path)`; else nothing stays.

    Raises:
        DarknetError: the file cannot be written, e.g. the disk is full; an existing one is untouched.
    """
    write_checkpoint(
        path,
        {
            "format": FORMAT,
            "cfg": trainer.network.cfg.text,
            "trainer": trainer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if trainer.device.type == "cuda" else None,
            "progress": dict(progress),
        },
        keep=keep,
    )


def write_checkpoint(path: str | os.PathLike[str], content: object, *, keep: bool = False) -> None:
    """Writes any content with its hash."""
    path, previous = Path(path), previous_of(path)
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                writer = _Hashed(file)
                torch.save(content, writer)  # type: ignore[arg-type]
                file.write(MARK + writer.hash.digest())
            if keep and path.is_file():
                _keep(path, previous)
        if not keep:
            previous.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or "no space left on the device?"
        raise DarknetError(f"{path}: cannot write this checkpoint: {reason}; the previous one is untouched") from None


class _Hashed:
    """A file that is being written, and the hash of what it was given."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.hash = file, hashlib.blake2b(digest_size=HASH_BYTES)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _keep(path: Path, previous: Path) -> None:
    """Gives a file its second name; the first one stays until it is replaced."""
    with replacing(previous) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def previous_of(path: str | os.PathLike[str]) -> Path:
    """Where the checkpoint before this one is: NAME_last.previous.checkpoint."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(
    path: str | os.PathLike[str], trainer: Trainer, settings: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Restores the state of a new trainer of the same cfg, and the random state; no code in the file is executed.

    In place of a damaged file the one before it is read, with a warning.

    Args:
        settings: options that must be those of the interrupted run, by name.

    Returns:
        The `progress` that was saved.

    Raises:
        DarknetError: there is no checkpoint, it is damaged, or it is of another network or other `settings`.
    """
    try:
        content = _read(path)
    except _DamagedError as damage:
        previous = previous_of(path)
        if not previous.is_file():
            raise
        content = _read(previous)
        content["progress"]["saved"] = 0  # the damaged file will not be kept
        warnings.warn(f"{damage}; the run continues from the one before, {previous}", CfgWarning, stacklevel=2)
    try:
        return _restore(path, content, trainer, settings or {})
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, DarknetError) or out_of_memory(error):
            raise
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
    if not os.path.lexists(path):
        raise DarknetError(f"{path}: no such checkpoint to resume from; start without --resume")
    try:
        data = read_file(path, MAX_BYTES)
    except OSError as error:
        raise DarknetError(f"{path}: cannot read this checkpoint: {error.strerror or error}") from None
    end = len(data) - len(MARK) - HASH_BYTES
    saved, mark, digest = data[:end], data[end:-HASH_BYTES], data[-HASH_BYTES:]
    del data
    if end < 0 or mark != MARK:
        raise _DamagedError(f"{path}: not a checkpoint, or damaged: its end is missing, or it is of an earlier version")
    if hashlib.blake2b(saved, digest_size=HASH_BYTES).digest() != digest:
        raise _DamagedError(f"{path}: not a checkpoint, or damaged: its content is not what was written")
    try:
        with zipfile.ZipFile(io.BytesIO(saved)) as archive:
            if any(entry.compress_type for entry in archive.infolist()):
                raise ValueError("it is compressed")  # and may be of any size
        content = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader gives whatever strange bytes lead to
        if out_of_memory(error):
            raise
        raise DarknetError(f"{path}: not a checkpoint, or damaged: {_first_line(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DarknetError(f"{path}: not a checkpoint of this version of the program; start from the weights instead")
    return content
