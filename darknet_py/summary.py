"""The layer table: what Darknet prints when it loads a cfg, as text or JSON.

    python -m darknet_py.summary cfg/yolov3.cfg
    python -m darknet_py.summary cfg/yolov3.cfg --json
    python -m darknet_py.summary --options convolutional
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from darknet_py.layers import Layer, Shape

if TYPE_CHECKING:
    from darknet_py.network import Network


def describe(network: Network) -> dict[str, Any]:
    """The table as plain values; shapes are [channels, height, width], names are Darknet's.

    `layers[k]`: index, type, out, in, inputs_count, outputs_count, bflops, n_params, `fields` (name and count of each tensor in
    the .weights file), `sources` (the layers it reads, -1: the input), and what its kind adds.
    """
    layers = [_describe_layer(layer) for layer in network.layers]
    total = sum(layer["n_params"] for layer in layers)
    return {
        "cfg": network.cfg.path,
        "n_layers": len(layers),
        "input": list(network.input_shape[:3]),
        "total_float32": total,
        "header_bytes": 20,
        "file_bytes": 20 + 4 * total,
        "bflops": sum(layer["bflops"] for layer in layers),
        "heads": network.heads,
        "layers": layers,
    }


def _describe_layer(layer: Layer) -> dict[str, Any]:
    fields = [[one.name, one.tensor.numel()] for one in layer.stored()]
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


def table(network: Network, *, receptive_field: bool = False) -> str:
    return ""
