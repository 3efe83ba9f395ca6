"""`readNetFromDarknet` and `readNet`: files, or their bytes, become a Net."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import Any

import cv2
import numpy as np

from darknet_py.bundled import or_bundled
from darknet_py.cfg import Cfg, parse_cfg, parse_text
from darknet_py.compat.cv2dnn.errors import BAD_ARGUMENT, PARSING, Cv2Error, as_cv2
from darknet_py.compat.cv2dnn.net import Net
from darknet_py.network import Network
from darknet_py.text import decoded, printable, shortened
from darknet_py.weights import load_weights

NATIVE_READ_NET = cv2.dnn.readNet
"""OpenCV's own, kept from before `install`; it reads the other frameworks' files."""
BUFFER = "the cfg in memory"
PATH = (str, bytes, os.PathLike)


def readNetFromDarknet(
    cfgFile: Any = None,
    darknetModel: Any = "",
    *,
    bufferCfg: Any = None,
    bufferModel: Any = None,
) -> Net:
    """Reads a network.

    Args:
        cfgFile, darknetModel: paths of the .cfg and the .weights (str, bytes or path-like); or the contents of both, as
            uint8 arrays or bytearrays. Without weights, layers can be looked at, but `forward` fails.
        bufferCfg, bufferModel: the contents by name.

    Raises:
        cv2.error: a file is missing or wrong; the message says where.
    """
    cfg = cfgFile if bufferCfg is None else bufferCfg
    weights = darknetModel if bufferModel is None else bufferModel
    with as_cv2(PARSING, "readNetFromDarknet"):
        network = Network(_cfg(cfg)).requires_grad_(False).eval()
        network.check_graph("has no form in OpenCV's dnn; detect with darknet_py.Detector")
        is_path = isinstance(weights, PATH)
        content = os.fspath(weights) if is_path else b"" if weights is None else _bytes(weights)
        if content and is_path:
            load_weights(network, _existing(content, "parse"))
        elif content:
            _load_bytes(network, content)
    return Net(network, has_weights=bool(content))


def _cfg(cfg: Any) -> Cfg:
    if isinstance(cfg, PATH):
        return parse_cfg(_existing(cfg, "open"))
    return parse_text(decoded(_bytes(cfg), BUFFER), BUFFER)


def _existing(path: Any, verb: str) -> str:
    name = _path(path, "readNetFromDarknet")
    if not os.path.isfile(or_bundled(name)):
        raise Cv2Error(PARSING, f"Failed to {verb} NetParameter file: {printable(name)}", "readNetFromDarknet")
    return name


def _path(path: Any, func: str) -> str:
    """A path as str. Cfgs have several lines and weights have zeros, paths have neither."""
    name = os.fsdecode(path)
    if "\n" in name or "\0" in name:
        text = "a path is needed, not a file's contents; write readNetFromDarknet(bytearray(cfg), bytearray(weights))"
        raise Cv2Error(BAD_ARGUMENT, text, func)
    return name


def _bytes(buffer: Any) -> bytes:
    """The bytes of a buffer, or of an array or a sequence of numbers from 0 to 255."""
    if isinstance(buffer, (bytearray, memoryview)):
        return bytes(buffer)
    text = f"a path or a buffer of bytes is needed, not {type(buffer).__name__}"
    if isinstance(buffer, (np.ndarray, list, tuple)):
        with suppress(ValueError):  # rows of different lengths
            values = np.asarray(buffer)
            if values.ndim and (
                not values.size or (values.dtype.kind in "iu" and 0 <= values.min() <= values.max() < 256)
            ):
                return values.astype(np.uint8).tobytes()
        text = "a buffer holds bytes, whole numbers from 0 to 255, and this one holds something else"
    raise Cv2Error(BAD_ARGUMENT, text, "readNetFromDarknet")


def _load_bytes(network: Network, content: bytes) -> None:
    """Weights are read from files: the bytes pass through a temporary one."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "buffer.weights")
        with open(path, "wb") as file:
            file.write(content)
        load_weights(network, path)


def readNet(model: Any, config: Any = "", framework: Any = "", **buffers: Any) -> Any:
    """Reads a Darknet network from its two files, in either order, or from two buffers: `readNet("darknet", weights,
    cfg)`; files of other frameworks are read by OpenCV's own readNet."""
    config, framework = ("" if one is None else one for one in (config, framework))
    if isinstance(model, PATH):
        model = _path(model, "readNet")
    if buffers or not isinstance(config, PATH):
        kind = model
        weights, cfg = buffers.get("bufferModel", config), buffers.get("bufferConfig", framework)
        return readNetFromDarknet(cfg, weights) if str(kind).lower() == "darknet" else _native(kind, weights, cfg)
    for path in (model, framework):
        if not isinstance(path, PATH):
            raise Cv2Error(BAD_ARGUMENT, f"a path is needed, not {type(path).__name__}", "readNet")
    config, framework = _path(config, "readNet"), _path(framework, "readNet")
    endings = [os.path.splitext(name)[1].lower() for name in (model, config)]
    if framework.lower() != "darknet" and not {".cfg", ".weights"} & set(endings):
        return _native(model, config, framework)
    if endings[0] == ".cfg" or endings[1] == ".weights":
        model, config = config, model
    return readNetFromDarknet(config, model)


def _native(*args: Any) -> Any:
    """OpenCV's own readNet, which ends the process at words that have no UTF-8."""
    words = " ".join(word for word in args if isinstance(word, str) and word)
    try:
        words.encode()
    except UnicodeEncodeError:
        text = f"{shortened(words)}: this is not UTF-8; give the file another name"
        raise Cv2Error(BAD_ARGUMENT, text, "readNet") from None
    return NATIVE_READ_NET(*args)
