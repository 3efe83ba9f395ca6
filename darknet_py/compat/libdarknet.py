"""What Darknet's shared library offers to Python: its structures, and its functions under their C names.

Structures are real ctypes ones, which clients build and read themselves; a loaded network is a Python object, which
they hand back as they would a pointer. Memory belongs to Python: what `free_…` releases are references.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.boxes import nms
from darknet_py.devices import multiplying, pick_device
from darknet_py.errors import DarknetError
from darknet_py.inference.runner import prepare
from darknet_py.layers import Candidates
from darknet_py.names import find_beside, names_file, read_data, read_names
from darknet_py.network import load, raw_of
from darknet_py.pictures.read import read_image
from darknet_py.pictures.resize import letterbox, resize
from darknet_py.postprocess import from_letterbox

FloatPtr = ctypes.POINTER(ctypes.c_float)
IntPtr = ctypes.POINTER(ctypes.c_int)


class BOX(ctypes.Structure):
    """Centre x, y, width, height."""

    _fields_ = (("x", ctypes.c_float), ("y", ctypes.c_float), ("w", ctypes.c_float), ("h", ctypes.c_float))


class DETECTION(ctypes.Structure):
    """A box with the probability of each class: the fields of all generations of the binding."""

    _fields_ = (
        ("bbox", BOX),
        ("classes", ctypes.c_int),
        ("best_class_idx", ctypes.c_int),
        ("prob", FloatPtr),
        ("mask", FloatPtr),
        ("objectness", ctypes.c_float),
        ("sort_class", ctypes.c_int),
        ("uc", FloatPtr),
        ("points", ctypes.c_int),
        ("embeddings", FloatPtr),
        ("embedding_size", ctypes.c_int),
        ("sim", ctypes.c_float),
        ("track_id", ctypes.c_int),
    )


DETECTIONPtr = ctypes.POINTER(DETECTION)


class DETNUMPAIR(ctypes.Structure):
    """The detections of one image of a batch, and how many they are."""

    _fields_ = (("num", ctypes.c_int), ("dets", DETECTIONPtr))


DETNUMPAIRPtr = ctypes.POINTER(DETNUMPAIR)


class IMAGE(ctypes.Structure):
    """Width, height, channels, and floats plane by plane, RGB, 0..1."""

    _fields_ = (("w", ctypes.c_int), ("h", ctypes.c_int), ("c", ctypes.c_int), ("data", FloatPtr))


class METADATA(ctypes.Structure):
    """The number of classes, and their names as bytes."""

    _fields_ = (("classes", ctypes.c_int), ("names", ctypes.POINTER(ctypes.c_char_p)))


FIELDS = np.dtype({
    "names": ["bbox", "classes", "best_class_idx", "prob", "objectness", "sort_class"],
    "formats": ["4f4", "i4", "i4", np.uintp, "f4", "i4"],
    "offsets": [
        getattr(DETECTION, name).offset
        for name in ("bbox", "classes", "best_class_idx", "prob", "objectness", "sort_class")
    ],
    "itemsize": ctypes.sizeof(DETECTION),
})  # fmt: skip
"""The fields of a DETECTION as numpy reads them in place."""

_memory: dict[int, NDArray[np.float32]] = {}  # of images that this module made, by address
_device: int | str = "auto"


class LoadedNetwork:
    """What `load_network` returns.

    batch: images that `network_predict` reads. letterboxed: whether the last image was fitted with bars.
    """

    def __init__(self, cfg: str, weights: str, batch: int) -> None:
        self.runner = prepare(load(cfg, weights or None, device=_chosen_device()), batch=max(batch, 1))
        self.batch = max(batch, 1)
        self.letterboxed = False
        self.raw: list[Any] = []
        self.output: NDArray[np.float32] = np.empty(0, np.float32)

    @property
    def inputs(self) -> int:
        """Values of one image."""
        return int(self.runner.network.input_shape.count)

    def classes(self) -> int:
        return int(self.runner.network.classes)

    @torch.inference_mode()
    def predict(self, images: NDArray[np.float32]) -> Any:
        """(n, values) → a pointer to the last layer's output, which stays until the next prediction."""
        network, shape = self.runner.network, self.runner.network.input_shape
        x = torch.from_numpy(images).view(len(images), *(shape[:3] if shape.c else (shape.count,)))
        last = len(network.layers) - 1
        sources = [index for head in network.head_layers() for index in head.source_indices]
        with multiplying("fp32", self.runner.device):
            found = network.features(x.to(self.runner.device), {*sources, last})
        self.raw = [raw_of(head, found) for head in network.head_layers()]
        self.output = np.ascontiguousarray(found[last].float().cpu().numpy())
        return self.output.ctypes.data_as(FloatPtr)

    def candidates(self, thresh: float) -> Candidates:
        """The boxes of all heads from the last prediction."""
        network = self.runner.network
        heads = network.head_layers()
        if not heads:
            raise DarknetError(f"{network.cfg.path}: no detection head; read predict's result, as for a classifier")
        if not self.raw:
            raise DarknetError(f"{network.cfg.path}: nothing was predicted yet; call predict_image first")
        each = [head.decode(raw, thresh, network.size) for head, raw in zip(heads, self.raw, strict=True)]
        return Candidates(*map(torch.cat, zip(*each, strict=True)))


def _chosen_device() -> int | str:
    return "cpu" if not torch.cuda.is_available() else _device


def text(value: Any) -> str:
    """A path or word that clients give as bytes or str."""
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else str(value)


# Loading


def load_network(cfg: Any, weights: Any, clear: int) -> LoadedNetwork:
    """Reads a network; `network_predict` reads one image (in the C program, the cfg's batch)."""
    return load_network_custom(cfg, weights, clear, 1)


def load_network_custom(cfg: Any, weights: Any, clear: int, batch: int) -> LoadedNetwork:
    """Reads a network for batches of that size.

    Raises:
        DarknetError: a file is missing or wrong (the C program ends the process).
    """
    return LoadedNetwork(text(cfg), text(weights), int(batch))


def get_metadata(data: Any) -> METADATA:
    """The classes of a .data file: `classes` (without it, as many as there are names, or 2), and the names of `names`
    or `labels` (without them, a NULL pointer).

    Raises:
        DarknetError: a file is missing or wrong, or there are fewer names than classes.
    """
    path = text(data)
    options = read_data(path)
    file = names_file(options, path)
    names = read_names(find_beside(str(file), path)) if file else []
    classes = options.count("classes")
    if classes is None:
        classes = len(names) if file else 2
    elif file and classes > len(names):
        raise DarknetError(f"{options.where('classes')}: {file} has {len(names)} names; write a name for each class")
    print(f"Loaded - names_list: {file}, classes = {classes} ")
    values = (ctypes.c_char_p * len(names))(*(name.encode() for name in names))
    return METADATA(classes, ctypes.cast(values, ctypes.POINTER(ctypes.c_char_p)) if names else None)


def network_width(net: LoadedNetwork) -> int:
    return net.runner.size[0]


def network_height(net: LoadedNetwork) -> int:
    return net.runner.size[1]


def cuda_set_device(number: int) -> None:
    """The GPU of networks that are loaded from now on; without CUDA they stay on the CPU."""
    global _device
    _device = int(number)
    pick_device(_chosen_device())


def init_cpu() -> None:
    """Nothing needs to be prepared."""


def reset_rnn(net: LoadedNetwork) -> None:
    """Resets the states of recurrent layers."""
    net.runner.network.reset_state()


def free_network_ptr(net: LoadedNetwork) -> None:
    """Nothing: a network is released with its last reference."""


# Images


def _image(pixels: NDArray[np.float32]) -> IMAGE:
    """(channels, height, width) → an IMAGE of that memory, kept until free_image."""
    channels, height, width = pixels.shape
    result = IMAGE(width, height, channels, pixels.ctypes.data_as(FloatPtr))
    _memory[pixels.ctypes.data] = pixels
    return result


def pixels_of(image: IMAGE) -> NDArray[np.float32]:
    """(channels, height, width), the image's own memory."""
    return np.ctypeslib.as_array(image.data, (image.c, image.h, image.w))


def make_image(width: int, height: int, channels: int) -> IMAGE:
    """A black image."""
    return _image(np.zeros((channels, height, width), np.float32))


def free_image(image: IMAGE) -> None:
    """Releases an image of this module; of others nothing."""
    if image.data:
        _memory.pop(ctypes.addressof(image.data.contents), None)


def copy_image_from_bytes(image: IMAGE, data: Any) -> None:
    """Fills an image with height x width x channels bytes, 0..255."""
    target = pixels_of(image)
    if len(data) < target.size:
        size = f"{image.w} x {image.h} x {image.c}"
        raise DarknetError(f"{len(data)} bytes are too few for an image of {size}; resize it, and give RGB, not grey")
    values = np.frombuffer(data, np.uint8, target.size).reshape(image.h, image.w, image.c)
    np.divide(values.transpose(2, 0, 1), 255, out=target, dtype=np.float32)


def load_image_color(path: Any, width: int, height: int) -> IMAGE:
    """A file as an image, RGB; resized unless width or height is 0.

    Raises:
        ImageError: it cannot be read.
    """
    pixels = read_image(text(path))
    size = (width, height) if width and height else (pixels.shape[1], pixels.shape[0])
    return _image(np.ascontiguousarray(resize(pixels, *size).transpose(2, 0, 1)))


def letterbox_image(image: IMAGE, width: int, height: int) -> IMAGE:
    """The image in that size with its aspect ratio kept, in the middle of grey."""
    return _image(np.ascontiguousarray(letterbox(_rows(image), width, height).transpose(2, 0, 1)))


def rgbgr_image(image: IMAGE) -> None:
    """Swaps red and blue in place."""
    pixels = pixels_of(image)
    pixels[[0, 2]] = pixels[[2, 0]]


def _rows(image: IMAGE) -> NDArray[np.float32]:
    """(height, width, channels)"""
    return np.ascontiguousarray(pixels_of(image).transpose(1, 2, 0))


# Prediction


def network_predict(net: LoadedNetwork, data: Any) -> Any:
    """Runs the network on `batch` x `inputs` floats; a pointer to the last layer's output.

    Recurrent layers keep their states from call to call.
    """
    return net.predict(np.ctypeslib.as_array(ctypes.cast(data, FloatPtr), (net.batch, net.inputs)).copy())


def network_predict_image(net: LoadedNetwork, image: IMAGE) -> Any:
    """Runs the network on one image, stretched to its size."""
    return _predict(net, image, keep_aspect=False)


def network_predict_image_letterbox(net: LoadedNetwork, image: IMAGE) -> Any:
    """Runs the network on one image with its aspect ratio kept."""
    return _predict(net, image, keep_aspect=True)


def _predict(net: LoadedNetwork, image: IMAGE, *, keep_aspect: bool) -> Any:
    size = net.runner.size
    channels = net.runner.network.input_shape.c
    if image.c != channels:
        raise DarknetError(f"the image has {image.c} channels, {net.runner.network.cfg.path} reads {channels}")
    net.letterboxed = keep_aspect
    if (image.w, image.h) == size:
        return net.predict(pixels_of(image).reshape(1, -1).copy())
    fitted = (letterbox if keep_aspect else resize)(_rows(image), *size)
    return net.predict(np.ascontiguousarray(fitted.transpose(2, 0, 1)).reshape(1, -1))


def get_network_boxes(
    net: LoadedNetwork,
    w: int,
    h: int,
    thresh: float,
    hier: float,
    class_map: Any,
    relative: int,
    count: Any,
    letter: int | None = None,
) -> Any:
    """The boxes of the last prediction with a class over the threshold; their number goes to `count[0]`.

    Args:
        w, h: of the image, whose pixels the boxes are in, unless `relative` is 1.
        letter: 1: the image was letterboxed; None (the older binding has no such argument): as it was predicted.
    """
    found = net.candidates(thresh)
    keep_aspect = net.letterboxed if letter is None else bool(letter)
    dets = _detections(found, (w, h), net.runner.size, keep_aspect, bool(relative), net.classes())
    count[0] = len(found.image)
    return dets


def network_predict_batch(
    net: LoadedNetwork, image: IMAGE, batch_size: int, w: int, h: int, thresh: float, hier: float, class_map: Any,
    relative: int, letter: int,
) -> Any:  # fmt: skip
    """Runs the network on `batch_size` images of its size that lie one behind the other; a pair for each of them."""
    net.predict(np.ctypeslib.as_array(image.data, (batch_size, net.inputs)).copy())
    found = net.candidates(thresh)
    pairs = (DETNUMPAIR * batch_size)()
    for number in range(batch_size):
        own = Candidates(*(column[found.image == number] for column in found))
        dets = _detections(own, (w, h), net.runner.size, bool(letter), bool(relative), net.classes())
        pairs[number].num, pairs[number].dets = len(own.image), dets
    return ctypes.cast(pairs, DETNUMPAIRPtr)


def _detections(
    found: Candidates, image: tuple[int, int], network: tuple[int, int], letter: bool, relative: bool, classes: int
) -> Any:
    """A pointer to an array of DETECTION; the classes' probabilities lie behind it, in the same memory."""
    total = len(found.image)
    structures = ctypes.sizeof(DETECTION) * total
    memory = (ctypes.c_char * max(structures + 4 * total * classes, 1))()
    buffer = memoryview(memory).cast("B")
    rows = np.frombuffer(buffer, FIELDS, total)
    probs = np.frombuffer(buffer, np.float32, total * classes, structures).reshape(total, classes)
    xywh: Tensor = found.xywh.float()
    if letter:
        xywh = from_letterbox(xywh, torch.zeros_like(found.image), [image], network)
    probs[:] = found.probs.float().cpu().numpy()
    rows["bbox"] = xywh.cpu().numpy() * (1 if relative else np.array([*image, *image], np.float32))
    rows["classes"] = classes
    rows["best_class_idx"] = np.where(probs.max(1, initial=0) > 0, probs.argmax(1) if classes else 0, -1)
    rows["prob"] = probs.ctypes.data + np.arange(total, dtype=np.uintp) * (4 * classes)
    rows["objectness"] = found.objectness.float().cpu().numpy()
    return ctypes.cast(memory, DETECTIONPtr)


def _in_place(dets: Any, total: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The structures and the probabilities of detections that this module made, as numpy arrays on their memory."""
    address = ctypes.addressof(dets.contents)
    rows = np.frombuffer(_bytes_at(address, ctypes.sizeof(DETECTION) * total), FIELDS)
    classes, first = int(rows["classes"][0]), int(rows["prob"].min())
    block = np.frombuffer(_bytes_at(first, 4 * classes * total), np.float32)
    return rows, block.reshape(total, classes)


def _bytes_at(address: int, count: int) -> memoryview:
    return memoryview((ctypes.c_char * count).from_address(address)).cast("B")


def do_nms_sort(dets: Any, total: int, classes: int, thresh: float) -> None:
    """Suppression class by class: the probability of what overlaps a better box becomes 0. The order stays."""
    if not total:
        return
    rows, probs = _in_place(dets, total)
    box, class_id = np.nonzero(probs)
    kept = _kept(rows["bbox"][box], probs[box, class_id], class_id, thresh)
    probs[box[~kept], class_id[~kept]] = 0


def do_nms_obj(dets: Any, total: int, classes: int, thresh: float) -> None:
    """Suppression by objectness, of all classes together: what is suppressed loses all its probabilities."""
    if not total:
        return
    rows, probs = _in_place(dets, total)
    there = np.flatnonzero(rows["objectness"])
    gone = there[~_kept(rows["bbox"][there], rows["objectness"][there], np.zeros(len(there), np.int64), thresh)]
    rows["objectness"][gone] = 0
    probs[gone] = 0


def _kept(
    xywh: NDArray[np.float32], scores: NDArray[np.float32], groups: NDArray[np.int64], thresh: float
) -> NDArray[np.bool_]:
    boxes, values, classes = (torch.from_numpy(np.ascontiguousarray(part)) for part in (xywh, scores, groups))
    result: NDArray[np.bool_] = nms(boxes, values, classes, thresh).numpy()
    return result


def make_network_boxes(net: LoadedNetwork, thresh: float = 0.5, count: Any = None) -> Any:
    """The boxes of the last prediction, relative to the network's input."""
    return get_network_boxes(net, 1, 1, thresh, 0.5, None, 1, count if count is not None else [0], 0)


def free_detections(dets: Any, total: int) -> None:
    """Nothing: memory is released with its last reference."""


def free_batch_detections(pairs: Any, total: int) -> None:
    """Nothing, likewise."""


def free_ptrs(pointers: Any, total: int) -> None:
    """Nothing, likewise."""
