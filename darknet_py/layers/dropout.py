"""[dropout]: in training zeroes values, or blocks of them, at random; in inference its input unchanged (Darknet: dropout_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place
from darknet_py.options import option

FULL_SIZE_FROM = 0.85  # of max_batches: from there on blocks have their full size and probability


class Dropout(Layer, kinds=("dropout",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        probability: float = option(0.2, "probability that a value is zeroed, 0..1", use="training")
        dropblock: int = option(
            0, "1: blocks of neighbouring pixels are zeroed together; they grow during training", use="training"
        )
        dropblock_size_rel: float = option(0.0, "side of a block as a fraction of the map's, 0..1", use="training")
        dropblock_size_abs: float = option(0.0, "side of a block, pixels of the map", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = place.input
        if options.dropblock:
            place.image()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.options.dropblock:
            return self._drop_blocks(x)
        kept = torch.rand(x.shape, device=x.device) >= self.options.probability
        return x * kept / (1 - self.options.probability) if self.options.probability != 1 else x * 0

    @torch.compiler.disable  # type: ignore[untyped-decorator, misc, unused-ignore]  # its sizes change as training goes on
    def _drop_blocks(self, x: Tensor) -> Tensor:
        """At most one block of each channel, and what is left of a picture enlarged by the part that went (dropout_layer_kernels.cu)."""
        n, channels, height, width = x.shape
        grown = min(self.mode.progress / FULL_SIZE_FROM, 1.0)
        options = self.options
        rel = options.dropblock_size_rel
        sides = (
            (int(rel * width * grown), int(rel * height * grown))
            if rel
            else (int(int(options.dropblock_size_abs) * grown),) * 2
        )
        side = min(max(1, sides[0]), width, max(1, sides[1]), height)
        chance = torch.rand((n, channels, height * width), device=x.device)
        least, index = chance.min(2)
        hit = least < options.probability * grown / side**2
        left, top = (self._start(at, length, side) for at, length in ((index % width, width), (index // width, height)))
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        in_rows = (rows >= top[..., None]) & (rows < top[..., None] + side)
        in_columns = (columns >= left[..., None]) & (columns < left[..., None] + side)
        dropped = in_rows[..., :, None] & in_columns[..., None, :] & hit[..., None, None]
        part = hit.sum(1) * side**2 / (channels * height * width)
        return x * ~dropped / (1 - part).view(-1, 1, 1, 1)

    @staticmethod
    def _start(at: Tensor, length: int, side: int) -> Tensor:
        """Where a block begins; one that would reach beyond the map begins as far from its start as it reached beyond."""
        return torch.where(at > length - side, at - (length - side), at).clamp(0, length - side)

    def describe(self) -> dict[str, Any]:
        names = ("probability", "dropblock", "dropblock_size_rel", "dropblock_size_abs")
        return {name: getattr(self.options, name) for name in names}
