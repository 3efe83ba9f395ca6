"""From a network to an ONNX file that can be used alone: its numbers are checked before it gets its name.

report = export_onnx(load("cfg/yolov3.cfg", "yolov3.weights"), "yolov3.onnx", names=names)
print(report.differences)                       # greatest difference of each output, in onnxruntime
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from darknet_py.errors import DarknetError, DifferenceError
from darknet_py.files import replacing
from darknet_py.inference.graph_nms import Selector
from darknet_py.inference.onnx_runner import METADATA, open_session
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.inference.runner import DTYPES
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network
from darknet_py.pictures.fit import fit_of
from darknet_py.pictures.levels import levels_of

TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
"""By type: the greatest difference from the network, relative to the largest value of the output."""
THRESHOLDS = ("nms", "thresh")  # inputs of "detections" while its numbers are checked, then constants
SELECTED = ("boxes", "objectness", "classes")  # outputs of "detections" while its numbers are checked
FRACTIONS = (*SELECTED, "scores", "detections")
FURTHER = 64  # pixels by which the input is larger where --dynamic-size is checked; strides are 32, or 64 at most
MAX_BYTES = 2**31 - 1  # of a protobuf message


@dataclass(frozen=True)
class Form:
    """What an exported model reads and gives.

    outputs: "raw": what the heads read, a tensor for each; "boxes": `boxes` (n, k, 4), centre and size as fractions of
    the input, and `scores` (n, k, classes), objectness times class probability; "detections": (m, 7) after suppression:
    image, class, confidence, centre x, centre y, width, height; of an image and a class, the most confident first
    (of an image, where the cfg says `agnostic`).
    uint8: the input is (n, height, width, channels) uint8, RGB, not (n, channels, height, width) float,
        in the cfg's order and range (`levels_of`).
    type: of the weights, a key of TOLERANCES. thresh, nms, nms_kind: of "detections"; None: as the cfg says, whose
        `agnostic`, `best_class`, `max_nms`, `max_det`, `objectness_thresh` and `class_thresh` hold too.
    """

    outputs: str = "boxes"
    uint8: bool = False
    type: str = "fp32"
    thresh: float | None = None
    nms: float | None = None
    nms_kind: str | None = None

    def asked(self, network: Network) -> tuple[float, float]:
        """The overlap above which a box is suppressed, 0 for no suppression, and the minimum confidence."""
        nms = network.net.nms if self.nms is None else self.nms
        return nms, network.net.thresh if self.thresh is None else self.thresh

    def limits(self, network: Network) -> tuple[float, float]:
        """The same for the graph, which suppresses always: no overlap exceeds 1."""
        nms, thresh = self.asked(network)
        return nms or 1.0, thresh


class Graph(nn.Module):
    """A network, with what the form asks for around it: the module that is exported.

    Inputs: the images; the states of recurrent layers, or for "detections" the thresholds of suppression and of
    confidence, (1,) each. Outputs: what the form says, and the states that follow.
    """

    def __init__(self, network: Network, form: Form) -> None:
        super().__init__()
        self.network, self.form = network, form
        self.heads = network.head_layers()
        self.states = list(_states(network, 1))
        self.selector: Selector | None = None
        if form.outputs == "detections" and self.heads:
            last, agnostic = self.heads[-1], bool(network.net.agnostic) and form.limits(network)[0] < 1
            self.selector = Selector(network.net, form.nms_kind or last.nms_kind, last.beta_nms, agnostic)

    @property
    def others(self) -> list[str]:
        """The names of the inputs besides the images."""
        return [*THRESHOLDS] if self.selector else [_state_name(name) for name in self.states]

    def forward(self, images: Tensor, others: list[Tensor]) -> tuple[Tensor, ...]:
        """The outputs (of "detections" with SELECTED), then the states."""
        if self.form.uint8:
            images = levels_of(self.network.net).values_of_bytes(images)
        self.network.set_states(dict(zip(self.states, others, strict=not self.selector)))
        raw = [part.float() for part in self.network(images.to(DTYPES[self.form.type]))]
        size = (images.shape[3], images.shape[2]) if images.ndim == 4 else self.network.size
        return (*self._outputs(raw, size, others), *(self.network.states()[name] for name in self.states))

    def _outputs(self, raw: list[Tensor], size: tuple[int, int], others: list[Tensor]) -> tuple[Tensor, ...]:
        if not self.heads or self.form.outputs == "raw":
            return tuple(raw)
        each = [head.boxes(part, size) for head, part in zip(self.heads, raw, strict=True)]
        boxes = torch.cat([part.xywh for part in each], 1)
        objectness = torch.cat([part.objectness for part in each], 1)
        classes = torch.cat([part.classes for part in each], 1)
        if self.selector is None:
            return boxes, objectness[..., None] * classes
        select = self.selector.in_graph if torch.compiler.is_exporting() else self.selector.as_detected
        return select(boxes, objectness, classes, *others), boxes, objectness, classes


@dataclass(frozen=True)
class Report:
    """What an export gave. differences: by output, the greatest difference from the network, relative to the output's
    largest value. size: of the file, bytes."""

    path: Path
    differences: dict[str, float]
    size: int


def export_onnx(
    network: Network,
    path: str | os.PathLike[str],
    form: Form | None = None,
    *,
    names: Sequence[str] = (),
    letterbox: bool | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
) -> Report:
    """Writes a network with its weights as an ONNX model for any number of images at once.

    The file has its name only if onnxruntime gives the network's numbers with it. Its metadata hold the cfg, the names
    and how images are resized, so that `Detector("model.onnx")` needs nothing else.

    Args:
        names: of the classes. letterbox: how images are resized; None: as the cfg says.
        dynamic_size: width and height of the input are free too, as far as the network's strides allow.
        opset: version of ONNX's operators; None: the exporter's own choice.

    Raises:
        DifferenceError: onnxruntime gives other numbers with it than the network.
        DarknetError: ONNX cannot say the network; a library is missing.
    """
    form = form or Form()
    if names and len(names) != network.classes:
        raise DarknetError(f"{len(names)} names, but {network.cfg.path} has {network.classes} classes")
    _check(network, form)
    network = reparameterised(network).to("cpu", DTYPES[form.type])
    graph = Graph(network, form).eval()
    selector, limits = graph.selector, form.limits(network)
    given = output_names(network, form)
    outputs = [*given, *(SELECTED if selector else ()), *(f"{_state_name(name)}_out" for name in graph.states)]
    inputs, expected = _expected(graph, FURTHER if dynamic_size else 0)
    if nans := [name for name, values in zip(outputs, expected, strict=True) if np.isnan(values).any()]:
        text = f"the network's own '{nans[0]}' of a random image is NaN, so nothing can be compared"
        raise DifferenceError(f"{path}: not written: {text}; are these its trained weights?")
    model, weights = _converted(graph, outputs, dynamic_size, opset)
    _describe(model, network, form, names, letterbox)
    with replacing(path) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as entries:
        del graph, network
        _write_entries(entries, weights)
        gc.collect()  # torch's graphs refer to themselves
        _write(temporary, model, entries)
        differences = _differences(temporary, outputs, inputs, expected, selector)
        worst = max(differences, key=lambda name: np.nan_to_num(differences[name], nan=np.inf))
        if not differences[worst] <= TOLERANCES[form.type]:
            raise DifferenceError(
                f"{path}: not written: in onnxruntime, the output '{worst}' differs from the network's by "
                f"{differences[worst]:.1e} of its largest value; {TOLERANCES[form.type]:.0e} is the limit"
            )
        if selector:
            _set_thresholds(model, limits)
            del model.graph.output[len(given) :]  # what they are selected from was for the check
            _write(temporary, model, entries)
        size = temporary.stat().st_size
    return Report(Path(path), differences, size)


def output_names(network: Network, form: Form) -> list[str]:
    """The names of the model's outputs, without states."""
    if not network.heads:
        return ["output"]
    if form.outputs == "raw":
        return [f"head_{index}" for index in network.heads]
    return ["boxes", "scores"] if form.outputs == "boxes" else ["detections"]


def _check(network: Network, form: Form) -> None:
    """Refuses what the form cannot say of the network, at the option that is the reason."""
    network.check_graph("has no ONNX form here; detect with the weights")
    if form.outputs != "raw":
        network.check_classes()
    for head in network.head_layers() if form.outputs != "raw" else []:
        section = network.cfg.sections[head.index + 1]
        if not head.dense:
            text = "these boxes depend on the threshold, as no graph of all boxes can say; export raw outputs"
            network.cfg.fail(section, section.get("tree") or section.get("classfix"), text)


def _inputs(graph: Graph, images: int, further: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Inputs of the right shapes and types, the same ones each time. further: pixels more than the network's size."""
    network, form, shape = graph.network, graph.form, graph.network.input_shape
    generator = torch.Generator().manual_seed(0)
    sides = (shape.c, shape.h + further, shape.w + further) if shape.c else (shape.count,)
    pixels = torch.randint(0, 256, (images, *sides), generator=generator, dtype=torch.uint8)
    values = pixels.permute(0, 2, 3, 1).contiguous() if form.uint8 else pixels.float() / 255 * network.net.input_max
    if graph.selector:
        return values, [torch.tensor([limit]) for limit in form.limits(network)]
    return values, list(_states(network, images).values())


def _states(network: Network, images: int) -> dict[str, Tensor]:
    """The states of recurrent layers at the start, for so many images; none in other networks."""
    if not any(isinstance(layer, Recurrent) for layer in network.layers):
        return {}
    shape = network.input_shape
    dtype = next(network.parameters()).dtype
    network.reset_state()
    with torch.no_grad():
        network(torch.zeros((images, *((shape.c, shape.h, shape.w) if shape.c else (shape.count,))), dtype=dtype))
    states = {name: torch.zeros_like(state) for name, state in network.states().items()}
    network.reset_state()
    return states


def _state_name(key: str) -> str:
    return f"state_{key.replace('.', '_')}"


def _converted(graph: Graph, outputs: list[str], dynamic_size: bool, opset: int | None) -> tuple[Any, list[Any]]:
    """The ONNX ModelProto without initializers, and these as onnx_ir's values, whose tensors are the network's own."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DarknetError(f"{error.name} is not installed; pip install 'darknet-cfg[onnx]'") from None
    inputs = _inputs(graph, 2)
    batch = torch.export.Dim("batch")
    free = {0: batch}
    if dynamic_size:
        first = 1 if graph.form.uint8 else 2
        free |= {first: torch.export.Dim.DYNAMIC, first + 1: torch.export.Dim.DYNAMIC}
    shapes = (free, [{} if graph.selector else {0: batch} for _ in inputs[1]])
    names = ["images", *graph.others]
    with _quiet():
        try:
            program = torch.onnx.export(
                graph, inputs, dynamo=True, input_names=names, output_names=outputs, dynamic_shapes=shapes,
                opset_version=opset, external_data=False, optimize=True, verbose=False,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().split("\n")[0][:200]
            raise DarknetError(f"{graph.network.cfg.path}: ONNX cannot say this network: {reason}") from None
    assert program is not None
    if opset not in (None, program.model.opset_imports[""]):
        made = program.model.opset_imports[""]
        raise DarknetError(f"opset {opset}: PyTorch does not write it (it gave {made}); write --opset {made}")
    weights = list(program.model.graph.initializers.values())
    program.model.graph.initializers.clear()
    model = program.model_proto
    if graph.selector:  # the exporter took the example's number of detections for the only one
        del model.graph.value_info[:]
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "found"
    return model, weights


def _write_entries(file: IO[bytes], weights: Sequence[Any]) -> None:
    """Writes the graph's entries for initializers one at a time, and takes the values' tensors away: a ModelProto
    would hold all of them, and its bytes all of them again."""
    import onnx

    number = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
    for value in weights:
        content = onnx.numpy_helper.from_array(value.const_value.numpy(), value.name).SerializeToString()
        file.write(_field(number, len(content)) + content)
        value.const_value = None  # onnxscript's rewriter keeps its last graph alive


def _write(path: Path, model: Any, entries: IO[bytes]) -> None:
    """Writes the file of a model to whose graph these entries belong."""
    import onnx

    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    graph = model.graph.SerializeToString()
    number = model.DESCRIPTOR.fields_by_name["graph"].number
    head = rest.SerializeToString() + _field(number, len(graph) + entries.tell()) + graph
    if (size := len(head) + entries.tell()) > MAX_BYTES:
        raise DarknetError(f"{path}: the model would have {size:,} bytes; an ONNX file has 2 GB at most")
    with path.open("wb") as file:
        file.write(head)
        entries.seek(0)
        shutil.copyfileobj(entries, file)


def _field(number: int, length: int) -> bytes:
    """What protobuf writes before a field's content of so many bytes."""
    key = number << 3 | 2  # 2: the length follows
    groups = [length >> shift & 127 for shift in range(0, max(length.bit_length(), 1), 7)]
    return bytes([key, *(group | 128 for group in groups[:-1]), groups[-1]])


def _set_thresholds(model: Any, limits: tuple[float, float]) -> None:
    """Makes constants of the inputs for the thresholds, with which the numbers were checked."""
    import onnx

    for name, value in zip(THRESHOLDS, limits, strict=True):
        model.graph.input.remove(next(entry for entry in model.graph.input if entry.name == name))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.float32), name))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks on its own working (torchvision is not installed …) are not for users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _describe(model: Any, network: Network, form: Form, names: Sequence[str], letterbox: bool | None) -> None:
    """Metadata: for people and other programs a line each, for this program one JSON text."""
    letterbox = network.net.keeps_aspect if letterbox is None else letterbox
    width, height = network.size
    limits = dict(zip(THRESHOLDS, form.asked(network), strict=True))
    about = {**asdict(form), **limits, "cfg": network.cfg.text, "size": [width, height], "names": list(names)}
    entries = {
        METADATA: json.dumps({**about, "letterbox": letterbox}),
        "input": f"{_pixels(network, form)}, {width} x {height}",
        "resize": str(fit_of(network.net.image_fit, letterbox)),
        "outputs": FORMS[form.outputs if network.heads else "none"],
        "classes": "\n".join(names),
    }
    for key, value in entries.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _pixels(network: Network, form: Form) -> str:
    """What a value of the input means."""
    if form.uint8:
        return "uint8, height x width x RGB"
    return str(levels_of(network.net))


FORMS = {
    "boxes": "boxes: centre x, centre y, width, height as fractions of the input; scores: objectness * class",
    "raw": "what each head reads, before its activations",
    "detections": "image, class, confidence, centre x, centre y, width, height as fractions of the input",
    "none": "the last layer's output",
}


def _expected(graph: Graph, further: int) -> tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]:
    """Inputs by their names, and the network's outputs for them. further: see `_inputs`."""
    images, others = _inputs(graph, 3, further)
    with torch.inference_mode():
        if graph.selector:
            others[1] = _telling_threshold(graph, images)
        outputs = graph(images, others)
    inputs = {name: x.numpy() for name, x in zip(("images", *graph.others), (images, *others), strict=True)}
    return inputs, [output.float().numpy() for output in outputs]


def _differences(
    path: Path,
    names: Sequence[str],
    inputs: dict[str, NDArray[Any]],
    expected: list[NDArray[Any]],
    selector: Selector | None,
) -> dict[str, float]:
    """By output, the greatest difference between the network and onnxruntime on the same inputs. Detections are
    compared with those that detection selects from onnxruntime's own boxes: rounding may make another box the better
    one of two that are nearly alike."""
    outputs = open_session(path, fast=False).run(list(names), inputs)
    if selector:
        tensors = [torch.from_numpy(values) for values in (*outputs[1:], *(inputs[name] for name in THRESHOLDS))]
        expected[0] = selector.as_detected(*tensors).numpy()
    return {name: _difference(name, a, b) for name, a, b in zip(names, expected, outputs, strict=True)}


def _telling_threshold(graph: Graph, images: Tensor) -> Tensor:
    """(1,) a threshold that some hundreds of scores exceed, in the widest gap between two of them: there is much to
    compare, and rounding decides nothing."""
    scores = Graph(graph.network, replace(graph.form, outputs="boxes"))(images, [])[1].flatten()
    top = scores.topk(min(1000, len(scores))).values[min(200, len(scores) // 2) :]
    widest = int((top[:-1] - top[1:]).argmax())
    return (top[widest : widest + 1] + top[widest + 1 : widest + 2]) / 2


def _difference(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Relative to the largest value; fractions of the image and probabilities, to 1 at least."""
    if ours.shape != theirs.shape:
        return float("inf")
    if name == "detections":  # rounding orders those of nearly equal confidences
        matched = _matched(ours, theirs)  # image, class and confidence are in order all the same
        ours, theirs = np.concatenate((ours[:, :3], ours), 1), np.concatenate((theirs[:, :3], matched), 1)
    least = 1.0 if name in FRACTIONS else 1e-30
    largest = np.abs(ours).max(initial=least, where=np.isfinite(ours))
    with np.errstate(invalid="ignore"):
        difference = np.where(ours == theirs, 0, np.abs(ours - theirs))  # infinities may be equal
    return float(difference.max(initial=0) / largest)


def _matched(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
    """(m, 7) both: for each row of ours, the most similar one of theirs; NaN where two would have the same."""
    if not len(ours):
        return theirs
    with np.errstate(invalid="ignore"):
        distances = np.where(ours[:, None] == theirs, 0, np.abs(ours[:, None] - theirs)).max(2)
    nearest = distances.argmin(1)
    return theirs[nearest] if len(np.unique(nearest)) == len(ours) else np.full_like(theirs, np.nan)
