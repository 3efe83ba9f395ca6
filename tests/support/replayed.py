"""Augmentation that is fed with what another program drew: its pictures and boxes as samples, one step at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from yolos import content

from darknet_py.data.augment.canvas import Fitted
from darknet_py.data.augment.steps import ImageStep, Sample, move_polygons
from darknet_py.data.truths import OUTSIDE
from darknet_py.layers.needs import Rows
from darknet_py.pictures.fit import FITS
from darknet_py.pictures.read import Image

RNG = np.random.default_rng(0)  # where a step asks for one; what it draws is not used


def augment_cases(system: str) -> list[Any]:
    """The cases of a system's augment.json that have a number, as parameters."""
    found = content(f"{system}/augment.json").get("cases", [])
    return [pytest.param(case, id=str(case["case"])) for case in found]


def rgb(image: Image) -> Image:
    """BGR → RGB, and back."""
    return np.ascontiguousarray(image[..., ::-1])


def sample_of(image: Image, boxes: NDArray[Any], classes: NDArray[Any]) -> Sample:
    """image: BGR. boxes: (m, 4), centre and size as fractions of the image. classes: (m,)."""
    rows = np.concatenate((boxes, np.stack((classes, np.zeros_like(classes)), 1)), 1)
    return Sample(rgb(image), rows.astype(np.float32), "")


def fractions_of(corners: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """(m, 4) left, top, right, bottom, pixels of an image (width, height) → centre and size, fractions of it."""
    low, high = corners[:, :2] / size, corners[:, 2:] / size
    return np.concatenate(((low + high) / 2, high - low), 1)


def corners_of(boxes: Rows, size: tuple[int, ...]) -> NDArray[np.float64]:
    """The inverse of `fractions_of`."""
    half = boxes[:, 2:] / 2
    return np.concatenate(((boxes[:, :2] - half) * size, (boxes[:, :2] + half) * size), 1)


def corners_in(made: Sample) -> NDArray[np.float64]:
    """(m, 4): left, top, right, bottom of a sample's boxes, pixels."""
    return corners_of(made.truths[:, :4], made.image.shape[1::-1])


def after(step: ImageStep, made: Sample, drawn: Any) -> Sample:
    """What a step makes of a sample with these draws; boxes outside the image are left out."""
    moved = step.move(made.truths[:, :4], drawn)
    seen = (moved != OUTSIDE).any(1)
    rows = np.concatenate((moved, made.truths[:, 4:]), 1)[seen]
    polygons = move_polygons([step], [drawn], list(itertools.compress(made.polygons, seen)))
    return made._replace(image=step.apply(made.image, drawn, rows, RNG), truths=rows, polygons=polygons)


def fitted(made: Sample, fit: str, size: tuple[int, int]) -> Sample:
    """A sample in the network's input, (width, height), as `image_fit` says."""
    return after(Fitted(FITS[fit]), made, (made.image.shape[1::-1], size))
