"""From an image's levels to the values of the network's input, and back: order of the channels, range and mean."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from darknet_py.devices import constant
from darknet_py.layers.image_input import ImageOptions
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Floats

WHITE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}  # of floats: 1
COLOURS = 3
MAX_BYTE = 255


@dataclass(frozen=True)
class Levels:
    """How levels, as fractions of white's, become values: (level * white - mean) / deviation.

    order: of the channels, "rgb" or "bgr". white: the value of white before mean and deviation. mean, deviation: of the
    channels, in the input's order and range; a single number holds for all.
    """

    order: str = "rgb"
    white: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    @property
    def centred(self) -> bool:
        """Whether mean or deviation change anything."""
        return any(self.mean) or any(value != 1 for value in self.deviation)

    def values(self, image: Image) -> Floats:
        """RGB (h, w, channels) uint8, uint16 or float 0..1 → float32 (h, w, channels), as the input has them."""
        if self.order == "bgr" and image.shape[2] == COLOURS:
            image = image[..., ::-1]
        if self.white != 1 or image.dtype != np.float32:
            image = np.divide(image, self._unit(image), dtype=np.float32)
        if self.centred:
            image = (image - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return image

    def fill(self, planes: Floats, image: Image) -> None:
        """Writes the values of an image, see `values`, into `planes` (channels, h, w) float32."""
        turned = planes[::-1] if self.order == "bgr" and len(planes) == COLOURS else planes
        for plane, channel in zip(turned, cv2.split(image), strict=True):
            np.divide(channel, self._unit(image), out=plane, dtype=np.float32)
        if self.centred:
            planes -= np.array(self.mean, np.float32).reshape(-1, 1, 1)
            planes /= np.array(self.deviation, np.float32).reshape(-1, 1, 1)

    def _unit(self, image: Image) -> np.float32:
        """The level that becomes 1."""
        return np.float32(WHITE.get(image.dtype, 1.0) / self.white)

    def values_of_bytes(self, images: Tensor) -> Tensor:
        """RGB (n, h, w, channels) uint8 → float32 (n, channels, h, w); traceable."""
        values = images.permute(0, 3, 1, 2).float() * (self.white / MAX_BYTE)
        if self.order == "bgr" and images.shape[3] == COLOURS:
            values = values.flip(1)
        if self.centred:
            values = (values - self._by_channel(self.mean, values)) / self._by_channel(self.deviation, values)
        return values

    def bytes_of_values(self, values: Tensor) -> Tensor:
        """The inverse: (n, channels, h, w) float → RGB (n, h, w, channels) uint8, rounded."""
        if self.centred:
            values = values * self._by_channel(self.deviation, values) + self._by_channel(self.mean, values)
        if self.order == "bgr" and values.shape[1] == COLOURS:
            values = values.flip(1)
        return (values * (MAX_BYTE / self.white)).round().clamp(0, MAX_BYTE).to(torch.uint8).permute(0, 2, 3, 1)

    @staticmethod
    def _by_channel(numbers: tuple[float, ...], like: Tensor) -> Tensor:
        return constant(numbers, like.device, like.dtype).view(-1, 1, 1)

    def __str__(self) -> str:
        text = f"{self.order.upper()}, 0..{self.white:g}"
        if self.centred:
            text += f", minus {_listed(self.mean)}, divided by {_listed(self.deviation)}"
        return text


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def levels_of(net: ImageOptions) -> Levels:
    """As [net] says."""
    return Levels(net.channel_order, net.input_max, net.input_mean, net.input_deviation)
