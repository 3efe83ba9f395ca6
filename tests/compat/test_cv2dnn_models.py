"""DetectionModel, ClassificationModel and the ways in which the calls are imported, as in OpenCV 4."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2 as opencv
import numpy as np
import pytest
import torch
from cv2dnn_nets import CFG, FOUND, IMAGE, SIZE, WEIGHTS, blob, model, random_net, shapes_net, toy
from project import environment

import darknet_py
import darknet_py.compat.cv2dnn as cv2
from darknet_py.compat.cv2dnn import forms

# Models


def test_a_detection_model_finds_what_opencv_4_finds() -> None:
    classes, confidences, boxes = model().detect(cv2.imread(IMAGE), confThreshold=0.3, nmsThreshold=0.4)
    assert (classes.tolist(), boxes.tolist()) == (FOUND[0], FOUND[2])
    np.testing.assert_allclose(confidences, FOUND[1], atol=1e-3)
    assert (classes.dtype, confidences.dtype, boxes.dtype) == (np.int32, np.float32, np.int32)


def test_a_detection_model_takes_files_umat_and_chained_settings() -> None:
    chained = cv2.dnn_DetectionModel(WEIGHTS, CFG).setInputSize(*SIZE).setInputScale(1 / 255).setInputSwapRB(True)
    frame = cv2.UMat(cv2.imread(IMAGE))
    found = chained.setInputMean((0, 0, 0)).setInputCrop(False).setNmsAcrossClasses(True).detect(frame, 0.3, 0.4)
    assert sorted(found[0].tolist()) == FOUND[0]
    assert found[1].tolist() == sorted(found[1].tolist(), reverse=True)
    assert len(chained.setNmsAcrossClasses(False).detect(frame, 0.3)[0]) > 4  # no suppression by default
    assert [one.shape for one in chained.setOutputNames(["yolo_14"]).predict(frame)] == [(360, 11)]
    assert (
        chained.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV).setPreferableTarget(cv2.dnn.DNN_TARGET_CPU) is chained
    )


def test_heads_of_different_classes_are_detected_together(tmp_path: Path) -> None:
    convolution = "[convolutional]\nfilters={}\nsize=1\nstride=8\nactivation=linear\n"
    heads = [f"{convolution.format(5 + k)}\n[yolo]\nclasses={k}\nanchors=9,9\nthresh=0" for k in (2, 3)]
    net = random_net(toy(tmp_path, "[maxpool]\nsize=2\nstride=2", heads[0], "[route]\nlayers=-3", heads[1]), tmp_path)
    model = cv2.dnn_DetectionModel(net).setInputSize(32, 32)
    frame = cv2.imread(IMAGE)
    class_ids, confidences, _ = model.detect(frame, 0.0)
    rows = model.predict(frame)
    assert [one.shape[1] for one in rows] == [7, 8]
    assert class_ids.tolist() == [k for one in rows for k in one[:, 5:].argmax(1)]
    assert confidences.tolist() == [p for one in rows for p in one[:, 5:].max(1)]


def test_nothing_found_is_three_empty_tuples() -> None:
    assert model().detect(np.zeros((64, 64, 3), np.uint8), 0.9, 0.4) == ((), (), ())


def test_boxes_are_whole_pixels_inside_the_frame() -> None:
    boxes = model().detect(cv2.imread(IMAGE), 0.21)[2]
    left, top, width, height = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (width >= 1).all()
    assert (height >= 1).all()
    assert (left + width <= 512).all()
    assert (top + height <= 384).all()


def test_a_gpu_that_is_not_there_gives_one_warning_and_the_cpu() -> None:
    net = shapes_net()
    net.setInput(blob())
    expected = net.forward()
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_DEFAULT)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_OPENCL)
    forms.warn_once.cache_clear()
    with pytest.warns(UserWarning, match="runs on the CPU") as caught:
        again = net.forward(), net.forward()
    assert len(caught) == 1
    assert all(np.array_equal(one, expected) for one in again)


def test_the_time_of_a_forward_is_in_ticks() -> None:
    net = shapes_net()
    assert net.getPerfProfile()[0] == 0
    net.setInput(blob())
    net.forward()
    ticks, layers = net.getPerfProfile()
    assert 0 < ticks / cv2.getTickFrequency() < 60
    assert layers.shape == (48,)


# One import


def test_the_module_stands_for_cv2_and_for_cv2_dnn() -> None:
    assert cv2.imread is opencv.imread
    assert cv2.dnn is cv2
    assert cv2.dnn.blobFromImages is opencv.dnn.blobFromImages
    assert cv2.error is opencv.error
    assert cv2.__version__.startswith("4.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cv2.nothing  # noqa: B018


INSTALLED = """
from darknet_py.compat import cv2dnn
cv2dnn.install({columns})
import cv2
from cv2.dnn import readNetFromDarknet, NMSBoxes
net = readNetFromDarknet({cfg!r}, {weights!r})
assert isinstance(cv2.dnn_DetectionModel({weights!r}, {cfg!r}), cv2.dnn.DetectionModel)
names = net.getLayerNames()
kept = NMSBoxes([[0, 0, 9, 9]], [.9], .5, .4)
model = cv2.dnn_DetectionModel(net)
model.setInputParams(1 / 255, (192, 160), (0, 0, 0), True)
found = model.detect(cv2.imread({image!r}), .3, .4)
print(type(names).__name__, net.getUnconnectedOutLayers().shape, kept.shape, *(one.shape for one in found))
try:
    cv2.dnn.readNet("no.onnx")
except cv2.error as error:
    print("native", type(error) is cv2.error)
"""


@pytest.mark.parametrize(
    ("columns", "first"),
    [("", "tuple (2,) (1,) (4,) (4,) (4, 4)"), ("columns=True", "list (2, 1) (1, 1) (4, 1) (4, 1) (4, 4)")],
)
def test_install_puts_the_calls_into_cv2_with_the_forms_of_either_age(columns: str, first: str) -> None:
    script = INSTALLED.format(columns=columns, cfg=CFG, weights=WEIGHTS, image=IMAGE)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert result.stdout.splitlines() == [first, "native True"], result.stderr


def test_every_kind_of_section_gives_its_layers_inside(tmp_path: Path) -> None:
    """What layers with shared weights compute before their batch norm cannot be asked for; the others' is their own."""
    conv = "[convolutional]\nbatch_normalize=1\nfilters=3\nsize=3\npad=1\n"
    cfg = toy(
        tmp_path,
        f"{conv}activation=leaky",
        f"{conv}activation=mish\nshare_index=0",
        "[avgpool]",
        "[scale_channels]\nfrom=1\nactivation=relu",
        "[sam]\nfrom=1\nactivation=leaky",
        "[shortcut]\nfrom=-2\nactivation=leaky",
        "[upsample]\nstride=2",
    )
    net = random_net(cfg, tmp_path)
    net.setInput(np.random.default_rng(0).random((1, 3, 32, 32), np.float32))
    assert [name for name in net.getLayerNames() if name.startswith(("scale", "relu", "sam"))] == [
        "scale_channels_3",
        "relu_4",
        "sam_4",
    ]
    shapes = dict(zip(net.getLayerNames(), net.getLayersShapes((1, 3, 32, 32))[2][1:], strict=True))
    shared = {"conv_1"}
    for name in set(net.getLayerNames()) - shared:
        assert net.forward(name).shape == tuple(shapes[name][0]), name
    product, shortcut, added = net.forward(["leaky_5", "shortcut_5", "relu_4"])
    np.testing.assert_allclose(shortcut, product + added, atol=1e-6)
    first = darknet_py.load(cfg, tmp_path / "random.weights").layers[0]
    np.testing.assert_allclose(
        net.forward("conv_0"), torch.conv2d(net._images, first.weights, None, padding=1), atol=1e-5
    )
    with pytest.raises(opencv.error, match="conv_1 belongs to a layer that shares weights"):
        net.forward("conv_1")
