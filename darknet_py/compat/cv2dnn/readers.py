"""`readNetFromDarknet` and `readNet`: files, or their bytes, become a Net."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import cv2
import numpy as np

from darknet_py.bundled import or_bundled
from darknet_py.cfg import Cfg, parse_cfg, parse_text
from darknet_py.compat.cv2dnn.errors import BAD_ARGUMENT, PARSING, Cv2Error, as_cv2
from darknet_py.compat.cv2dnn.net import Net
from darknet_py.network import Network
from darknet_py.text import decoded
from darknet_py.weights import load_weights

NATIVE_READ_NET = cv2.dnn.readNet
"""OpenCV's own, kept from before `install`; it reads the other frameworks' files."""
BUFFER = "the cfg in memory"


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
        if isinstance(weights, (str, bytes, os.PathLike)):
            has_weights = bool(os.fspath(weights))
            if has_weights:
                name = _existing(weights, "parse")
                load_weights(network, name)
        else:
            has_weights = weights is not None and len(weights) > 0
            if has_weights:
                _load_bytes(network, weights)
    return Net(network, has_weights=has_weights)


def _cfg(cfg: Any) -> Cfg:
    if isinstance(cfg, (str, bytes, os.PathLike)):
        return parse_cfg(_existing(cfg, "open"))
    return parse_text(decoded(_bytes(cfg), BUFFER), BUFFER)


def _existing(path: Any, verb: str) -> str:
    name = os.fsdecode(path)
    if not os.path.isfile(or_bundled(name)):
        raise Cv2Error(PARSING, f"Failed to {verb} NetParameter file: {name}", "readNetFromDarknet")
    return name


def _bytes(buffer: Any) -> bytes:
    if not isinstance(buffer, (bytearray, memoryview, np.ndarray, list, tuple)):
        text = f"a path or a buffer of bytes is needed, not {type(buffer).__name__}"
        raise Cv2Error(BAD_ARGUMENT, text, "readNetFromDarknet")
    return bytes(buffer) if isinstance(buffer, (bytearray, memoryview)) else np.asarray(buffer, np.uint8).tobytes()


def _load_bytes(network: Network, buffer: Any) -> None:
    """Weights are read from files: the bytes pass through a temporary one."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "buffer.weights")
        with open(path, "wb") as file:
            file.write(_bytes(buffer))
        load_weights(network, path)


def readNet(model: Any, config: Any = "", framework: Any = "", **buffers: Any) -> Any:
    """Reads a Darknet network from its two files, in either order, or from two buffers: `readNet("darknet", weights,
    cfg)`; files of other frameworks are read by OpenCV's own readNet."""
    config, framework = ("" if one is None else one for one in (config, framework))
    if buffers or not isinstance(config, (str, bytes, os.PathLike)):
        kind = model
        weights, cfg = buffers.get("bufferModel", config), buffers.get("bufferConfig", framework)
        return (
            readNetFromDarknet(cfg, weights) if str(kind).lower() == "darknet" else NATIVE_READ_NET(kind, weights, cfg)
        )
    if not isinstance(model, (str, bytes, os.PathLike)):
        raise Cv2Error(BAD_ARGUMENT, f"a path is needed, not {type(model).__name__}", "readNet")
    model, config = os.fsdecode(model), os.fsdecode(config)
    endings = [os.path.splitext(name)[1].lower() for name in (model, config)]
    if str(framework).lower() != "darknet" and not {".cfg", ".weights"} & set(endings):
        return NATIVE_READ_NET(model, config, framework)
    if endings[0] == ".cfg" or endings[1] == ".weights":
        model, config = config, model
    return readNetFromDarknet(config, model)
