"""state_dicts of other programs: which of their tensors is which of a network's, by the option `key` of its layers.

`key` is the name of a layer in the program that the network comes from. Tensors are found by name, never by order.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darknet_py.errors import CfgWarning, WeightsError
from darknet_py.layers import Layer
from darknet_py.text import shortened

if TYPE_CHECKING:
    from darknet_py.network import Network

PARTS = (("{}.conv", "{}.bn"), ("{}.0", "{}.1"), ("{}", "{}"), ("{}.Conv2d", "{}.BatchNorm2d"))
"""Names of the convolution and of the batch norm in a block."""
NORM = {"scales": "weight", "biases": "bias", "rolling_mean": "running_mean", "rolling_variance": "running_var"}
"""The tensors of a batch norm: Darknet's names → PyTorch's."""
LEARNED = ("{}.implicit", "{}")
"""Names of the values of [implicit_add] and [implicit_mul]."""
CONSTANTS = re.compile(
    r"(.*\.)?(num_batches_tracked|anchors|anchor_grid|stride|strides|proj|proj_conv\.weight|dfl\.conv\.weight)"
)
"""Tensors that are no weights: counters, and what the cfg says or the head's formula implies."""
ANCHOR_ROUNDING = 0.01  # they are stored in half precision
RENAMED = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"module\.(.+)", r"\1"),
        (r"backbone\.conv1\.weight", r"backbone.conv1.conv.weight"),
        (r"backbone\.bn1\.(.+)", r"backbone.conv1.bn.\1"),
        (r"backbone\.layer(\d)\.ds_(conv|bn)\.(.+)", r"backbone.conv_res_block\1.conv.\2.\3"),
        (
            r"backbone\.layer(\d)\.residual_(\d)\.(conv|bn)(\d)\.(.+)",
            r"backbone.conv_res_block\1.res\2.conv\4.\3.\5",
        ),
        (r"last_layer(\d)_conv\.(.+)", r"neck.conv\1.\2"),
        (r"last_layer(\d)\.5\.(.+)", r"bbox_head.convs_bridge.\1.\2"),
        (r"last_layer(\d)\.6\.(.+)", r"bbox_head.convs_pred.\1.\2"),
    )
)
"""Spellings of a name → the one of the keys: the prefix of PyTorch's DataParallel; and what bubbliiiing's yolo3-pytorch
calls the tensors of mmdetection's network, whose names yolov3-mmdet.cfg has."""
DETECTOR = re.compile(r"last_layer(\d)\.([0-4])\.(.+)")


def own_tensors(
    network: Network, found: Mapping[str, Tensor], path: str | os.PathLike[str], cutoff: int | None = None
) -> dict[str, Tensor]:
    """Tensors of another program by the names of the network's own, "layers.0.weights"; `cutoff`: of the layers before
    this one.

    A batch norm that is already folded into the weights becomes one that changes nothing. Tensors that belong to no
    layer give a warning: heads that exist in training alone are left out of many cfgs.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    tensors = _by_common_names(found, path)
    result: dict[str, Tensor] = {}
    used: set[str] = set()
    for layer in network.layers[:cutoff]:
        targets = {stored.name: stored.tensor for stored in layer.stored()}
        names = _names(network, layer, set(targets), tensors, path)
        used |= set(names.values())
        values = {stored: _laid_out(tensors[name], targets[stored]) for stored, name in names.items()}
        for stored, tensor in values.items():
            if tensor.shape != targets[stored].shape:
                shape = shortened(str(tuple(tensor.shape)))
                here = f"'{names[stored]}' is {shape}, layer {layer.index} of {network.cfg.path} needs"
                raise WeightsError(f"{path}: {here} {tuple(targets[stored].shape)}; wrong cfg, or other classes?")
        if "scales" in targets and "scales" not in values:
            values |= _identity(targets["scales"], network.net.bn_eps)
        result |= {f"layers.{layer.index}.{stored}": tensor for stored, tensor in values.items()}
    rest = [name for name in tensors if name not in used and not CONSTANTS.fullmatch(name)]
    if rest and cutoff is None:
        example = f"{len(rest)} tensors belong to no layer of {network.cfg.path}, e.g. '{shortened(rest[0])}'"
        text = f"{path}: {example}; not read"
        warnings.warn(text, CfgWarning, stacklevel=5)
    _check_anchors(network, tensors, path)
    return result


def _by_common_names(found: Mapping[str, Tensor], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Raises WeightsError if two tensors are one to the keys, as with and without DataParallel's prefix."""
    names: dict[str, str] = {}
    for name in found:
        if names.setdefault(common := _common(name), name) != name:
            both = f"'{shortened(names[common])}' and '{shortened(name)}'"
            raise WeightsError(f"{path}: {both} are the same tensor of the network; leave one of them out")
    return {common: found[name] for common, name in names.items()}


def _check_anchors(network: Network, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """A warning if the file has other anchors than the cfg: YOLOv5 and v7 choose some for a data set, (heads, anchors,
    2), in cells."""
    heads = [(head, head.anchors) for head in network.head_layers() if head.anchors is not None]
    if len({anchors.shape for _, anchors in heads}) != 1:
        return
    shape = (len(heads), *heads[0][1].shape)
    for name, values in tensors.items():
        if not re.fullmatch(r"(.*\.)?anchors", name) or values.shape != shape:
            continue
        known = torch.stack([anchors.cpu() for _, anchors in heads])
        cells = [torch.tensor(network.size) / torch.tensor(head.shape[2:0:-1]) for head, _ in heads]
        pixels = torch.stack([level.cpu() * cell for level, cell in zip(values.float(), cells, strict=True)])
        if not torch.allclose(pixels, known, rtol=ANCHOR_ROUNDING):
            listed = ", ".join(f"{side:.4g}" for side in pixels.flatten().tolist())
            cfg = network.cfg.path
            text = f"{path}: '{shortened(name)}' are other anchors than those of {cfg}; write anchors={listed}"
            warnings.warn(text, CfgWarning, stacklevel=6)


def _identity(like: Tensor, eps: float) -> dict[str, Tensor]:
    """A batch norm that changes nothing, but for the bias."""
    zeros = torch.zeros(like.shape)
    return {"scales": zeros + (1 + eps) ** 0.5, "rolling_mean": zeros, "rolling_variance": zeros + 1}


def _common(name: str) -> str:
    """A tensor's name as the keys of the cfgs spell it."""
    for pattern, new in RENAMED:
        name = pattern.sub(new, name) if pattern.fullmatch(name) else name
    if match := DETECTOR.fullmatch(name):  # its blocks and layers count from 0
        return f"neck.detect{int(match[1]) + 1}.conv{int(match[2]) + 1}.{match[3]}"
    return name


def _names(
    network: Network, layer: Layer, own: set[str], tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> dict[str, str]:
    """The layer's tensors `own` → their names in the file, which has them all."""
    if not own:
        return {}
    keys = (layer.options.key, f"module_list.{layer.index}")  # the latter of PyTorch programs that read Darknet's cfgs
    spellings = [names for key in keys if key for names in _spellings(own, key)]
    for names in spellings:
        if all(name in tensors for name in names.values()):
            return names
    if not spellings:
        raise WeightsError(f"{path}: [{layer.kind}], layer {layer.index}, cannot be read from another program's names")
    closest = max(spellings, key=lambda names: sum(name in tensors for name in names.values()))
    missing = next(name for name in closest.values() if name not in tensors)
    raise WeightsError(
        f"{path}: does not fit {network.cfg.path}: '{missing}' of layer {layer.index} is missing; wrong cfg?"
    )


def _spellings(own: set[str], key: str) -> Iterator[dict[str, str]]:
    """How a file may name the tensors `own` of a layer, by their names here."""
    if own == {"weights"}:
        yield from ({"weights": name.format(key)} for name in LEARNED)
        return
    parts = [(convolution.format(key), norm.format(key)) for convolution, norm in PARTS]
    if "scales" in own:
        for convolution, norm in parts:
            normalised = {stored: f"{norm}.{name}" for stored, name in NORM.items()}
            if "weights" not in own:
                yield normalised
            elif convolution != norm:
                yield {"weights": f"{convolution}.weight"} | normalised
    if "weights" in own:
        for convolution, _ in parts:
            yield {"weights": f"{convolution}.weight", "biases": f"{convolution}.bias"}


def _laid_out(values: Tensor, target: Tensor) -> Tensor:
    """The weights of a convolution of the picture's four phases ("Focus", "ReOrg"), as those of one convolution of the
    picture with twice the size and stride 2: (o, 4*c, k, k) → (o, c, 2*k, 2*k)."""
    if values.ndim != 4 or target.ndim != 4:
        return values.flatten() if target.ndim == 1 and values.numel() == target.numel() else values
    filters, channels, size, _ = values.shape
    if channels % 4 or target.shape != (filters, channels // 4, 2 * size, 2 * size):
        return values
    phases = values.view(filters, 2, 2, channels // 4, size, size)  # phases by column, then row
    return phases.permute(0, 3, 4, 2, 5, 1).reshape(target.shape)
