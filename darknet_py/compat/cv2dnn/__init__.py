"""OpenCV 4's calls for Darknet networks: a script written for them works with any OpenCV after changing one import.

import darknet_py.compat.cv2dnn as cv2          # instead of import cv2: all else is OpenCV's own
net = cv2.dnn.readNetFromDarknet("yolov3.cfg", "yolov3.weights")

from darknet_py.compat import cv2dnn
cv2dnn.install()                                # or so, before the script: the calls are in cv2.dnn then

Results have OpenCV 4.14's names, shapes and order; the arithmetic is Darknet's (batch norm's epsilon is 1e-5, OpenCV's
is 1e-6), so values may differ from OpenCV's in the fourth digit, and agree with the C program's.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2 as _cv2
import numpy as _np

from darknet_py.compat.cv2dnn import forms
from darknet_py.compat.cv2dnn.errors import Cv2Error
from darknet_py.compat.cv2dnn.models import NMS_BOXES, ClassificationModel, DetectionModel
from darknet_py.compat.cv2dnn.net import Layer, Net
from darknet_py.compat.cv2dnn.readers import readNet, readNetFromDarknet

__all__ = [
    "ClassificationModel",
    "Cv2Error",
    "DetectionModel",
    "Layer",
    "NMSBoxes",
    "Net",
    "install",
    "readNet",
    "readNetFromDarknet",
]

__version__ = "4.14.0"  # programs choose by it; `install` leaves cv2's own
DNN_BACKEND_HALIDE = 1  # OpenCV 5 has no such constant, and scripts list it
dnn = sys.modules[__name__]
"""So that `cv2.dnn.X` works where this module is imported as cv2."""
dnn_DetectionModel, dnn_ClassificationModel, dnn_Net = DetectionModel, ClassificationModel, Net
CALLS = ("readNet", "readNetFromDarknet", "DetectionModel", "ClassificationModel")


def NMSBoxes(*args: Any, **kwargs: Any) -> Any:
    """OpenCV's own; with `forms.columns`, the numbers as (n, 1)."""
    kept = NMS_BOXES(*args, **kwargs)
    return forms.column(_np.asarray(kept)) if len(kept) else kept


def install(*, columns: bool = False) -> None:
    """Puts the calls into `cv2` and `cv2.dnn`; what is no Darknet file goes on to OpenCV's own.

    columns: results in the forms of OpenCV up to 4.5.3, for scripts that write `i[0]`: ids, NMSBoxes and detections as
        (n, 1), and lists instead of tuples.
    """
    forms.columns = columns
    for name in (*CALLS, "NMSBoxes", "DNN_BACKEND_HALIDE"):
        setattr(_cv2.dnn, name, globals()[name])
    for name in ("dnn_DetectionModel", "dnn_ClassificationModel"):
        setattr(_cv2, name, globals()[name])


def __getattr__(name: str) -> Any:
    """All else is OpenCV's own, of cv2.dnn or of cv2."""
    for module in (_cv2.dnn, _cv2):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has cv2 or cv2.dnn")
