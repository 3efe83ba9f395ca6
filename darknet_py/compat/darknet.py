"""Darknet's Python binding (`darknet.py` of AlexeyAB's and hank-ai's repositories) without the shared library.

from darknet_py.compat import darknet           # instead of import darknet

The calls of two generations are here: `load_network`, `detect_image(network, class_names, image)` with the confidence
as a per-cent string; and `performDetect`, `detect`, `detect_image(net, meta, image)` with probabilities. pjreddie's own
binding, which letterboxes, is `darknet_py.compat.pjreddie`. Words may be bytes or str.
"""

from __future__ import annotations

# clients take names from here that Darknet's own modules happen to import: ct, math, POINTER, c_float …
import ctypes as ct  # noqa: F401
import math  # noqa: F401
import os
import random
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_void_p, cast, pointer  # noqa: F401
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from darknet_py import __version__
from darknet_py.compat import libdarknet as lib
from darknet_py.compat.libdarknet import (  # noqa: F401
    BOX,
    DETECTION,
    DETNUMPAIR,
    IMAGE,
    METADATA,
    DETECTIONPtr,
    DETNUMPAIRPtr,
    FloatPtr,
    IntPtr,
    LoadedNetwork,
    copy_image_from_bytes,
    do_nms_obj,
    do_nms_sort,
    free_batch_detections,
    free_detections,
    free_image,
    free_network_ptr,
    free_ptrs,
    get_network_boxes,
    init_cpu,
    letterbox_image,
    make_image,
    make_network_boxes,
    network_height,
    network_predict,
    network_predict_batch,
    network_width,
    reset_rnn,
    rgbgr_image,
)
from darknet_py.errors import DarknetError
from darknet_py.pictures.read import read_image

Box = tuple[float, float, float, float]
"""Centre x, y, width, height."""

load_net, load_net_custom, load_meta = lib.load_network, lib.load_network_custom, lib.get_metadata
load_image, set_gpu, predict = lib.load_image_color, lib.cuda_set_device, lib.network_predict
predict_image, predict_image_letterbox = lib.network_predict_image, lib.network_predict_image_letterbox

netMain: LoadedNetwork | None = None
metaMain: METADATA | None = None
altNames: list[str] | None = None
"""The model of `performDetect`, loaded once; programs set them, too."""


# The newer generation


def load_network(
    config_file: Any, data_file: Any, weights: Any, batch_size: int = 1
) -> tuple[LoadedNetwork, list[str], dict[str, tuple[int, int, int]]]:
    """The network, its class names, and a random colour for each."""
    network = load_net_custom(config_file, weights, 0, batch_size)
    metadata = load_meta(data_file)
    if not metadata.names:
        raise DarknetError(f"{lib.text(data_file)}: no class names; write names= and the path of a .names file")
    names = [metadata.names[k].decode() for k in range(metadata.classes)]
    return network, names, class_colors(names)


def _names(names: Any, classes: int) -> Any:
    """METADATA, or a sequence of names, as what has a name at each index below `classes`.

    Raises:
        DarknetError: there are too few.
    """
    is_metadata = isinstance(names, METADATA)
    known = len(names) if not is_metadata else names.classes if names.names else 0
    if known < classes:
        raise DarknetError(f"{known} names for {classes} classes; give the network's own names, or names= in the .data")
    return names.names if is_metadata else names


def class_colors(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A random colour for each name, drawn in order from `random`."""
    return {name: (random.randint(0, 255), random.randint(0, 255), random.randint(0, 255)) for name in names}


def network_dimensions(net: LoadedNetwork) -> tuple[int, int, int]:
    """Width, height, channels of the input."""
    return network_width(net), network_height(net), net.runner.network.input_shape.c


def detect_image(
    net: LoadedNetwork,
    names: Any,
    image: IMAGE,
    thresh: float = 0.5,
    hier_thresh: float = 0.5,
    nms: float = 0.45,
    debug: bool = False,
) -> list[tuple[Any, Any, Box]]:
    """The objects in an image: (name, confidence, box in the image's pixels), one for each class of a box.

    Args:
        names: a sequence of names: confidences are per-cent strings, '97.31', and the list ascends by these strings.
            METADATA, as the older generation has it: probabilities, and the most probable comes first.
    """
    older = isinstance(names, METADATA)
    known = _names(altNames or names if older else names, net.classes())
    predict_image(net, image)
    found = _found(net, image, thresh, nms, do_nms_sort)
    if older:
        return _by_probability(found, known)
    return sorted(decode_detection([(known[k], p, box) for k, p, box in found]), key=lambda one: one[1])


def _found(
    net: LoadedNetwork, image: IMAGE, thresh: float, nms: float | None, suppress: Any
) -> list[tuple[int, float, Box]]:
    """(class, probability, box) of what was predicted, box by box, each one's classes ascending."""
    count = pointer(c_int(0))
    dets = get_network_boxes(net, image.w, image.h, thresh, 0.5, None, 0, count)
    if nms:
        suppress(dets, count[0], net.classes(), nms)
    return [
        (k, dets[j].prob[k], _box(dets[j].bbox))
        for j in range(count[0])
        for k in np.flatnonzero(np.ctypeslib.as_array(dets[j].prob, (net.classes(),))).tolist()
    ]


def _by_probability(found: Sequence[tuple[int, float, Box]], names: Any) -> list[tuple[Any, float, Box]]:
    return sorted(((names[k], p, box) for k, p, box in found), key=lambda one: -one[1])


def _box(box: BOX) -> Box:
    return box.x, box.y, box.w, box.h


def decode_detection(detections: Sequence[tuple[Any, float, Box]]) -> list[tuple[str, str, Box]]:
    """Probabilities → per-cent strings with two digits at most."""
    return [(str(name), str(round(probability * 100, 2)), box) for name, probability, box in detections]


def remove_negatives(detections: Any, class_names: Sequence[str], num: int) -> list[tuple[str, float, Box]]:
    """The classes with a probability of each of `num` detections: (name, probability, box)."""
    return [
        (name, detections[j].prob[k], _box(detections[j].bbox))
        for j in range(num)
        for k, name in zip(range(detections[j].classes), class_names, strict=False)
        if detections[j].prob[k] > 0
    ]


def remove_negatives_faster(detections: Any, class_names: Sequence[str], num: int) -> list[tuple[str, float, Box]]:
    """The most probable class of each detection alone."""
    best = [(detections[j], detections[j].best_class_idx) for j in range(num)]
    return [(_names(class_names, k + 1)[k], one.prob[k], _box(one.bbox)) for one, k in best if k != -1]


def non_max_suppression_fast(detections: Sequence[Any], overlap_thresh: float) -> list[Any]:
    """Of (…, …, …, box) those that cover no more than a fraction of what lies lower in the image, the lowest first."""
    if not detections:
        return []
    xywh = np.array([detection[3] for detection in detections], float)
    low, high = xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2
    area = (high - low + 1).prod(1)
    left, picked = list(np.argsort(high[:, 1])), []
    while left:
        best = left.pop()
        picked.append(best)
        sides = np.maximum(0, np.minimum(high[best], high[left]) - np.maximum(low[best], low[left]) + 1)
        left = [k for k, covered in zip(left, sides.prod(1) / area[left], strict=True) if covered <= overlap_thresh]
    return [detections[k] for k in picked]


def bbox2points(bbox: Box) -> tuple[int, int, int, int]:
    """Centre and size → left, top, right, bottom, rounded."""
    x, y, w, h = bbox
    return round(x - w / 2), round(y - h / 2), round(x + w / 2), round(y + h / 2)


def draw_boxes(detections: Sequence[Any], image: NDArray[Any], colors: Mapping[str, Any]) -> NDArray[Any]:
    """Draws boxes and labels into the image, and returns it."""
    for label, confidence, box in detections:
        left, top, right, bottom = bbox2points(box)
        cv2.rectangle(image, (left, top), (right, bottom), colors[label], 1)
        words = f"{label} [{float(confidence):.2f}]"
        cv2.putText(image, words, (left, top - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colors[label], 2)
    return image


def print_detections(detections: Sequence[Any], coordinates: bool = False) -> None:
    """A line for each object; `left_x` and `top_y` are the centre's, as in Darknet's binding."""
    print("\nObjects:")
    for label, confidence, (x, y, w, h) in detections:
        where = f"    (left_x: {x:.0f}   top_y:  {y:.0f}   width:   {w:.0f}   height:  {h:.0f})" if coordinates else ""
        print(f"{label}: {confidence}%{where}")


def set_verbose(verbose: bool) -> None:
    """Without effect: hank-ai's program tells more then."""


def set_output_stream(path: Any) -> None:
    """Without effect: what goes wrong is raised, not printed."""


def show_version_info() -> None:
    """Prints the versions of what computes here."""
    print(f"darknet_py {__version__}, PyTorch {torch.__version__}, OpenCV {cv2.__version__}")


# The older generation


def sample(probs: Sequence[float]) -> int:
    """A random index, each as probable as its value."""
    return random.choices(range(len(probs)), probs)[0]


def c_array(ctype: Any, values: Any) -> Any:
    """A ctypes array of these values."""
    return (ctype * len(values))(*values)


def array_to_image(array: NDArray[Any]) -> tuple[IMAGE, NDArray[np.float32]]:
    """(height, width, channels) of 0..255 → an IMAGE, and the array that holds its values, which must be kept."""
    planes = np.ascontiguousarray(array.transpose(2, 0, 1), np.float32) / np.float32(255)
    channels, height, width = planes.shape
    return IMAGE(width, height, channels, planes.ctypes.data_as(FloatPtr)), planes.reshape(-1)


def classify(net: LoadedNetwork, meta: METADATA, image: IMAGE) -> list[tuple[Any, float]]:
    """(name, probability) of all classes, the most probable first."""
    predict_image(net, image)
    return _ranked(net, altNames or meta, meta.classes)


def _ranked(net: LoadedNetwork, names: Any, classes: int) -> list[tuple[Any, float]]:
    """(name, probability) of the classes from the last prediction, the most probable first."""
    probabilities, known = net.output.ravel().tolist(), _names(names, classes)
    if classes > len(probabilities):
        text = f"{net.runner.network.cfg.path} gives {len(probabilities)} values, but there are {classes} classes"
        raise DarknetError(f"{text}; name the network's own names file, and classes={len(probabilities)}")
    return sorted(((known[k], probabilities[k]) for k in range(classes)), key=lambda one: -one[1])


def detect(
    net: LoadedNetwork,
    meta: METADATA,
    image: Any,
    thresh: float = 0.5,
    hier_thresh: float = 0.5,
    nms: float = 0.45,
    debug: bool = False,
) -> list[tuple[Any, float, Box]]:
    """`detect_image` of a file: (name, probability, box), the most probable first."""
    pixels = load_image(image, 0, 0)
    try:
        return detect_image(net, meta, pixels, thresh, hier_thresh, nms)
    finally:
        free_image(pixels)


def performDetect(
    imagePath: str = "data/dog.jpg",
    thresh: float = 0.25,
    configPath: str = "./cfg/yolov3.cfg",
    weightPath: str = "yolov3.weights",
    metaPath: str = "./cfg/coco.data",
    showImage: bool = True,
    makeImageOnly: bool = False,
    initOnly: bool = False,
) -> Any:
    """Detects in a file with a model that is loaded at the first call and kept.

    Returns:
        (name, probability, box) of each object. With showImage {"detections", "image": (h, w, 3) uint8 RGB with the
        boxes, "caption"}; a window opens unless makeImageOnly. With initOnly None.

    Raises:
        ValueError: a file is missing or wrong.
    """
    global netMain, metaMain, altNames
    assert 0 < thresh < 1, "Threshold should be a float between zero and one (non-inclusive)"
    for what, path in (("config path", configPath), ("weight path", weightPath), ("data file path", metaPath)):
        _check(what, path)
    netMain = netMain if netMain is not None else load_net_custom(configPath, weightPath, 0, 1)
    metaMain = metaMain if metaMain is not None else load_meta(metaPath)
    if altNames is None and metaMain.names:
        altNames = [metaMain.names[k].decode() for k in range(metaMain.classes)]
    if initOnly:
        print("Initialized detector")
        return None
    _check("image path", imagePath)
    detections = detect(netMain, metaMain, imagePath, thresh)
    return _shown(imagePath, detections, makeImageOnly) if showImage else detections


def _check(what: str, path: str) -> None:
    if not os.path.exists(path):
        raise DarknetError(f"Invalid {what} `{os.path.abspath(path)}`")


def _shown(path: str, detections: list[tuple[Any, float, Box]], array_only: bool) -> dict[str, Any]:
    """performDetect's dict; green boxes are sure, red ones are not."""
    image = np.ascontiguousarray(read_image(path)[..., ::-1])
    captions = [f"{label}: {np.rint(100 * confidence)}%" for label, confidence, _ in detections]
    print(f"*** {len(detections)} Results, color coded by confidence ***", *captions, sep="\n")
    for _, confidence, box in detections:
        left, top, right, bottom = bbox2points(box)
        sure = int(255 * confidence**2)
        cv2.rectangle(image, (left, top), (right, bottom), (0, sure, 255 - sure), 3)
    if not array_only:
        try:
            cv2.imshow("darknet", image)
            cv2.waitKey(0)
        except cv2.error as error:
            print(f"Unable to show image: {error}")
    rgb = np.ascontiguousarray(image[..., ::-1])
    return {"detections": detections, "image": rgb, "caption": "\n<br/>".join(captions)}


def performBatchDetect(
    thresh: float = 0.25,
    configPath: str = "./cfg/yolov4.cfg",
    weightPath: str = "yolov4.weights",
    metaPath: str = "./cfg/coco.data",
    hier_thresh: float = 0.5,
    nms: float = 0.45,
    batch_size: int = 3,
    imagePaths: Sequence[str] = (),
) -> tuple[list[list[Box]], list[list[float]], list[list[int]]]:
    """Detects in a batch of files: for each the boxes as left, top, right, bottom in its pixels, the probabilities,
    and the classes' numbers."""
    net = load_net_custom(configPath, weightPath, 0, batch_size)
    found = []
    for path in imagePaths[:batch_size]:
        image = load_image(path, 0, 0)
        predict_image(net, image)
        found.append(_found(net, image, thresh, nms, do_nms_sort))
        free_image(image)
    boxes = [[(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for _, _, (x, y, w, h) in one] for one in found]
    return boxes, [[p for _, p, _ in one] for one in found], [[k for k, _, _ in one] for one in found]
