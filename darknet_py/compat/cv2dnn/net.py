"""`Net`: what OpenCV 4's `readNetFromDarknet` gives, run by this package with Darknet's arithmetic."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.boxes import nms
from darknet_py.compat.cv2dnn import forms
from darknet_py.compat.cv2dnn.errors import (
    ASSERTION,
    BAD_ARGUMENT,
    BAD_SIZE,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    UNSPECIFIED,
    Cv2Error,
    as_cv2,
)
from darknet_py.compat.cv2dnn.importer import Part, Step, blobs, flat_sections, steps_of
from darknet_py.devices import multiplying
from darknet_py.errors import CfgWarning
from darknet_py.inference.deploy import deployed_cfg
from darknet_py.inference.runner import Runner, prepare
from darknet_py.layers import Head
from darknet_py.layers.arithmetic import Arithmetic
from darknet_py.layers.batchnorm import Normalised
from darknet_py.layers.head import GridHead, in_float32
from darknet_py.layers.layer import Shape as LayerShape
from darknet_py.network import Network, raw_of

Blob: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]

CUDA_TARGETS = {cv2.dnn.DNN_TARGET_CUDA: "fp32", cv2.dnn.DNN_TARGET_CUDA_FP16: "fp16"}
YOLO_THRESH, REGION_THRESH, REGION_NMS = 0.2, 0.001, 0.4  # OpenCV's, where the cfg says nothing
IMAGE_AXES = 4


class Layer:
    """One of OpenCV's layers. blobs: its weights, float32, OpenCV's order. preferableTarget: 0, the CPU."""

    preferableTarget = 0

    def __init__(self, name: str, kind: str, weights: tuple[Blob, ...], has_output: bool) -> None:
        self.name, self.type, self.blobs = name, kind, weights
        self._has_output = has_output

    def outputNameToIndex(self, outputName: str) -> int:
        """The number of the output of that name; the input layer has one, "data", and -1 means that there is none."""
        return 0 if self._has_output or outputName == "data" else -1


class Net:
    """A network with OpenCV's calls.

    Names, ids, shapes and the content of the rows are those of OpenCV 4.14; the numbers are Darknet's (batch norm has
    sqrt(variance + 1e-5), OpenCV sqrt(variance + 1e-6)). Mistakes raise `cv2.error`.
    """

    def __init__(self, network: Network | None = None, *, has_weights: bool = True) -> None:
        self._network, self._has_weights = network, has_weights
        self._steps = steps_of(network) if network else []
        self._by_name = {step.name: step for step in self._steps}
        self._flat = flat_sections(network) if network else set()
        self._limits = {head.index: _limits(head, network) for head in network.head_layers()} if network else {}
        self._backend = self._target = 0
        self._images: Tensor | None = None
        self._runner: Runner | None = None
        self._rewritten = False  # whether the runner's layers are not those of the cfg
        self._whole: Network | None = None  # with the cfg's own layers and batch norm apart, once they were asked for
        self._key: tuple[object, ...] = ()
        self._ticks: int | None = None

    def empty(self) -> bool:
        """Whether no network was loaded."""
        return self._network is None

    def _loaded(self, func: str) -> Network:
        if self._network is None:
            raise Cv2Error(ASSERTION, "the net is empty; read one with readNetFromDarknet", func)
        return self._network

    # Layers

    def getLayerNames(self) -> Sequence[str]:
        """All names but the input's, by id: a tuple."""
        return forms.names(step.name for step in self._steps[1:])

    def getLayerId(self, layer: str) -> int:
        """The id of that name; -1: there is none."""
        return self._by_name[layer].id if layer in self._by_name else -1

    def _step(self, layer: int | str, func: str) -> Step:
        try:
            number = self.getLayerId(layer) if isinstance(layer, str) else int(layer)
        except (TypeError, ValueError, OverflowError):
            raise Cv2Error(BAD_ARGUMENT, f"a layer is a name or a number, not {layer!r}", func) from None
        if not 0 <= number < len(self._steps):
            raise Cv2Error(NOT_FOUND, f"Layer with requested id={number} not found", func)
        return self._steps[number]

    def getLayer(self, layerId: int | str) -> Layer:
        """The layer of that id or name."""
        step = self._step(layerId, "getLayer")
        values = tuple(_blob(one, step) for one in blobs(self._loaded("getLayer"), step))
        return Layer(step.name, step.type, values, has_output=step.id > 0)

    def getLayerTypes(self) -> Sequence[str]:
        """The types that occur, the input's too, sorted."""
        return forms.names(sorted({step.type or "__NetInputLayer__" for step in self._steps}))

    def getLayersCount(self, layerType: str) -> int:
        """How many layers are of that type."""
        return Counter(step.type for step in self._steps[1:])[layerType]

    def getUnconnectedOutLayers(self) -> NDArray[np.int32]:
        """The ids of the layers that no other reads, ascending: (n,) int32."""
        return forms.column(np.array([step.id for step in self._unread()], np.int32))

    def getUnconnectedOutLayersNames(self) -> Sequence[str]:
        """Their names."""
        return forms.names(step.name for step in self._unread())

    def _unread(self) -> list[Step]:
        read = {number for step in self._steps for number in step.inputs}
        return [step for step in self._steps[1:] if step.id not in read]

    def getParam(self, layer: int | str, numParam: int = 0) -> Blob:
        """The layer's blob of that number."""
        step = self._step(layer, "getParam")
        tensors = blobs(self._loaded("getParam"), step)
        if not 0 <= numParam < len(tensors):
            raise Cv2Error(ASSERTION, f"numParam={numParam}: {step.name} has {len(tensors)} blobs", "getParam")
        return _blob(tensors[numParam], step)

    def setParam(self, layer: int | str, numParam: int, blob: Any) -> None:
        """Replaces the layer's blob of that number by values of the same shape."""
        old, step = self.getParam(layer, numParam), self._step(layer, "setParam")
        values = _numbers(blob, "setParam").astype(np.float32)
        if values.shape != old.shape:
            raise Cv2Error(ASSERTION, f"{step.name} has a blob of {old.shape}, not {values.shape}", "setParam")
        tensor = blobs(self._loaded("setParam"), step)[numParam]
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))
        self._key = ()

    # Input

    def setInput(
        self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    ) -> None:
        """Sets the input, (blob - mean) * scalefactor.

        Args:
            blob: (n, channels, height, width), any number type; it is copied. Any size that fits the strides works.
            name: "" or "data". mean: of each channel.
        """
        self._loaded("setInput")
        if name not in ("", "data"):
            raise Cv2Error(NOT_FOUND, f'Requested blob "{name}" not found', "setInput")
        array = _numbers(blob, "setInput")
        images = torch.empty(
            array.shape, memory_format=torch.channels_last if array.ndim == IMAGE_AXES else torch.contiguous_format
        )
        images.numpy()[...] = array
        if array.ndim == IMAGE_AXES and any(means := np.ravel(mean)[: array.shape[1]]):
            images[:, : len(means)] -= torch.from_numpy(means.astype(np.float32))[:, None, None]
        self._images = images if scalefactor == 1 else images.mul_(scalefactor)

    def setInputsNames(self, inputBlobNames: Sequence[str]) -> None:
        """Darknet's networks have one input; it keeps its name, "data"."""

    def setInputShape(self, inputName: str, shape: Sequence[int]) -> None:
        """The input's shape is that of the blob; a wrong one is reported by `forward`."""

    # Where it runs

    def setPreferableBackend(self, backendId: int) -> None:
        """DNN_BACKEND_CUDA with a CUDA target runs on the GPU where torch has one; everything else on the CPU."""
        self._backend = int(backendId)

    def setPreferableTarget(self, targetId: int) -> None:
        """DNN_TARGET_CUDA, or DNN_TARGET_CUDA_FP16 for half precision; see setPreferableBackend."""
        self._target = int(targetId)

    def enableFusion(self, fusion: bool) -> None:
        """Without effect: batch norm is folded whenever that gives the layers that are asked for."""

    def enableWinograd(self, useWinograd: bool) -> None:
        """Without effect: PyTorch chooses its algorithms."""

    def setHalideScheduler(self, scheduler: str) -> None:
        """Without effect: there is no Halide."""

    def _place(self) -> tuple[str, str]:
        """Device and precision."""
        wants_gpu = self._backend == cv2.dnn.DNN_BACKEND_CUDA or self._target != cv2.dnn.DNN_TARGET_CPU
        if self._backend == cv2.dnn.DNN_BACKEND_CUDA and torch.cuda.is_available():
            return "cuda", CUDA_TARGETS.get(self._target, "fp32")
        if wants_gpu:
            forms.warn_once(
                f"backend {self._backend} with target {self._target} is not available here; the network runs on the CPU"
                " (a GPU needs DNN_BACKEND_CUDA, DNN_TARGET_CUDA, and a torch with CUDA)"
            )
        return "cpu", "fp32"

    # Running

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the network.

        `forward()` and `forward("name")` give one array; `forward(names)`, with a list, tuple or array of names, a
        tuple of arrays in that order. Without a name it is the last layer. float32, in memory of their own: maps are
        (n, channels, height, width); heads (boxes, 5+classes), or (n, boxes, 5+classes) for n > 1 images, with
        relative centre and size, the objectness, and each class's probability, 0 unless it exceeds the head's thresh.
        """
        names = _asked(args, kwargs)
        if names is None or isinstance(names, str):
            name = names or self._last("forward")
            if name not in self._by_name:
                raise Cv2Error(UNSPECIFIED, f'Requested layer "{name}" not found', "forward")
            return self._run([name])[0]
        return forms.outputs(self._run([str(name) for name in names] or [self._last("forward")]))

    def forwardAndRetrieve(self, outBlobNames: Sequence[str]) -> tuple[tuple[Blob, ...], ...]:
        """For each name, the tuple of its outputs, of which there is one."""
        return tuple((one,) for one in self.forward(list(outBlobNames)))

    def forwardAsync(self, outputName: str = "") -> None:
        """Not available, as in OpenCV without OpenVINO."""
        raise Cv2Error(
            NOT_IMPLEMENTED, "DNN: Asynchronous forward is supported for Inference Engine backend only", "forwardAsync"
        )

    def _last(self, func: str) -> str:
        self._loaded(func)
        return self._steps[-1].name

    @torch.inference_mode()
    def _run(self, names: list[str]) -> list[Blob]:
        network = self._loaded("forward")
        steps = [self._step(name, "forward") for name in names]
        if self._images is None:
            raise Cv2Error(ASSERTION, "there is no input; call setInput first", "forward")
        if not self._has_weights:
            raise Cv2Error(ASSERTION, f"{network.cfg.path} was read without weights", "forward")
        start = cv2.getTickCount()
        self._prepare(network)
        outputs = self._outputs(steps)
        self._ticks = cv2.getTickCount() - start
        return outputs

    def _prepare(self, network: Network) -> None:
        """Makes the runner fit the input's size and the place."""
        assert self._images is not None
        _check_shape(network, tuple(self._images.shape), "forward")
        size = (self._images.shape[3], self._images.shape[2])
        if (key := (size, *self._place())) != self._key:
            with as_cv2(BAD_SIZE, "forward"), warnings.catch_warnings():
                warnings.simplefilter("ignore", CfgWarning)
                self._runner = prepare(network, size=size, device=key[1], precision=str(key[2]))
            self._rewritten = self._runner.network.cfg.text != deployed_cfg(network).text
            self._key, self._whole = key, None

    def _outputs(self, steps: list[Step]) -> list[Blob]:
        """The steps' outputs: of all heads by the runner; else layer by layer, in a network that has these layers."""
        assert self._runner is not None
        assert self._images is not None
        runner, original, inner = self._runner, self._loaded("forward"), {}
        images = self._images.to(runner.device, runner.dtype)
        if [(step.section, step.part) for step in steps] == [(index, Part.BOXES) for index in original.heads]:
            heads = zip(steps, runner.network.head_layers(), runner(images), strict=True)
            return [_rows(head, raw, runner.size, *self._limits[step.section]) for step, head, raw in heads]
        network = runner.network
        apart = any(step.part in (Part.BEFORE_NORM, Part.BEFORE_ACTIVATION) for step in steps)
        if apart or self._rewritten:
            network = self._unfolded()
            inner = _watched(network)
        wanted = {index: None for step in steps for index in _needed(network, step)}
        found = {}
        if wanted:
            with multiplying(runner.precision, runner.device):
                found = network.run(images, list(wanted))
        return [self._result(network, step, found | {-1: images}, inner) for step in steps]

    def _unfolded(self) -> Network:
        """The network with batch norm as layers of its own, of the runner's size, device and precision."""
        assert self._runner is not None
        if self._whole is None:
            network = self._loaded("forward")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CfgWarning)
                whole = Network(network.cfg, size=self._runner.size)
            whole.load_state_dict(network.state_dict())
            self._whole = whole.requires_grad_(False).eval().to(self._runner.device, self._runner.dtype)
        return self._whole

    def _result(
        self, network: Network, step: Step, found: dict[int, Tensor], inner: dict[int, dict[Part, Tensor]]
    ) -> Blob:
        if step.part is Part.INPUT:
            return _own(found[-1])
        layer = network.layers[step.section]
        if step.part in (Part.BEFORE_NORM, Part.BEFORE_ACTIVATION):
            if step.part not in inner[step.section]:
                raise Cv2Error(NOT_IMPLEMENTED, f"{step.name} belongs to a layer that shares weights", "forward")
            x = inner[step.section][step.part]
            return _own(x.flatten(1) if step.section in self._flat else x)
        if step.part is Part.BOXES:
            return _rows(layer, raw_of(layer, found), network.size, *self._limits[step.section])
        if step.part is Part.PERMUTED:
            return _own(found[layer.source_indices[0]].permute(0, 2, 3, 1))
        if step.part is Part.SOURCE:
            x = found[layer.source_indices[step.source]]
            return _own(x.chunk(layer.options.groups, 1)[layer.options.group_id])
        x = found[step.section]
        x = (x + 1) / 2 if step.part is Part.UNADJUSTED else x
        return _own(x.flatten(1) if step.section in self._flat else x.reshape(*x.shape, *[1] * (IMAGE_AXES - x.ndim)))

    def getPerfProfile(self) -> tuple[int, NDArray[np.float64]]:
        """The ticks that the last `forward` took (divide by getTickFrequency), and a 0 for each layer: they are not
        timed one by one. (0, zeros) before the first."""
        self._loaded("getPerfProfile")
        return self._ticks or 0, np.zeros(len(self._steps) - 1)

    # Sizes

    def getLayersShapes(
        self,
        netInputShape: Sequence[Any],
    ) -> tuple[NDArray[np.int32], tuple[tuple[NDArray[np.int32], ...], ...], tuple[tuple[NDArray[np.int32], ...], ...]]:
        """For an input shape: the ids, from 0; the shapes that each layer reads; those that it gives."""
        shapes = self._shapes(netInputShape, "getLayersShapes")
        reads = tuple(tuple(np.array(shapes[k], np.int32) for k in step.inputs or (0,)) for step in self._steps)
        gives = tuple((np.array(shape, np.int32),) for shape in shapes)
        return np.arange(len(shapes), dtype=np.int32), reads, gives

    def getMemoryConsumption(self, netInputShape: Sequence[Any]) -> tuple[int, int]:
        """The bytes of the weights, and of all layers' outputs, for an input shape."""
        network = self._loaded("getMemoryConsumption")
        shapes = self._shapes(netInputShape, "getMemoryConsumption")
        weights = sum(one.numel() for step in self._steps for one in blobs(network, step))
        return 4 * weights, 4 * sum(int(np.prod(shape)) for shape in shapes)

    def getFLOPS(self, netInputShape: Sequence[Any]) -> int:
        """Floating-point operations for an input shape, as Darknet counts them (OpenCV counts a little more)."""
        network, shape = self._at(netInputShape, "getFLOPS")
        return round(sum(layer.bflops for layer in network.layers) * 1e9) * shape[0]

    def _at(self, given: Sequence[Any], func: str) -> tuple[Network, Shape]:
        """The network, without its weights, at an input shape; and that shape."""
        network, shape = self._loaded(func), _shape(given, func)
        _check_shape(network, shape, func)
        with as_cv2(BAD_SIZE, func), warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore", CfgWarning)
            return Network(network.cfg, size=(shape[3], shape[2])), shape

    def _shapes(self, given: Sequence[Any], func: str) -> list[Shape]:
        network, shape = self._at(given, func)
        return [_given(network, step, shape, self._flat) for step in self._steps]

    def dump(self) -> str:
        """The layers as a graph in the language of graphviz."""
        nodes = [f'\t"{step.name}" [label="{step.name}\\n{step.type}"]' for step in self._steps]
        edges = [f'\t"{self._steps[k].name}" -> "{step.name}"' for step in self._steps for k in step.inputs]
        return "\n".join(["digraph G {", *nodes, *edges, "}"]) + "\n"

    def disable_region_nms(self) -> None:
        """Heads no longer suppress boxes by themselves: what making a DetectionModel does to its net, for good."""
        self._limits = {index: (thresh, 0.0) for index, (thresh, _) in self._limits.items()}


class Watch(Arithmetic):
    """The arithmetic of one layer, which notes what batch norm and the activation read."""

    def __init__(self, seen: dict[Part, Tensor]) -> None:
        self.seen = seen

    def normalise(self, layer: Normalised, x: Tensor) -> Tensor:
        self.seen.setdefault(Part.BEFORE_NORM, x)  # layers that share the weights come later
        return super().normalise(layer, x)

    def activate(self, x: Tensor, name: str, *, own: bool = False) -> Tensor:
        self.seen[Part.BEFORE_ACTIVATION] = x
        return super().activate(x, name)


def _watched(network: Network) -> dict[int, dict[Part, Tensor]]:
    """For each layer, what its batch norm and its activation read, filled in as the network runs."""
    seen: dict[int, dict[Part, Tensor]] = {layer.index: {} for layer in network.layers}
    for layer in network.layers:
        layer.arithmetic = Watch(seen[layer.index])
    return seen


def _numbers(blob: Any, func: str) -> NDArray[Any]:
    """What a call was given as a blob."""
    try:
        array = np.asarray(blob.get() if isinstance(blob, cv2.UMat) else blob)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind not in "fiu":
        raise Cv2Error(BAD_ARGUMENT, f"a blob of numbers is needed, not of {array.dtype}", func)
    return array


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The name or names that `forward` was given, in any of OpenCV's forms; None: none."""
    names = [kwargs.pop(key) for key in ("outputName", "outBlobNames") if key in kwargs]
    kwargs.pop("outputBlobs", None)
    names += args[:1]
    if kwargs or len(names) > 1:
        raise Cv2Error(BAD_ARGUMENT, f"forward takes a name or a list of names, not {[*args, *kwargs]}", "forward")
    name = names[0] if names else None
    if name is None or isinstance(name, str):
        return name
    if not isinstance(name, Iterable) or not all(isinstance(one, str) for one in name):
        raise Cv2Error(BAD_ARGUMENT, f"forward takes a name or a list of names, not {name!r}", "forward")
    return list(name)


def _needed(network: Network, step: Step) -> tuple[int, ...]:
    """The sections whose outputs a step's output is made from."""
    if step.part is Part.INPUT:
        return ()
    sources = network.layers[step.section].source_indices
    if step.part in (Part.BOXES, Part.PERMUTED):
        return sources
    return (sources[step.source],) if step.part is Part.SOURCE else (step.section,)


def _own(x: Tensor) -> Blob:
    """As float32 in memory of its own, contiguous."""
    return np.array(x.float().cpu().numpy(), order="C")


def _limits(head: Head, network: Network) -> tuple[float, float]:
    """The head's thresh and the overlap of its own suppression, as OpenCV reads them from the section."""
    section = network.cfg.sections[head.index + 1]
    region = head.kind == "region"
    defaults = (REGION_THRESH, REGION_NMS) if region else (YOLO_THRESH, 0.0)
    written = [section.get("thresh"), None if region else section.get("nms_threshold")]
    thresh, overlap = (
        default if option is None else _number(option.value, default)
        for option, default in zip(written, defaults, strict=True)
    )
    return thresh, overlap


def _number(text: str | None, default: float) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default


def _rows(head: Any, raw: Any, size: tuple[int, int], thresh: float, overlap: float) -> Blob:
    """A head's boxes as OpenCV's rows: centre, size, objectness, and the class probabilities over the threshold."""
    raw = in_float32(raw)
    xywh, objectness, classes = boxes = head.boxes(raw, size)
    if isinstance(head, GridHead) and head.kind == "region":  # classfix and trees
        flat = boxes._make(part.flatten(0, 1) for part in boxes)
        scores = head.scored(torch.zeros(0), flat, thresh, None).probs.view_as(classes)
    else:
        scores = F.threshold(classes * objectness[..., None], thresh, 0.0)
    if overlap:
        image, box, class_id = scores.nonzero(as_tuple=True)
        group = image * classes.shape[-1] + class_id
        kept = nms(xywh[image, box], scores[image, box, class_id], group, overlap)
        gone = (image[~kept], box[~kept], class_id[~kept])
        scores[gone] = 0
    rows = torch.cat((xywh, objectness[..., None], scores), -1)
    result: Blob = (rows[0] if len(rows) == 1 else rows).cpu().numpy()
    return result


def _blob(tensor: Tensor, step: Step) -> Blob:
    """A tensor as OpenCV shows it: vectors, and a head's anchors, as one row."""
    values = tensor.detach().float().cpu().numpy()
    return np.array(values.reshape(1, -1) if values.ndim == 1 or step.type == "Region" else values, order="C")


def _shape(given: Any, func: str) -> Shape:
    """An input shape from the forms that OpenCV takes: one, or a list with one."""
    try:
        return tuple(int(one) for one in (given[0] if len(given) == 1 else given))
    except (TypeError, ValueError, OverflowError):
        raise Cv2Error(BAD_ARGUMENT, f"a shape is four whole numbers, not {given!r}", func) from None


def _check_shape(network: Network, shape: Shape, func: str) -> None:
    """Refuses an input that is no images of the network's channels."""
    channels = network.input_shape.c
    if len(shape) != IMAGE_AXES or shape[1] != channels or shape[0] < 1:
        text = f"the blob is {shape}; {network.cfg.path} reads (n, {channels}, height, width), as blobFromImage gives"
        raise Cv2Error(UNSPECIFIED, text, func)


def _empty(shape: LayerShape) -> Tensor:
    """One image's output of a layer, without memory."""
    return torch.empty((1, shape.c, shape.h, shape.w) if shape.c else (1, shape.count), device="meta")


def _given(network: Network, step: Step, given: Shape, flat: set[int]) -> Shape:
    """The shape of a step's output for an input shape."""
    if step.part is Part.INPUT:
        return given
    count, layer = given[0], network.layers[step.section]
    source = network.layers[layer.source_indices[step.source]].shape if layer.source_indices[0] >= 0 else layer.input
    if step.part is Part.PERMUTED:
        return (count, source.h, source.w, source.c)
    if step.part is Part.BOXES:
        assert isinstance(layer, Head)
        shapes = {index: network.layers[index].shape for index in layer.source_indices if index >= 0}
        outputs = {index: _empty(shape) for index, shape in (shapes | {-1: network.input_shape}).items()}
        boxes = layer.boxes(raw_of(layer, outputs), network.size)
        rows = (boxes.xywh.shape[1], 5 + boxes.classes.shape[2])
        return rows if count == 1 else (count, *rows)
    if step.part is Part.SOURCE:
        return (count, source.c // layer.options.groups, source.h, source.w)
    if step.section in flat:
        return (count, layer.shape.count)
    shape = getattr(layer, "host_shape", layer.shape)
    shape = shape if step.part is not Part.OUTPUT else layer.shape
    return (count, shape.c, shape.h, shape.w) if shape.c else (count, shape.count, 1, 1)
