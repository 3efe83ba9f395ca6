"""The layer table: what Darknet prints when it loads a cfg, as text or JSON.

python -m darknet_py.summary cfg/yolov3.cfg
python -m darknet_py.summary cfg/yolov3.cfg --json
python -m darknet_py.summary --options convolutional
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from darknet_py.cfg import parse_cfg
from darknet_py.command import add_size, run_command
from darknet_py.errors import DarknetError
from darknet_py.layers import KINDS, Layer, NetOptions, Shape
from darknet_py.layers.layer import LayerOptions
from darknet_py.network import Network
from darknet_py.options import cfg_name, meaning_of

COLUMNS = ("layer", "", "filters", "size/strd(dil)", "input", "", "output", "from", "BFLOPs", "parameters")


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


def receptive_fields(network: Network) -> list[tuple[int, int]]:
    """(width, height) of the receptive field of each layer, pixels, as parser.c counts it (`show_receptive_field=1`)."""
    fields: list[tuple[int, int]] = []
    scales: list[tuple[int, int]] = []
    field, scale = (1, 1), (1, 1)
    for layer in network.layers:
        about = layer.describe()
        size, dilation = about.get("size", 1), about.get("dilation", 1)
        stride = max(1, about.get("stride", 1))
        if layer.kind in ("upsample", "reorg3d"):
            scale = (scale[0] // stride, scale[1] // stride)
        elif layer.kind == "route":
            field, scale = (_largest([values[index] for index in layer.source_indices]) for values in (fields, scales))
        else:
            growth = max(0, size + (dilation - 1) * 2 - 1)
            field = (field[0] + growth * scale[0], field[1] + growth * scale[1])
            scale = (scale[0] * stride, scale[1] * stride)
        fields.append(field)
        scales.append(scale)
    return fields


def _largest(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)


def table(network: Network, *, receptive_field: bool = False) -> str:
    """The table as text: a line per layer, then the totals."""
    fields = receptive_fields(network) if receptive_field or network.net.show_receptive_field else None
    header = [*COLUMNS, *(["receptive"] if fields else [])]
    rows = [header]
    for layer in network.layers:
        bflops, count = layer.bflops, sum(one.tensor.numel() for one in layer.stored())
        row = [str(layer.index), layer.kind, layer.filters_text(), layer.size_text(), _shape(layer.input), "->", _shape(layer.shape),
               _sources(layer), f"{bflops:.3f}" if bflops else "", f"{count:,}" if count else ""]  # fmt: skip
        if fields:
            row.append(f"{fields[layer.index][0]} x {fields[layer.index][1]}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    left = {1, 3, 7}
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*(line.rstrip() for line in lines), _totals(network)])


def _shape(shape: Shape) -> str:
    return f"{shape.w:4} x{shape.h:4} x{shape.c:5}" if shape.c else str(shape.count)


def _sources(layer: Layer) -> str:
    return ", ".join(map(str, layer.references()))


def _totals(network: Network) -> str:
    total = describe(network)
    heads = ", ".join(map(str, network.heads)) or "none"
    return (
        f"{total['n_layers']} layers, {total['total_float32']:,} parameters ({total['file_bytes']:,} bytes of weights), "
        f"Total BFLOPS {total['bflops']:.3f}, heads: {heads}"
    )


def option_lines(kind: type) -> Iterator[tuple[str, str, str, str, str]]:
    """(name, type, default, use, meaning) of every option of a section."""
    for field in dataclasses.fields(kind):
        meaning = meaning_of(field)
        default = "" if field.default is None or field.default == () else str(field.default)
        text = meaning.text + (f" ({', '.join(meaning.choices)})" if 0 < len(meaning.choices) < 9 else "")
        yield cfg_name(field), str(field.type).removesuffix(" | None"), default, meaning.use, text


def option_table(section: str) -> str:
    """The options of one section as text."""
    kinds: dict[str, type] = {"net": NetOptions, "network": NetOptions} | {
        name: kind.Options for name, kind in KINDS.items()
    }
    if section not in kinds:
        raise DarknetError(f"there is no section [{section}]; known are {', '.join(kinds)}")
    rows = list(option_lines(kinds[section]))
    width = max(len(name) + len(default) for name, _, default, _, _ in rows) + 3
    return "\n".join(f"{f'{name}={default}':{width}} {text}{_USES[use]}" for name, _, default, use, text in rows)


_USES = {
    "forward": "",
    "load": "",
    "training": " [training]",
    "untrained": " [training, not built]",
    "none": " [no effect here]",
    "refused": " [not built]",
}

PAGE = """# Options

Every option that Darknet reads, section by section, with Darknet's default. Written by `python -m darknet_py.summary --options`.

- *(no mark)*: honoured in inference, decoding or loading.
- **training**: bears on training alone.
- **training, not built**: bears on training alone; training warns of it, and goes on without it.
- **no effect here**: Darknet reads it, but it changes no number (memory, streams, display).
- **not built**: any value but the default is an error.

An option that is not listed is unknown to Darknet too, and gives a warning with its file and line.
"""


def options_page() -> str:
    """The reference of all sections, Markdown."""
    common = {name for name, *_ in option_lines(LayerOptions)}
    parts = [PAGE, _markdown("[net] and [network]", list(option_lines(NetOptions)))]
    parts.append(_markdown("Every layer", list(option_lines(LayerOptions))))
    for kind in dict.fromkeys(KINDS.values()):
        names = " and ".join(f"[{name}]" for name, one in KINDS.items() if one is kind)
        parts.append(_markdown(names, [row for row in option_lines(kind.Options) if row[0] not in common]))
    return "\n".join(parts)


def _markdown(title: str, rows: list[tuple[str, str, str, str, str]]) -> str:
    if not rows:
        return f"## {title}\n\nNo options of its own.\n"
    marks = {
        "training": "**training** ",
        "untrained": "**training, not built** ",
        "none": "**no effect here** ",
        "refused": "**not built** ",
    }
    lines = [
        f"| {name} | {kind} | {default} | {marks.get(use, '')}{text} |".replace("  ", " ")
        for name, kind, default, use, text in rows
    ]
    return "\n".join([f"## {title}\n", "| option | type | default | meaning |", "|---|---|---|---|", *lines, ""])


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.summary",
        description="Prints the layer table of a cfg, as Darknet does, with totals.",
        epilog="example: python -m darknet_py.summary cfg/yolov3.cfg --receptive-field",
    )
    result.add_argument("cfg", nargs="?", help="the .cfg file")
    result.add_argument("--json", action="store_true", help="the table as JSON, every value of it")
    result.add_argument(
        "--receptive-field", action="store_true", help="a column with each layer's receptive field, pixels"
    )
    result.add_argument("--strict", action="store_true", help="warnings (unknown or repeated options) are errors")
    result.add_argument(
        "--options",
        metavar="SECTION",
        nargs="?",
        const="",
        help="print the options of a section with Darknet's defaults, e.g. convolutional; without a name, those of all as Markdown",
    )
    add_size(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.options is not None:
        print(
            option_table(given.options.strip("[]")) if given.options else options_page(),
            end="\n" if given.options else "",
        )
        return 0
    if not given.cfg:
        parser().error("name a cfg, e.g. cfg/yolov3.cfg")
    network = Network(parse_cfg(given.cfg, strict=given.strict), size=given.size)
    print(
        json.dumps(describe(network), indent=1) if given.json else table(network, receptive_field=given.receptive_field)
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
