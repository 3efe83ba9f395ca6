"""Detection in images that are much larger than the network's input: tile by tile, and in the whole.

(found,) = detect_in_tiles(detector, [image], tile=(640, 640))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.arguments import fraction, whole
from darknet_py.boxes import corners, nms
from darknet_py.detections import Detections
from darknet_py.detector import Classes, Detector
from darknet_py.errors import DarknetError
from darknet_py.pictures.read import Image
from darknet_py.pictures.resize import Size

OVERLAP = 0.25
MAX_OVERLAP = 0.9
MAX_TILES = 10_000
BORDER = 0.01  # fraction of a tile's side: a box that ends so near to a border within the image is cut there
COVERED = 0.5  # fraction of a cut box that another one of its class covers, if both are of one object
ROWS = 1024  # boxes that are compared with all others at once; limits memory, changes no result


def tiles_of(image: Size, tile: Size, overlap: float = OVERLAP) -> NDArray[np.int64]:
    """(n, 4) left, top, width, height of tiles that cover an image, row by row; the last one is the whole image.

    Args:
        image, tile: (width, height), pixels. overlap: fraction of a tile's side that the next one shares, at least.

    Raises:
        DarknetError: the tile has no size, the overlap is not from 0 to 0.9, or there would be too many tiles.
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise DarknetError(f"overlap of tiles: {overlap}: write a number from 0 to {MAX_OVERLAP}")
    sides = [min(whole("tile", side), length) for side, length in zip(tile, image, strict=True)]
    counts = [
        1 + max(0, -(-(length - side) // max(1, int(side * (1 - overlap)))))
        for length, side in zip(image, sides, strict=True)
    ]
    if counts[0] * counts[1] > MAX_TILES:
        text = f"{counts[0] * counts[1]:,} tiles of {tile[0]}x{tile[1]} in an image of {image[0]}x{image[1]}"
        raise DarknetError(f"{text}; {MAX_TILES:,} is the limit; write larger tiles, or less overlap")
    lefts, tops = (
        np.linspace(0, length - side, count).round().astype(np.int64)
        for length, side, count in zip(image, sides, counts, strict=True)
    )
    places = np.stack([*(axis.ravel() for axis in np.meshgrid(lefts, tops))], 1)
    tiles = np.concatenate((places, np.broadcast_to(np.array(sides), places.shape)), 1)
    return tiles if len(tiles) == 1 else np.concatenate((tiles, [[0, 0, *image]]))


def detect_in_tiles(
    detector: Detector,
    images: Sequence[Image],
    tile: Size,
    overlap: float = OVERLAP,
    *,
    thresh: float | None = None,
    nms: float | None = None,
    classes: Classes = None,
    max_det: int | None = None,
) -> list[Detections]:
    """What is in images, each found in its tiles and in the whole; what several of them show is reported once.

    A box that a tile's border cuts gives way to one of its class that covers most of it. Objects that fit into the
    overlap of tiles are whole in one of them; larger ones are looked for in the whole image, too.

    Args:
        images: as `Detector.detect` takes them. tile, overlap: see `tiles_of`.
        thresh, nms, classes, max_det: see `Detector`.
    """
    overlap_of_boxes = fraction("nms", detector.net.nms if nms is None else nms)
    most = detector.net.max_det if max_det is None else whole("max_det", max_det)
    results = []
    for image in images:
        size = (image.shape[1], image.shape[0])
        tiles = tiles_of(size, tile, overlap)
        crops = [np.ascontiguousarray(image[top : top + h, left : left + w]) for left, top, w, h in tiles.tolist()]
        found: list[Detections] = []
        for start in range(0, len(crops), detector.batch):
            found += detector.detect(crops[start : start + detector.batch], thresh, nms, classes=classes)
        results.append(_joined(found, tiles, size, overlap_of_boxes, detector, most))
    return results


def _joined(
    found: Sequence[Detections],
    tiles: NDArray[np.int64],
    size: Size,
    overlap: float,
    detector: Detector,
    most: int | None,
) -> Detections:
    """The detections of all tiles as one image's."""
    number = torch.from_numpy(np.repeat(np.arange(len(tiles)), [len(one) for one in found]))
    class_id, confidence, xywh = (
        torch.from_numpy(np.concatenate([getattr(one, name) for one in found]))
        for name in ("class_ids", "confidences", "xywh")
    )
    place, scale = torch.from_numpy(tiles).float()[number], torch.tensor(size).float().repeat(2)
    in_tile, image = corners(xywh), torch.tensor(size).float()
    is_cut = _cut(in_tile, place, image)
    xywh = torch.cat((place[:, :2] + xywh[:, :2] * place[:, 2:], xywh[:, 2:] * place[:, 2:]), 1) / scale
    kept = ~_shown_by_others(xywh, class_id, number, is_cut)
    group = torch.zeros_like(class_id) if detector.agnostic else class_id
    if overlap:
        alive = kept.nonzero()[:, 0]
        kept = torch.zeros_like(kept)
        survives = nms(xywh[alive], confidence[alive], group[alive], overlap, detector.nms_kind, detector.beta_nms)
        kept[alive[survives]] = True
    order = torch.where(kept, confidence, -1.0).argsort(descending=True, stable=True)[: int(kept.sum())]
    class_ids, confidences, boxes = (column[order[:most]].numpy() for column in (class_id, confidence, xywh))
    return replace(found[0], class_ids=class_ids, confidences=confidences, xywh=boxes, size=size)


def _cut(in_tile: Tensor, place: Tensor, image: Tensor) -> Tensor:
    """(m,) bool: which boxes end at a border of their tile that is none of the image's.

    in_tile: (m, 4) corners as fractions of the tile. place: (m, 4) left, top, width, height of the tile, pixels.
    image: (2,) width, height, pixels.
    """
    begins = (in_tile[:, :2] < BORDER) & (place[:, :2] > 0)
    ends = (in_tile[:, 2:] > 1 - BORDER) & (place[:, :2] + place[:, 2:] < image)
    return (begins | ends).any(1)


def _shown_by_others(xywh: Tensor, class_id: Tensor, number: Tensor, is_cut: Tensor) -> Tensor:
    """(m,) bool: which cut boxes show part of what a box of another tile shows: one that is whole, or a larger one."""
    result = torch.zeros_like(is_cut)
    box, area = corners(xywh), xywh[:, 2] * xywh[:, 3]
    for rows in is_cut.nonzero()[:, 0].split(ROWS):
        low, high = torch.maximum(box[rows, None, :2], box[:, :2]), torch.minimum(box[rows, None, 2:], box[:, 2:])
        shared = (high - low).clamp(min=0).prod(-1) / area[rows, None].clamp(min=1e-12)
        alike = (class_id[rows, None] == class_id) & (number[rows, None] != number)
        result[rows] = (alike & (shared > COVERED) & (~is_cut | (area > area[rows, None]))).any(1)
    return result
