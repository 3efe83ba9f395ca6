"""Small networks, read by the calls of OpenCV's dnn, and what OpenCV 4.14 finds with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from project import CFGS, ROOT

import darknet_py
import darknet_py.compat.cv2dnn as cv2
from darknet_py.compat.cv2dnn.net import Net

CFG, WEIGHTS, IMAGE = str(CFGS / "shapes.cfg"), str(ROOT / "weights/shapes.weights"), str(ROOT / "weights/shapes.png")
SIZE = (192, 160)
FOUND = (  # by OpenCV 4.14 with thresholds .3 and .4: classes, confidences, boxes
    [0, 1, 2, 5],
    [0.9922805, 0.9888289, 0.9845182, 0.8748326],
    [[176, 36, 116, 114], [338, 28, 131, 135], [40, 123, 113, 102], [103, 143, 152, 154]],
)


def blob(size: tuple[int, int] = SIZE) -> Any:
    return cv2.dnn.blobFromImage(cv2.imread(IMAGE), 1 / 255, size, (0, 0, 0), swapRB=True, crop=False)


def content(path: str) -> Any:
    return np.fromfile(path, np.uint8)


def classifier() -> Any:
    return cv2.dnn_ClassificationModel(shapes_net()).setInputSize(SIZE)


def shapes_net() -> Net:
    return cv2.dnn.readNetFromDarknet(CFG, WEIGHTS)


def model() -> Any:
    result = cv2.dnn_DetectionModel(shapes_net())
    result.setInputParams(size=SIZE, scale=1 / 255, swapRB=True)
    return result


def toy(tmp_path: Path, *sections: str, net: str = "width=32\nheight=32\nchannels=3") -> str:
    path = tmp_path / "toy.cfg"
    path.write_text("\n".join([f"[net]\n{net}", *sections]) + "\n")
    return str(path)


def random_net(cfg: str, tmp_path: Path) -> Net:
    weights = str(tmp_path / "random.weights")
    darknet_py.load(cfg).save_weights(weights)
    return cv2.dnn.readNetFromDarknet(cfg, weights)
