"""`DetectionModel` and `ClassificationModel` of OpenCV 4: a net with its preprocessing, and what its output says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from darknet_py.compat.cv2dnn import forms
from darknet_py.compat.cv2dnn.errors import ASSERTION, BAD_SIZE, NOT_IMPLEMENTED, Cv2Error
from darknet_py.compat.cv2dnn.net import Blob, Net
from darknet_py.compat.cv2dnn.readers import readNet

M = TypeVar("M", bound="Model")
NMS_BOXES = cv2.dnn.NMSBoxes
"""OpenCV's own, kept from before `install`."""


class Model:
    """Frames in, the net's outputs out.

    Made from a net, or from the files of one, in either order; for a net of another framework, OpenCV's own model.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        net = _net(*args, **kwargs)
        if not isinstance(net, Net):
            return cls._native(net)
        self = super().__new__(cls)
        self._net = net
        return self

    _net: Net
    _native: ClassVar[Any]  # OpenCV's own class, kept from before `install`

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._params = cv2.dnn.Image2BlobParams()
        self._names = self._net.getUnconnectedOutLayersNames()

    def setInputParams(
        self,
        scale: Any = 1.0,
        size: Any = (0, 0),
        mean: Any = (0, 0, 0, 0),
        swapRB: bool = False,
        crop: bool = False,
    ) -> None:
        """How a frame becomes the net's input: resized to `size`, (width, height); (values - mean) * scale."""
        self.setInputScale(scale).setInputSize(size).setInputMean(mean).setInputSwapRB(swapRB).setInputCrop(crop)

    def setInputSize(self: M, *size: Any) -> M:
        """Width and height, as two numbers or a pair."""
        width, height = size if len(size) > 1 else size[0]
        self._params.size = (int(width), int(height))
        return self

    def setInputScale(self: M, scale: Any) -> M:
        """A factor, or one for each channel."""
        factors = np.ravel(scale).tolist()
        self._params.scalefactor = tuple(factors * 4 if len(factors) == 1 else factors)
        return self

    def setInputMean(self: M, mean: Any) -> M:
        self._params.mean = tuple(np.ravel(mean).tolist())
        return self

    def setInputSwapRB(self: M, swapRB: bool) -> M:
        self._params.swapRB = bool(swapRB)
        return self

    def setInputCrop(self: M, crop: bool) -> M:
        """True: the frame is enlarged until it covers the size, and the middle is cut out."""
        self._params.paddingmode = cv2.dnn.DNN_PMODE_CROP_CENTER if crop else cv2.dnn.DNN_PMODE_NULL
        return self

    def setOutputNames(self: M, outNames: Sequence[str]) -> M:
        """The layers that `predict` gives; at first those that no other reads."""
        self._names = list(outNames)
        return self

    def setPreferableBackend(self: M, backendId: int) -> M:
        self._net.setPreferableBackend(backendId)
        return self

    def setPreferableTarget(self: M, targetId: int) -> M:
        self._net.setPreferableTarget(targetId)
        return self

    def enableWinograd(self: M, useWinograd: bool) -> M:
        return self

    def predict(self, frame: Any, outs: Any = None) -> Sequence[Blob]:
        """The outputs for a frame: an array (height, width, channels), or a cv2.UMat."""
        if 0 in tuple(self._params.size):
            raise Cv2Error(BAD_SIZE, "Input size not specified", "predict")
        self._net.setInput(cv2.dnn.blobFromImageWithParams(_frame(frame), self._params))
        outputs: Sequence[Blob] = self._net.forward(list(self._names))
        return outputs


class DetectionModel(Model):
    """Objects in frames. Making one switches off the suppression inside the net's heads, as in OpenCV."""

    _native = cv2.dnn.DetectionModel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._net.disable_region_nms()
        self._across = False

    def setNmsAcrossClasses(self, value: bool) -> DetectionModel:
        """True: boxes of different classes suppress each other too."""
        self._across = bool(value)
        return self

    def getNmsAcrossClasses(self) -> bool:
        return self._across

    def detect(
        self,
        frame: Any,
        confThreshold: float = 0.5,
        nmsThreshold: float = 0.0,
    ) -> tuple[Any, Any, Any]:
        """The objects in a frame: the best class of each box whose confidence reaches the threshold.

        Returns:
            class ids (m,) int32; confidences (m,) float32; boxes (m, 4) int32: left, top, width, height in pixels,
            inside the frame. With nmsThreshold class by class, the best first, and 0 (no suppression) head by head.
            Three times () if there are none.
        """
        pixels = _frame(frame)
        outputs = self.predict(pixels)
        for name in self._names or self._net.getLayerNames()[-1:]:
            if (kind := self._net.getLayer(name).type) != "Region":
                raise Cv2Error(NOT_IMPLEMENTED, f'{name}: Unknown output layer type: "{kind}"', "detect")
        scores = [rows[:, 5:] for rows in outputs]  # heads may have different classes
        if not all(one.shape[1] for one in scores):
            raise Cv2Error(ASSERTION, "a head of the network has no classes", "detect")
        class_ids = np.concatenate([one.argmax(1) for one in scores]).astype(np.int32)
        confidences = np.concatenate([one.max(1) for one in scores])
        chosen = confidences >= np.float32(confThreshold)
        class_ids, confidences = class_ids[chosen], confidences[chosen]
        xywh = np.concatenate([rows[:, :4] for rows in outputs])[chosen]
        boxes = _pixel_boxes(xywh, pixels.shape[1], pixels.shape[0])
        if nmsThreshold:
            order = self._suppressed(boxes, confidences, class_ids, confThreshold, nmsThreshold)
            class_ids, confidences, boxes = class_ids[order], confidences[order], boxes[order]
        if not len(boxes):
            return (), (), ()
        return forms.column(class_ids), forms.column(confidences), boxes

    def _suppressed(
        self,
        boxes: NDArray[np.int32],
        confidences: NDArray[np.float32],
        class_ids: NDArray[np.int32],
        conf_threshold: float,
        nms_threshold: float,
    ) -> NDArray[np.int64]:
        """The numbers of the boxes that stay: the classes ascending, in each the best first."""
        groups = np.zeros_like(class_ids) if self._across else class_ids
        kept = [np.empty(0, np.int64)]
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            found = NMS_BOXES(boxes[members].tolist(), confidences[members].tolist(), conf_threshold, nms_threshold)
            kept.append(members[np.array(found, np.int64)])
        return np.concatenate(kept)


class ClassificationModel(Model):
    """The class of frames."""

    _native = cv2.dnn.ClassificationModel
    _softmax = False

    def setEnableSoftmaxPostProcessing(self, enable: bool) -> ClassificationModel:
        """True: the output is put through a softmax."""
        self._softmax = bool(enable)
        return self

    def getEnableSoftmaxPostProcessing(self) -> bool:
        return self._softmax

    def classify(self, frame: Any) -> tuple[int, float]:
        """The most probable class, and its probability."""
        outputs = self.predict(frame)
        if len(outputs) != 1:
            raise Cv2Error(ASSERTION, f"the network has {len(outputs)} outputs; a classifier has one", "classify")
        values = outputs[0].ravel()
        if self._softmax:
            values = np.exp(values - values.max())
            values /= values.sum()
        best = int(values.argmax())
        return best, float(values[best])


def _net(model: Any = None, config: Any = "", network: Any = None) -> Any:
    """The net of a model's arguments."""
    given = model if network is None else network
    return given if isinstance(given, (Net, cv2.dnn.Net)) else readNet(given, config)


def _frame(frame: Any) -> NDArray[Any]:
    pixels = frame.get() if isinstance(frame, cv2.UMat) else frame
    if not isinstance(pixels, np.ndarray) or not pixels.size:
        raise Cv2Error(ASSERTION, "the frame is empty; was the image read?", "predict")
    return pixels


def _pixel_boxes(xywh: Blob, width: int, height: int) -> NDArray[np.int32]:
    """Centre and size as fractions → left, top, width, height in whole pixels inside the frame."""
    size = np.array([width, height], np.int32)
    with np.errstate(over="ignore", invalid="ignore"):  # the boxes of a network that was not trained
        centre, sides = np.split((xywh * np.tile(size, 2).astype(np.float32)).astype(np.int32), 2, 1)
    corner = np.clip(centre - sides // 2, 0, size - 1)
    return np.concatenate((corner, np.clip(sides, 1, size - corner)), 1)
