"""What `cv2.dnn` answers about a Darknet network, by any module with its calls: OpenCV 4's own, or the stand-in.

python opencv_calls.py CFG WEIGHTS IMAGE WIDTH HEIGHT OUT.npz       (with the Python that has OpenCV 4)
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answers = dict[str, NDArray[Any]]


def answers(cv2: Any, cfg: str, weights: str, image: str, size: tuple[int, int]) -> Answers:
    """The answers to all calls, as arrays. size: (width, height) of the blobs."""
    picture = cv2.imread(image)
    blob = cv2.dnn.blobFromImage(picture, 1 / 255, size, (0, 0, 0), swapRB=True, crop=False)
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    names, unread = net.getLayerNames(), net.getUnconnectedOutLayersNames()
    result: Answers = {
        "names": np.array(names),
        "types": np.array([net.getLayer(name).type for name in names]),
        "ids": np.array([net.getLayerId(name) for name in names]),
        "unread": np.array(unread),
        "unread ids": net.getUnconnectedOutLayers(),
        "all types": np.array(net.getLayerTypes()),
        "memory": np.array(net.getMemoryConsumption(blob.shape)),
    }
    for number, shapes in zip(*(net.getLayersShapes(blob.shape)[k] for k in (0, 2)), strict=True):
        result[f"shape {number}"] = np.array(shapes[0])
    for name in names:
        for number, values in enumerate(net.getLayer(name).blobs):
            result[f"blob {name} {number}"] = np.array([*values.shape, values.ravel()[0], values.ravel()[-1]])
    net.setInput(blob)
    result |= {f"output {name}": one for name, one in zip(unread, net.forward(unread), strict=True)}
    result["last"] = net.forward()
    whole = cv2.dnn.readNetFromDarknet(cfg, weights)  # OpenCV's layers are wrong where it has fused them before
    whole.setInput(blob)
    result |= {f"every {name}": one for name, one in zip(names, whole.forward(names), strict=True)}
    pair = cv2.dnn.readNetFromDarknet(cfg, weights)
    pair.setInput(np.concatenate((blob, blob[..., ::-1])))
    with contextlib.suppress(cv2.error):  # OpenCV fails at two images in some networks with grouped convolutions
        result |= {f"batch {name}": one for name, one in zip(unread, pair.forward(unread), strict=True)}
    if result["types"][-1] == "Region":
        model = cv2.dnn_DetectionModel(weights, cfg)
        model.setInputParams(size=size, scale=1 / 255, swapRB=True)
        for thresholds in ((0.3, 0.4), (0.25, 0.0)):
            result |= {
                f"detect {thresholds} {k}": np.array(one) for k, one in enumerate(model.detect(picture, *thresholds))
            }
        across = cv2.dnn_DetectionModel(net).setNmsAcrossClasses(True)
        across.setInputParams(1 / 255, size, (0, 0, 0), True, True)
        result |= {f"across {k}": np.array(one) for k, one in enumerate(across.detect(picture, 0.3, 0.4))}
    elif len(unread) == 1:
        classifier = cv2.dnn_ClassificationModel(net)
        classifier.setInputParams(1 / 255, size, (0, 0, 0), True, False)
        result["classify"] = np.array(classifier.classify(picture))
    return result


if __name__ == "__main__":
    import cv2

    cfg, weights, image, width, height, out = sys.argv[1:]
    np.savez(out, **answers(cv2, cfg, weights, image, (int(width), int(height))))
