"""Files and buffers become a Net as in OpenCV 4, and mistakes raise cv2.error with its codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2 as opencv
import numpy as np
import pytest
from cv2dnn_nets import CFG, IMAGE, WEIGHTS, blob, classifier, content, model, shapes_net

import darknet_py.compat.cv2dnn as cv2
from darknet_py.compat.cv2dnn.net import Net


@pytest.mark.parametrize(
    "read",
    [
        lambda: cv2.dnn.readNetFromDarknet(CFG, WEIGHTS),
        lambda: cv2.dnn.readNetFromDarknet(Path(CFG), Path(WEIGHTS)),
        lambda: cv2.dnn.readNetFromDarknet(cfgFile=CFG, darknetModel=WEIGHTS),
        lambda: cv2.dnn.readNetFromDarknet(bytearray(Path(CFG).read_bytes()), content(WEIGHTS)),
        lambda: cv2.dnn.readNetFromDarknet(bufferCfg=content(CFG), bufferModel=content(WEIGHTS)),
        lambda: cv2.dnn.readNet(WEIGHTS, CFG),
        lambda: cv2.dnn.readNet(CFG, WEIGHTS),
        lambda: cv2.dnn.readNet(CFG, WEIGHTS, "darknet"),
        lambda: cv2.dnn.readNet(WEIGHTS, CFG, None),
        lambda: cv2.dnn.readNet("darknet", content(WEIGHTS), content(CFG)),
    ],
)  # fmt: skip
def test_files_and_buffers_are_read_in_all_of_opencvs_forms(read: Any) -> None:
    net = read()
    net.setInput(blob())
    assert net.forward().max() > 0.8
    assert not net.empty()


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        (lambda: cv2.dnn.readNetFromDarknet("no.cfg", WEIGHTS), -212, "Failed to open NetParameter file: no.cfg"),
        (lambda: cv2.dnn.readNet(CFG, "no.weights"), -212, "Failed to parse NetParameter file: no.weights"),
        (lambda: cv2.dnn.readNet(WEIGHTS), -212, "Failed to open NetParameter file: "),
        (lambda: cv2.dnn.readNet("a.x", "b.y"), -2, "Cannot determine an origin framework of files: a.x, b.y"),
        (lambda: cv2.dnn.readNetFromDarknet(3, 4), -5, "a path or a buffer"),
        (lambda: cv2.dnn.readNet(3), -5, "a path"),
        (lambda: cv2.dnn.readNetFromDarknet(WEIGHTS, CFG), -212, "are the cfg and the weights swapped"),
        (lambda: cv2.dnn.readNetFromDarknet(CFG, bytearray(Path(WEIGHTS).read_bytes()[:-4])), -212, "early"),
        (lambda: cv2.dnn.readNetFromDarknet("cfg/faster-rcnn-small.cfg"), -212, "has no form in OpenCV's dnn"),
        (lambda: shapes_net().forward(), -215, "setInput"),
        (lambda: Net().forward(), -215, "empty"),
        (lambda: shapes_net().setInput(blob(), "x"), -204, 'Requested blob "x" not found'),
        (lambda: shapes_net().setInput(["dog.jpg"]), -5, "numbers"),
        (lambda: shapes_net().setInput([[1], [1, 2]]), -5, "numbers"),
        (lambda: shapes_net().setParam(1, 0, "dog.jpg"), -5, "numbers"),
        (lambda: shapes_net().getLayer(None), -5, "a layer is a name or a number, not None"),
        (lambda: shapes_net().getLayer("x"), -204, "Layer with requested id=-1 not found"),
        (lambda: shapes_net().getParam(1, 9), -215, "numParam"),
        (lambda: shapes_net().forwardAsync(), -213, "Asynchronous"),
        (lambda: model().detect(None), -215, "empty"),
        (lambda: cv2.dnn_DetectionModel(shapes_net()).detect(cv2.imread(IMAGE)), -201, "Input size not specified"),
        (lambda: classifier().classify(cv2.imread(IMAGE)), -215, "2 outputs"),
        (lambda: model().setOutputNames(["conv_0"]).detect(cv2.imread(IMAGE)), -213, "conv_0: Unknown output layer"),
        (lambda: cv2.dnn.readNet(b"\xff.onnx"), -5, r"\udcff.onnx: this is not UTF-8"),
        (lambda: cv2.dnn.readNet("a.onnx", "", "\udcff"), -5, "this is not UTF-8"),
        (lambda: cv2.dnn.readNet(b"\xff", content(WEIGHTS)), -5, "this is not UTF-8"),
        (lambda: cv2.dnn.readNet("a.onnx", "b.onnx", 3), -5, "a path is needed, not int"),
        (lambda: cv2.dnn.readNetFromDarknet(b"\xff.cfg"), -212, r"file: \udcff.cfg"),
        (lambda: Net().getPerfProfile(), -215, "empty"),
        (lambda: Net().getFLOPS((1, 3, 32, 32)), -215, "empty"),
    ],
)  # fmt: skip
def test_mistakes_raise_cv2_error_with_opencvs_code(call: Any, code: int, words: str) -> None:
    with pytest.raises(opencv.error, match=re.escape(words)) as caught:
        call()
    assert caught.value.code == code


@pytest.mark.parametrize(
    "read",
    [
        lambda cfg, weights: cv2.dnn.readNet(cfg, weights),
        lambda cfg, weights: cv2.dnn.readNet(weights, cfg),
        lambda cfg, weights: cv2.dnn.readNet("darknet", weights, cfg),
        lambda cfg, weights: cv2.dnn_DetectionModel(cfg, weights),
        lambda cfg, weights: cv2.dnn_ClassificationModel(weights, cfg),
        lambda cfg, weights: cv2.dnn.readNet(cfg.decode()),
        lambda cfg, weights: cv2.dnn.readNetFromDarknet(cfg, weights),
        lambda cfg, weights: cv2.dnn.readNetFromDarknet(CFG, weights),
    ],
)
def test_contents_in_the_place_of_paths_are_refused_with_the_call_that_reads_them(read: Any) -> None:
    advice = "write readNetFromDarknet(bytearray(cfg), bytearray(weights))"
    with pytest.raises(opencv.error, match=re.escape(advice)):
        read(Path(CFG).read_bytes(), Path(WEIGHTS).read_bytes())


@pytest.mark.parametrize("buffer", [5, True, np.array(3), [300], [-1], ["a"], [[1], [1, 2]], [1.5], [10**30], {}])
def test_a_buffer_holds_bytes_alone(buffer: Any) -> None:
    for cfg, weights in ((buffer, WEIGHTS), (CFG, buffer)):
        with pytest.raises(opencv.error, match="buffer") as caught:
            cv2.dnn.readNetFromDarknet(cfg, weights)
        assert caught.value.code == -5


@pytest.mark.parametrize("call", ["getLayersShapes", "getFLOPS", "getMemoryConsumption"])
@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ((1, 4, 160, 192), -2),
        ((0, 3, 160, 192), -2),
        ((-1, 3, 160, 192), -2),
        ((3, 160, 192), -2),
        ((1, 3, 160, 0), -201),
        ((1, 3, 161, 192), -201),
        (("a", 3, 160, 192), -5),
        (3, -5),
    ],
)
def test_sizes_are_refused_for_shapes_that_forward_refuses(call: str, shape: Any, code: int) -> None:
    with pytest.raises(opencv.error, match=f"in function '{call}'") as caught:
        getattr(shapes_net(), call)(shape)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("given", "names", "code"),
    [
        (blob()[0], None, -2),
        (blob()[:0], None, -2),
        (blob().transpose(0, 2, 3, 1), None, -2),
        (blob((190, 150)), None, -201),
        (blob(), "nope", -2),
        (blob(), ["nope"], -204),
        (blob(), 3, -5),
    ],
)
def test_forward_refuses_what_opencv_refuses_with_its_code(given: Any, names: Any, code: int) -> None:
    net = shapes_net()
    net.setInput(given)
    with pytest.raises(opencv.error) as caught:
        net.forward(names)
    assert caught.value.code == code
    assert caught.value.err in caught.value.msg


def test_without_weights_layers_can_be_looked_at_but_not_run() -> None:
    net = cv2.dnn.readNetFromDarknet(CFG)
    net.setInput(blob())
    assert len(net.getLayerNames()) == 48
    with pytest.raises(opencv.error, match="without weights"):
        net.forward()
