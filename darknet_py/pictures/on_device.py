"""Darknet's two ways into the network's input on the device that computes: bytes go there, an eighth or so of what the
floats would be, and the numbers are those of resize.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from darknet_py.pictures.fit import DarknetFit
from darknet_py.pictures.levels import MAX_BYTE
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import LETTERBOX_GREY, letterbox_slices, taps


def fitted(images: Sequence[Image], fit: DarknetFit, width: int, height: int, device: torch.device) -> Tensor:
    """uint8 (h, w, channels) of any sizes → (n, channels, height, width) float32 in 0..1, on the device."""
    alike = len({image.shape for image in images}) == 1
    groups = [_sent(images, device)] if alike else [_sent([image], device) for image in images]
    parts = [(_letterboxed if fit.keeps_aspect else _resized)(group, width, height) for group in groups]
    return torch.cat(parts).permute(0, 3, 1, 2)


def _sent(images: Sequence[Image], device: torch.device) -> Tensor:
    """Images of one size → (n, h, w, channels) on the device, which takes them while the next one is copied."""
    shape = (len(images), *images[0].shape)
    buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    result = torch.empty(shape, dtype=torch.uint8, device=device)
    for number, image in enumerate(images):
        buffer[number].copy_(torch.from_numpy(np.ascontiguousarray(image)))
        result[number].copy_(buffer[number], non_blocking=True)
    return result


def _letterboxed(images: Tensor, width: int, height: int) -> Tensor:
    rows, columns = letterbox_slices((images.shape[2], images.shape[1]), (width, height))
    result = torch.full((len(images), height, width, images.shape[3]), LETTERBOX_GREY, device=images.device)
    result[:, rows, columns] = _resized(images, columns.stop - columns.start, rows.stop - rows.start)
    return result


def _resized(images: Tensor, width: int, height: int) -> Tensor:
    """(n, h, w, channels) uint8 → (n, height, width, channels) float32 in 0..1; see `resize`, whose order of additions
    and products this is."""
    scale = float(np.float32(1.0 / MAX_BYTE))
    if images.shape[1:3] == (height, width):
        return images.float() * scale
    device, columns = images.device, images.shape[2]
    lines = (*taps(images.shape[1], height, True), *taps(columns, width, False))
    top, below, down, left, right, across = (torch.from_numpy(part).to(device, non_blocking=True) for part in lines)
    pixels, down, across = images.flatten(1, 2), down[:, None, None], across[:, None]

    def blended(row: Tensor) -> Tensor:
        """Lines of the image, (height,), as they are where only columns are resized."""
        first, second = (pixels[:, row[:, None] * columns + column] for column in (left, right))
        return first * (1 - across) + second * across

    result = blended(top) * (1 - down)
    result[:, :-1] += (blended(below) * down)[:, :-1]
    return result.mul_(scale)
