"""What a .safetensors file says of its model beside the tensors: its cfg, class names, version and images seen.

With it, the file is a model that opens alone: `load("model.safetensors")`, `--weights model.safetensors`.
"""

from __future__ import annotations

import io
import json
import os
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from darknet_py.errors import WeightsError
from darknet_py.files import open_file
from darknet_py.text import printable

KEY = "darknet_py"  # the entry of the file's metadata, JSON
MAX_CFG = 16 << 20  # characters
MAX_VERSION = 99_999
MAX_SEEN = 2**63 - 1


class About(NamedTuple):
    """What the metadata says of a model.

    cfg: the text of its cfg. attached: the files that the cfg names (class trees), and their contents.
    names: its class names; None: it has none.
    version, seen: of the .weights file that it was, or would be: three numbers, and training images.
    """

    cfg: str
    attached: dict[str, str]
    names: list[str] | None
    version: tuple[int, int, int]
    seen: int

    def metadata(self) -> dict[str, str]:
        """For the file. A single entry: safetensors writes several in any order, and the same network should give the
        same file."""
        content: dict[str, object] = {"cfg": self.cfg, "seen": self.seen, "version": self.version}
        if self.names:
            content["names"] = self.names
        if self.attached:
            content["files"] = self.attached
        return {KEY: json.dumps(content)}


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(".safetensors")


def open_weights(path: str | os.PathLike[str]) -> io.FileIO:
    """Opens a file with a model's weights, of any format.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return open_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None


def read_model(path: str | os.PathLike[str]) -> About:
    """`read_about` of a file that carries its cfg.

    Raises:
        WeightsError: it carries none, or see `read_about`.
    """
    about = read_about(path)
    if about is None or not about.cfg:
        raise WeightsError(f"{path}: its metadata has no cfg, as another program wrote it; name the .cfg, too (--cfg)")
    return about


def read_about(path: str | os.PathLike[str]) -> About | None:
    """The metadata of a .safetensors file, whose tensors are not read; None: another program wrote it.

    Raises:
        WeightsError: the file cannot be read, is not a safetensors file, or its metadata is damaged.
    """
    open_weights(path).close()
    try:
        with safe_open(os.fspath(path), "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file: {error}") from None
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    damage = _damage(content)
    if damage:
        raise WeightsError(f"{path}: its metadata is damaged: {damage}")
    names = content.get("names")
    return About(
        content["cfg"],
        content.get("files", {}),
        None if names is None else [printable(name) for name in names],
        tuple(content["version"]),
        content["seen"],
    )


def _damage(content: Any) -> str:
    """What is wrong with our entry; "": nothing."""
    if not isinstance(content, dict):
        return "it is not a JSON object"
    if not isinstance(cfg := content.get("cfg"), str) or len(cfg) > MAX_CFG:
        return "the cfg is missing"
    if not isinstance(names := content.get("names", []), list) or not all(isinstance(name, str) for name in names):
        return "the class names are not a list of texts"
    if not isinstance(files := content.get("files", {}), dict) or not all(isinstance(v, str) for v in files.values()):
        return "the files that the cfg names are not texts"
    version, seen = content.get("version"), content.get("seen")
    is_version = isinstance(version, list) and len(version) == 3 and all(_counts(n, MAX_VERSION) for n in version)
    if not is_version or not _counts(seen, MAX_SEEN):
        return "the version or the number of images seen is missing"
    return ""


def _counts(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
