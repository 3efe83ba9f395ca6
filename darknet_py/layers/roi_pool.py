"""[roi_pool] and [roi_align]: the part of a map that lies under a region, in a fixed number of cells, for each region.

Girshick, 2015 (Fast R-CNN); He et al., 2017 (Mask R-CNN). This project's own sections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.layers.regions import number_in_image, regions_at
from darknet_py.options import MAX_PIXELS, option

MAX_SIZE = 1000


@dataclass(frozen=True, kw_only=True)
class RoiOptions(LayerOptions):
    """What [roi_pool] and [roi_align] both read."""

    from_: int | None = option(
        None, "the layer whose map is read; negative: counted back from here. Regions: the layer before"
    )
    size: int = option(7, "width and height of the output, cells", minimum=1, maximum=MAX_SIZE)
    stride: int = option(
        0,
        "pixels of the network's input from cell to cell; 0: the power of two nearest to the input's width divided by "
        "the map's",
        minimum=0,
        maximum=MAX_PIXELS,
    )


class RoiPool(Layer, kinds=("roi_pool",)):
    own = True
    own_rows = True
    Options: ClassVar[type[LayerOptions]] = RoiOptions

    @classmethod
    def sources(cls, options: RoiOptions, place: Place) -> tuple[int, ...]:
        if options.from_ is None:
            place.fail(None, "names no map; write e.g. from=-5")
        return (place.layer("from", options.from_), place.index - 1)

    def __init__(self, options: RoiOptions, place: Place) -> None:
        super().__init__(options, place)
        regions, source = regions_at(place, place.index - 1, None), place.earlier[self.source_indices[0]]
        shape = source.shape
        if not shape.c or not shape.of_whole_images:
            place.fail(
                "from", f"layer {source.index} ([{source.kind}]) gives no map of the whole image; name one that does"
            )
        self.stride = options.stride or 2 ** round(math.log2(place.net.width / shape.w))
        rows = {"rows": regions.shape.rows, "regions": regions.index}
        self.shape = Shape.image(shape.c, options.size, options.size)._replace(**rows)

    def references(self) -> tuple[int, ...]:
        return self.source_indices[:1]

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """(n, c, h, w) and regions (k, 5 or more) → (k, c, size, size)."""
        return roi_pool(x, regions, self.options.size, 1 / self.stride)

    def describe(self) -> dict[str, object]:
        return {"size": self.options.size, "roi_stride": self.stride}

    def size_text(self) -> str:
        return f"{self.options.size} x {self.options.size}"


class RoiAlign(RoiPool, kinds=("roi_align",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(RoiOptions):
        sampling: int = option(
            2,
            "samples along each side of a cell; 0: as many as the cell has cells of the map",
            minimum=0,
            maximum=MAX_SIZE,
        )
        aligned: int = option(0, "1: a cell's value stands in its middle, not at its corner")

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """(n, c, h, w) and regions (k, 5 or more) → (k, c, size, size)."""
        options = self.options
        return roi_align(x, regions, options.size, 1 / self.stride, options.sampling, aligned=bool(options.aligned))


def roi_align(x: Tensor, regions: Tensor, size: int, scale: float, sampling: int, *, aligned: bool) -> Tensor:
    """Means of bilinear samples, differentiable by x: a weighted sum over rows, then over columns.

    The host waits for the device where it counts the regions of an image.

    Args:
        x: (n, c, h, w). regions: (k, 5 or more). scale: cells of x per pixel. sampling: samples along each side of an
            output cell; 0: as many as it has cells of x.

    Returns:
        (k, c, size, size)
    """
    image, box = regions[:, 0].long(), regions[:, 1:5] * scale - (0.5 if aligned else 0.0)
    sides = box[:, 2:] - box[:, :2]
    bins = (sides if aligned else sides.clamp(min=1)) / size
    across, down = (
        _weights(box[:, axis], bins[:, axis], size, x.shape[3 - axis], sampling).to(x.dtype) for axis in (0, 1)
    )
    # the rows of all regions of an image at once
    number = number_in_image(image, len(x))
    most = int(number.max()) + 1 if len(number) else 0
    padded = down.new_zeros((len(x), most, *down.shape[1:]))
    padded[image, number] = down
    rows = padded.flatten(1, 2) @ x.permute(0, 2, 3, 1).flatten(2)
    rows = rows.view(len(x), most, size, x.shape[3], x.shape[1])[image, number]
    return torch.einsum("kiwc,kjw->kcij", rows, across)


def _weights(start: Tensor, step: Tensor, size: int, cells: int, sampling: int) -> Tensor:
    """(k, size, cells): how much each cell of the map counts in each cell of the output, along one side.

    start, step: (k,) where a region begins and how long its cells are, in cells of the map.
    """
    if sampling > 0:
        count, most = torch.full_like(step, sampling), sampling
    else:  # the host waits for the device
        count = step.ceil().clamp(min=0)
        most = max(int(count.max()), 1) if len(count) else 1
    number = torch.arange(most, device=start.device)
    first = start[:, None] + torch.arange(size, device=start.device) * step[:, None]
    share = count.clamp(min=1)[:, None, None]
    at = first[..., None] + (number + 0.5) * step[:, None, None] / share  # (k, size, most)
    counts = ((number < count[:, None, None]) & (at >= -1) & (at <= cells)) / share
    at = at.clamp(0, cells - 1)
    low = at.long()
    fraction = at - low
    result = counts.new_zeros((len(start), size, cells)).scatter_add(2, low, (1 - fraction) * counts)
    return result.scatter_add(2, (low + 1).clamp(max=cells - 1), fraction * counts)


def roi_pool(x: Tensor, regions: Tensor, size: int, scale: float) -> Tensor:
    """The largest value in each cell of the output, differentiable by x; see `roi_align`. Cells that lie outside of the
    map are 0. The host waits for the device where it looks for the largest region."""
    image, box = regions[:, 0].long(), regions[:, 1:5] * scale
    box = box.sign() * (box.abs() + 0.5).floor()  # half away from zero
    sides = (box[:, 2:] - box[:, :2] + 1).clamp(min=1)
    columns, rows = (_bins(box[:, axis], sides[:, axis], size, x.shape[3 - axis]) for axis in (0, 1))
    with torch.no_grad():
        cell = _largest(x.permute(0, 2, 3, 1), image, rows, columns)  # (k, size, size, c)
    values = x.flatten(2).transpose(1, 2)[image[:, None, None, None], cell, torch.arange(x.shape[1], device=x.device)]
    empty = (rows[..., 0] >= rows[..., 1])[:, :, None] | (columns[..., 0] >= columns[..., 1])[:, None]
    return values.masked_fill(empty[..., None], 0.0).permute(0, 3, 1, 2)


def _bins(start: Tensor, side: Tensor, size: int, cells: int) -> Tensor:
    """(k, size, 2): first cell and the one behind the last, of each cell of the output, along one side."""
    edge, step = torch.arange(size, device=start.device), (side / size)[:, None]
    bounds = torch.stack(((edge * step).floor(), ((edge + 1) * step).ceil()), -1) + start[:, None, None]
    return bounds.clamp(0, cells).long()


def _largest(x: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(k, size, size, c): number of the largest cell of the map in each cell of the output, of equals the first.

    x: (n, h, w, c). From the largest in all windows whose sides are powers of two: four of them cover any cell.
    """
    (levels_y, from_y), (levels_x, from_x) = _windows(rows, x.shape[1]), _windows(columns, x.shape[2])
    cells = torch.arange(x.shape[1] * x.shape[2], device=x.device).view(x.shape[1:3])[None, :, :, None].expand_as(x)
    tall = _doubled(x, cells, 1, int(levels_y.max()) + 1 if len(image) else 1)
    tables = [_doubled(*one, 2, int(levels_x.max()) + 1 if len(image) else 1) for one in tall]
    values = torch.stack([torch.stack([value for value, _ in row]) for row in tables])  # (levels, levels, n, h, w, c)
    numbers = torch.stack([torch.stack([number for _, number in row]) for row in tables])
    best: tuple[Tensor, Tensor] | None = None
    for y in from_y.unbind(-1):
        for x_ in from_x.unbind(-1):
            place = (levels_y[:, :, None], levels_x[:, None], image[:, None, None], y[:, :, None], x_[:, None])
            found = (values[place], numbers[place])
            best = found if best is None else _better(best, found)
    assert best is not None
    return best[1]


def _windows(bounds: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """For each range the windows that cover it: (k, size) their side as a power of two, (k, size, 2) their starts."""
    side = (bounds[..., 1] - bounds[..., 0]).clamp(min=1)
    level = torch.frexp(side.float()).exponent.long() - 1
    starts = torch.stack((bounds[..., 0], bounds[..., 1] - 2**level), -1)
    return level, starts.clamp(0, cells - 1)


def _doubled(values: Tensor, numbers: Tensor, axis: int, levels: int) -> list[tuple[Tensor, Tensor]]:
    """The largest values, and their cells, in windows of 1, 2, 4 … cells along an axis."""
    result, count = [(values, numbers)], values.shape[axis]
    for level in range(levels - 1):
        behind = (torch.arange(count, device=values.device) + 2**level).clamp(max=count - 1)
        value, number = result[-1]
        result.append(_better(result[-1], (value.index_select(axis, behind), number.index_select(axis, behind))))
    return result


def _better(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The larger values and their cells; of equals the cell that comes first."""
    wins = (other[0] > one[0]) | ((other[0] == one[0]) & (other[1] < one[1]))
    return torch.where(wins, other[0], one[0]), torch.where(wins, other[1], one[1])
