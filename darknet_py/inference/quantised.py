"""From an exported file to one whose convolutions multiply whole numbers of 8 bits: smaller, and faster on CPUs that
have instructions for these. onnxruntime does it; the numbers' ranges are those of example images."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.files import replacing
from darknet_py.inference.exporting import Report
from darknet_py.inference.onnx_runner import METADATA, OnnxRunner, open_session
from darknet_py.pictures.levels import levels_of

LIMIT = 0.5
"""How far an output may be from the original's on an example image, in the mean, relative to its largest value."""
CONV = "Conv"


def quantise_onnx(source: str | os.PathLike[str], target: str | os.PathLike[str], images: Sequence[Tensor]) -> Report:
    """Writes an exported model with weights and inputs of its convolutions as 8-bit numbers, a scale for each channel.

    The first convolution, those with one channel a group, and those that no other follows stay float32: they take
    little time, and most of the accuracy that is lost would be lost there.

    Args:
        source: a float32 file of `export_onnx`. images: (1, channels, height, width) as the network reads them; a
            hundred of those that the model will see are enough.

    Raises:
        DarknetError: there is no image, a library is missing, or the outputs have nothing in common any more.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise DarknetError(f"{error.name} is not installed; pip install 'darknet-cfg[onnx]'") from None
    if not images:
        raise DarknetError(f"{target}: 8-bit numbers need example images, to see which values come; name some")
    inputs = _inputs(source, images)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[Any]] = iter(inputs)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            image = next(self.rest, None)
            return None if image is None else {"images": image}

    kept = _kept_in_float(onnx.load(source))
    with replacing(target) as temporary, tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a step that removes what the exporter has removed
        try:
            quantize_static(
                os.fspath(source), written, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=[CONV],
                per_channel=True, nodes_to_exclude=kept, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                reduce_range=True,  # products overflow on CPUs without VNNI otherwise
                extra_options={"CalibMovingAverage": True},  # a single image's extremes cost all others precision
            )  # fmt: skip
        finally:
            logging.disable(level)
        model = onnx.load(written)
        for entry in model.metadata_props:
            if entry.key == METADATA:
                entry.value = json.dumps({**json.loads(entry.value), "type": "int8"})
        temporary.write_bytes(model.SerializeToString())
        differences = _differences(source, temporary, inputs)
        worst = max(differences, key=lambda name: differences[name])
        if not differences[worst] <= LIMIT:
            raise DarknetError(
                f"{target}: not written: with 8-bit numbers, the output '{worst}' differs by {differences[worst]:.1e} "
                "of its largest value in the mean; export fp32 or fp16"
            )
        size = temporary.stat().st_size
    return Report(Path(target), differences, size)


def _inputs(source: str | os.PathLike[str], images: Sequence[Tensor]) -> list[NDArray[Any]]:
    """The images in the form of the model's input."""
    runner = OnnxRunner(source)
    levels = levels_of(runner.network.net)
    return [np.ascontiguousarray((levels.bytes_of_values(one) if runner.uint8 else one).numpy()) for one in images]


def _kept_in_float(model: Any) -> list[str]:
    """Names of convolutions."""
    convolutions = [node for node in model.graph.node if node.op_type == CONV]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    followed: set[str] = set()  # tensors from which a convolution is reached
    for node in reversed(model.graph.node):  # in the order of computation
        if any(name in followed for name in node.output) or node.op_type == CONV:
            followed.update(node.input)
    return [
        node.name
        for node in convolutions
        if node is convolutions[0]
        or shapes.get(node.input[1], (0, 0))[1] == 1
        or not any(name in followed for name in node.output)
    ]


def _differences(
    source: str | os.PathLike[str], target: str | os.PathLike[str], inputs: Sequence[NDArray[Any]]
) -> dict[str, float]:
    """By output, the mean difference over the images, relative to the largest value."""
    before, after = open_session(source), open_session(target)
    names = [output.name for output in before.get_outputs()]
    sums, largest = np.zeros(len(names)), np.zeros(len(names))
    for image in inputs:
        pairs = zip(before.run(None, {"images": image}), after.run(None, {"images": image}), strict=True)
        for number, (one, other) in enumerate(pairs):
            if one.shape == other.shape and one.size:  # detections may be more or fewer
                sums[number] += np.abs(one - other).mean()
                largest[number] = max(largest[number], np.abs(one).max())
    means = sums / len(inputs) / np.maximum(largest, 1e-12)
    return dict(zip(names, means.tolist(), strict=True))
