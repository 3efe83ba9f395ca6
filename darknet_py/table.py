"""The layer table of a network, as Darknet prints it: as plain values, and as text for `network.summary()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from darknet_py.layers import Layer, Shape

if TYPE_CHECKING:
    from darknet_py.network import Network

COLUMNS = ("layer", "", "filters", "size/strd(dil)", "input", "", "output", "from", "BFLOPs", "parameters")
LEFT_ALIGNED = (1, 3, 7)  # columns of text
HEADER_BYTES = 20  # of a .weights file as Darknet writes it today


def describe(network: Network) -> dict[str, Any]:
    """The table as plain values; shapes are [channels, height, width], names are Darknet's.

    `layers[k]`: index, type, out, in, inputs_count, outputs_count, bflops, n_params, `fields` (name and size of each
    tensor in the .weights file), `sources` (the layers that it reads; -1: the input), and the kind's own values.
    """
    layers = [_describe_layer(layer) for layer in network.layers]
    total = sum(layer["n_params"] for layer in layers)
    return {
        "cfg": network.cfg.path,
        "n_layers": len(layers),
        "input": list(network.input_shape[:3]),
        "total_float32": total,
        "header_bytes": HEADER_BYTES,
        "file_bytes": HEADER_BYTES + 4 * total,
        "bflops": sum(layer["bflops"] for layer in layers),
        "heads": network.heads,
        "layers": layers,
    }


def _describe_layer(layer: Layer) -> dict[str, Any]:
    fields = [[stored.name, stored.tensor.numel()] for stored in layer.stored()]
    return {
        "index": layer.index,
        "type": layer.kind.lower(),
        "out": list(layer.shape[:3]),
        "in": list(layer.input[:3]),
        "inputs_count": layer.input.count,
        "outputs_count": layer.shape.count,
        "sources": list(layer.source_indices),
        **layer.describe(),
        "bflops": layer.bflops,
        "n_params": sum(count for _, count in fields),
        "fields": fields,
    }


def receptive_fields(network: Network) -> list[tuple[int, int]]:
    """(width, height) in pixels of each layer's receptive field, as parser.c computes it (`show_receptive_field=1`)."""
    fields: list[tuple[int, int]] = []
    scales: list[tuple[int, int]] = []
    field, scale = (1, 1), (1, 1)
    for layer in network.layers:
        values: dict[str, Any] = layer.describe()
        size, dilation = values.get("size", 1), values.get("dilation", 1)
        stride = max(1, values.get("stride", 1))
        if layer.kind in ("upsample", "reorg3d"):
            scale = (scale[0] // stride, scale[1] // stride)
        elif layer.kind == "route":
            field = _maximum([fields[index] for index in layer.source_indices])
            scale = _maximum([scales[index] for index in layer.source_indices])
        else:
            growth = max(0, size + (dilation - 1) * 2 - 1)
            field = (field[0] + growth * scale[0], field[1] + growth * scale[1])
            scale = (scale[0] * stride, scale[1] * stride)
        fields.append(field)
        scales.append(scale)
    return fields


def _maximum(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The larger width and the larger height."""
    return max(width for width, _ in pairs), max(height for _, height in pairs)


def table(network: Network, *, receptive_field: bool = False) -> str:
    """The table as text: a line per layer, then the totals. receptive_field: with a column of receptive fields."""
    show_fields = receptive_field or network.net.show_receptive_field
    rows = [[*COLUMNS], *map(_row, network.layers)]
    if show_fields:
        columns = ["receptive", *(f"{width} x {height}" for width, height in receptive_fields(network))]
        rows = [[*row, cell] for row, cell in zip(rows, columns, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([*(_aligned(row, widths) for row in rows), _totals(network)])


def _row(layer: Layer) -> list[str]:
    bflops, count = layer.bflops, sum(stored.tensor.numel() for stored in layer.stored())
    return [
        str(layer.index),
        layer.kind,
        layer.filters_text(),
        layer.size_text(),
        _shape_text(layer.input),
        "->",
        _shape_text(layer.shape),
        ", ".join(map(str, layer.references())),
        f"{bflops:.3f}" if bflops else "",
        f"{count:,}" if count else "",
    ]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if column in LEFT_ALIGNED else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _shape_text(shape: Shape) -> str:
    return f"{shape.w:4} x{shape.h:4} x{shape.c:5}" if shape.c else str(shape.count)


def _totals(network: Network) -> str:
    total = describe(network)
    heads = ", ".join(map(str, network.heads)) or "none"
    return (
        f"{total['n_layers']} layers, {total['total_float32']:,} parameters "
        f"({total['file_bytes']:,} bytes of weights), Total BFLOPS {total['bflops']:.3f}, heads: {heads}"
    )
