"""Deltas of [yolo] that are left out, as their labels may be wrong or as they are small.

badlabels_rejection_percentage, num_sigmas_reject_badlabels, equidistant_point (yolo_layer.c:forward_yolo_layer).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darknet_py.layers import NetOptions

STEP = 0.01  # by which the threshold of badlabels_rejection_percentage moves in each mini-batch
RENEWED = 0.01  # part of the rolling figures that a mini-batch renews


@dataclass
class Rejection:
    """What all yolo heads of a network remember together: the rolling maximum, mean and deviation of their deltas, and
    the threshold that leaves out the percentage asked for."""

    highest: float = 0.0
    average: float = 0.0
    deviation: float = 0.0
    threshold: float = 0.0

    def apply(self, net: NetOptions, iteration: int, delta: Tensor, entries: int) -> Tensor:
        """The deltas of a head, some of them 0 now. iteration: updates so far. entries: values of a box, 5 +
        classes."""
        start = net.max_batches * 3 // 4
        late = iteration > start
        percentage, sigmas = late * net.badlabels_rejection_percentage, late * net.num_sigmas_reject_badlabels
        small = net.equidistant_point and iteration > net.equidistant_point
        if not (percentage or sigmas or small):
            return delta
        progress = (iteration - net.equidistant_point) / max(net.max_batches - net.equidistant_point, 1)
        least = self.average * progress * 1.4
        size, count = delta.abs(), (delta != 0).sum()
        if not count:
            return delta  # Darknet's mean is no number from here on
        self.highest = self.highest or float(size.max())
        self.highest = _roll(self.highest, size.max())
        self.average = _roll(self.average, size.sum() / count)
        if sigmas:
            deviation = torch.where(delta != 0, (delta - self.average) ** 2, 0.0).sum().div(count).sqrt()
            final = self.average + self.deviation * sigmas
            self.deviation = _roll(self.deviation, deviation)
            falling = self.highest - (iteration - start) / max(start, 1) * abs(self.highest - final)
            delta = torch.where(delta.abs() > max(final, falling), 0.0, delta)
            least = min(final, self.average) * progress
        if percentage:
            delta = self._reject(delta, percentage, entries)
        return torch.where(delta.abs() < least, 0.0, delta) if small else delta

    def _reject(self, delta: Tensor, percentage: float, entries: int) -> Tensor:
        self.threshold = self.threshold or self.highest
        rejected = delta.abs() > self.threshold
        percent = 100 * float(rejected.sum() * entries / (delta != 0).sum())
        if percent > percentage:
            self.threshold += STEP
        elif self.threshold > STEP:
            self.threshold -= STEP
        return torch.where(rejected, 0.0, delta)


def _roll(rolling: float, value: Tensor) -> float:
    """In double, kept as float32, as in C: the first maximum stays equal to itself."""
    return float(np.float32(rolling * (1 - RENEWED) + float(value) * RENEWED))
