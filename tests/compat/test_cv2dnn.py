"""The stand-in for OpenCV 4's `cv2.dnn`: its forms, its errors, and a few of OpenCV 4.14's own figures."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2 as opencv
import numpy as np
import pytest
import torch
from project import CFGS, ROOT, environment

import darknet_py
import darknet_py.compat.cv2dnn as cv2
from darknet_py.compat.cv2dnn import forms
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


# Reading


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


# Layers


def test_names_types_ids_and_inputs_are_those_of_opencvs_importer(tmp_path: Path) -> None:
    net = cv2.dnn.readNetFromDarknet(
        toy(
            tmp_path,
            "[crop]\ncrop_height=28\ncrop_width=28",
            "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky",
            "[route]\nlayers=-1",
            "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1",
            "[route]\nlayers=-1\ngroups=2\ngroup_id=0",
            "[dropout]",
            "[connected]\noutput=4\nactivation=tanh",
            "[softmax]",
        )
    )
    assert [(name, net.getLayer(name).type) for name in net.getLayerNames()] == [
        ("crop_0", "Slice"),
        ("adjust_crop_1", "Scale"),
        ("conv_2", "Convolution"),
        ("bn_2", "BatchNorm"),
        ("leaky_3", "ReLU"),
        ("identity_3", "Identity"),
        ("slice_4", "Slice"),
        ("slice_5", "Slice"),
        ("concat_6", "Concat"),
        ("slice_7", "Slice"),
        ("identity_8", "Identity"),
        ("fullyConnected_9", "InnerProduct"),
        ("tanh_10", "TanH"),
        ("softmax_10", "Softmax"),
    ]
    assert [net.getLayer(name).blobs[0].shape for name in ("conv_2", "bn_2", "fullyConnected_9")] == [
        (4, 3, 3, 3),
        (1, 4),
        (4, 4 * 28 * 28 // 2),
    ]
    assert net.getUnconnectedOutLayersNames() == ("softmax_10",)
    assert net.getLayersCount("Slice") == 4


def test_outputs_are_named_and_counted_from_1_as_clients_expect() -> None:
    net = shapes_net()
    assert net.getUnconnectedOutLayersNames() == ("yolo_14", "yolo_21")
    assert net.getUnconnectedOutLayers().tolist() == [36, 48]
    assert net.getUnconnectedOutLayers().dtype == np.int32
    assert [net.getLayerNames()[i - 1] for i in net.getUnconnectedOutLayers()] == ["yolo_14", "yolo_21"]
    assert net.getLayer(net.getLayerId("yolo_14") - 2).name == "conv_13"
    assert net.getLayerId("x") == -1
    first = net.getLayer(0)
    assert (first.name, first.type, first.outputNameToIndex("data"), first.outputNameToIndex("im_info")) == (
        "_input",
        "",
        0,
        -1,
    )
    assert net.getLayerTypes()[-1] == "__NetInputLayer__"
    assert [shape.tolist() for (shape,) in net.getLayersShapes((1, 3, 160, 192))[2][-3:]] == [
        [1, 33, 20, 24],
        [1, 20, 24, 33],
        [1440, 11],
    ]
    assert net.getMemoryConsumption((1, 3, 160, 192)) == (1496568, 6151200)
    assert '"conv_20" -> "permute_21"' in net.dump()


def test_parameters_can_be_read_and_replaced() -> None:
    net = shapes_net()
    net.setInput(blob())
    before = net.forward("conv_20")
    biases = net.getParam("conv_20", 1)
    net.setParam("conv_20", 1, biases + 2)
    assert biases.shape == (1, 33)
    np.testing.assert_allclose(net.forward("conv_20"), before + 2, atol=1e-5)
    with pytest.raises(opencv.error, match="blob of"):
        net.setParam("conv_20", 1, [1, 2])


# Running


def test_forward_takes_all_of_opencvs_forms() -> None:
    net = shapes_net()
    net.setInput(blob())
    names = ["yolo_14", "yolo_21"]
    both = net.forward(names)
    assert isinstance(both, tuple)
    assert [(one.shape, one.dtype) for one in both] == [((360, 11), np.float32), ((1440, 11), np.float32)]
    for same in (net.forward(tuple(names)), net.forward(np.array(names)), net.forward(outBlobNames=names)):
        assert all(np.array_equal(a, b) for a, b in zip(both, same, strict=True))
    for last in (
        net.forward(),
        net.forward(None),
        net.forward("yolo_21"),
        net.forward(outputName="yolo_21"),
        net.forward([])[0],
    ):
        assert np.array_equal(last, both[1])
    assert [one[0].shape for one in net.forwardAndRetrieve(names)] == [(360, 11), (1440, 11)]
    assert copy.deepcopy(both)[0] is not both[0]


def test_each_forward_gives_memory_of_its_own() -> None:
    net = shapes_net()
    net.setInput(blob())
    names = ["shortcut_10", "leaky_12", "identity_15", "yolo_21"]
    first = net.forward(names)
    before = [one.copy() for one in first]
    first[1][:] = -1
    assert np.array_equal(first[2], before[2])
    net.forward(names)
    net.setInput(blob() * 0)
    net.forward(names)
    assert np.array_equal(first[3], before[3])


def test_the_blob_is_copied_and_any_number_type_is_taken() -> None:
    net, picture = shapes_net(), cv2.imread(IMAGE)
    given = blob()
    net.setInput(given)
    given[:] = 0
    expected = net.forward()
    whole = cv2.dnn.blobFromImage(picture, 1, SIZE, (0, 0, 0), True, False, ddepth=opencv.CV_8U)
    assert whole.dtype == np.uint8
    net.setInput(whole, scalefactor=1 / 255)
    np.testing.assert_allclose(net.forward(), expected, atol=1e-5)
    net.setInput(whole.astype(float), "data", 1 / 255, (1, 2, 3))
    shifted = net.forward()
    net.setInput((whole - np.array([1, 2, 3], np.float32)[:, None, None]) / 255)
    np.testing.assert_allclose(net.forward(), shifted, atol=1e-5)
    assert not np.allclose(shifted, expected)
    net.setInput(np.asfortranarray(blob()))
    assert np.array_equal(net.forward(), expected)


def test_several_images_and_other_sizes_work() -> None:
    net = shapes_net()
    net.setInput(blob())
    one = net.forward()
    net.setInput(np.concatenate((blob() * 0, blob())))
    two = net.forward()
    assert two.shape == (2, 1440, 11)
    np.testing.assert_allclose(two[1], one, atol=1e-5)
    net.setInput(blob((320, 320)))
    assert net.forward().shape == (4800, 11)
    net.setInput(blob())
    assert np.array_equal(net.forward(), one)


def test_layers_inside_a_section_can_be_asked_for() -> None:
    """Batch norm and activations apart; together they are what the folded network gives."""
    net = shapes_net()
    net.setInput(blob())
    conv, norm, leaky, permuted, raw = net.forward(["conv_12", "bn_12", "leaky_13", "permute_14", "conv_13"])
    mean, variance, scale, bias = (one.reshape(-1, 1, 1) for one in net.getLayer("bn_12").blobs)
    np.testing.assert_allclose(norm, (conv - mean) / np.sqrt(variance + 1e-5) * scale + bias, atol=1e-3)
    np.testing.assert_allclose(leaky, np.where(norm > 0, norm, 0.1 * norm), atol=1e-5)
    np.testing.assert_allclose(leaky, net.forward("leaky_13"), atol=1e-3)
    assert np.array_equal(permuted, raw.transpose(0, 2, 3, 1))
    every = net.forward(net.getLayerNames())
    assert [one.shape for one in every] == [tuple(shape) for (shape,) in net.getLayersShapes(blob().shape)[2][1:]]


def test_crops_slices_and_classifiers_have_opencvs_shapes(tmp_path: Path) -> None:
    cfg = toy(
        tmp_path,
        "[crop]\ncrop_height=28\ncrop_width=28",
        "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky",
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1",
        "[avgpool]",
        "[softmax]",
        "[connected]\noutput=5\nactivation=leaky",
        "[softmax]",
    )
    net = random_net(cfg, tmp_path)
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    net.setInput(images)
    crop, leaky, part, soft, flat, last = net.forward(
        ["crop_0", "leaky_3", "slice_3", "softmax_5", "leaky_7", "softmax_7"]
    )
    np.testing.assert_allclose(crop, images[:, :, 2:30, 2:30], atol=1e-6)
    assert np.array_equal(part, leaky[:, 2:])
    assert (soft.shape, flat.shape, last.shape) == ((2, 2, 1, 1), (2, 5), (2, 5))
    classifier = cv2.dnn_ClassificationModel(net)
    classifier.setInputParams(1 / 255, (32, 32))
    best, probability = classifier.classify(cv2.imread(IMAGE))
    outputs = classifier.predict(cv2.imread(IMAGE))
    assert (best, probability) == (int(outputs[0].argmax()), float(outputs[0].max()))
    assert classifier.setEnableSoftmaxPostProcessing(True).classify(cv2.imread(IMAGE))[1] < probability


@pytest.mark.parametrize(
    "head",
    [
        ("yolo", 18, "classes=1\nnum=3\nmask=0,1,2\nanchors=1,2,3,4,5,6"),
        ("Gaussian_yolo", 20, "classes=1\nnum=2\nmask=0,1\nanchors=1,2,3,4"),
        ("region", 16, "classes=3\nnum=2\ncoords=4\nanchors=1,2,3,4"),
        ("anchor_free", 7, "classes=3"),
        ("anchor_free", 67, "classes=3\nreg_max=15"),
        ("anchor_free", 8, "classes=3\ncoords=xywh\nobjectness=1"),
        ("detection", 2, "classes=3\nside=2\nnum=1\ncoords=4"),
    ],
    ids=lambda head: f"{head[0]}-{head[1]}",
)
@pytest.mark.parametrize("n", [1, 2])
def test_shapes_of_heads_are_those_that_forward_gives(tmp_path: Path, head: tuple[str, int, str], n: int) -> None:
    kind, filters, options = head
    before = f"[convolutional]\nfilters={filters}\nsize=1\nstride=8\nactivation=linear"
    if kind == "detection":
        before = "[connected]\noutput=32\nactivation=linear"
    net = random_net(toy(tmp_path, before, f"[{kind}]\n{options}"), tmp_path)
    net.setInput(np.zeros((n, 3, 32, 32), np.float32))
    found = net.forward()
    assert found.shape == tuple(net.getLayersShapes((n, 3, 32, 32))[2][-1][0])
    assert found.shape[-1] == 5 + (1 if "yolo" in kind else 3)


def test_layers_that_nobody_reads_are_there_and_those_for_training_alone_are_not(tmp_path: Path) -> None:
    """Both are left out where all heads are asked for, and the layers behind them have other numbers then."""
    convolution = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize=1\nactivation=leaky"
    head = "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[yolo]\nclasses=1\nanchors=9,9\nloss=yolov7\n"
    cfg = toy(
        tmp_path,
        convolution.format(4),
        convolution.format(5),
        "[route]\nlayers=0",
        head,
        "[route]\nlayers=0",
        f"{head}aux_of=4",
        "[route]\nlayers=0",
        head,
    )
    net = random_net(cfg, tmp_path)
    images = np.random.default_rng(0).random((1, 3, 32, 32), np.float32) / 300  # batch norm of no training multiplies
    net.setInput(images)
    names = net.getLayerNames()
    heads = [name for name in names if name.startswith("yolo")]
    assert len(heads) == 2
    assert list(net.getUnconnectedOutLayersNames()) == ["leaky_2", *heads]
    shapes = dict(zip(names, net.getLayersShapes(images.shape)[2][1:], strict=True))
    outputs = dict(zip(names, net.forward(names), strict=True))
    for name in names:
        assert outputs[name].shape == net.forward(name).shape == tuple(shapes[name][0])
    for one, name in zip(net.forward(heads), heads, strict=True):
        np.testing.assert_allclose(one, outputs[name], rtol=1e-4, atol=1e-5)
    own = darknet_py.load(cfg, tmp_path / "random.weights").features(torch.from_numpy(images), [0, 1])
    np.testing.assert_allclose(outputs["leaky_1"], own[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["leaky_2"], own[1], rtol=1e-5, atol=1e-5)


def test_the_input_layer_gives_the_blob() -> None:
    net = shapes_net()
    net.setInput(blob())
    assert np.array_equal(net.forward("_input"), blob())
    heads = net.forward(net.getUnconnectedOutLayersNames())
    *again, images = net.forward([*net.getUnconnectedOutLayersNames(), "_input"])
    assert np.array_equal(images, blob())
    assert all(np.array_equal(one, other) for one, other in zip(again, heads, strict=True))


# The content of the rows


def test_scores_below_the_heads_thresh_are_0_and_the_objectness_stays() -> None:
    net = shapes_net()
    net.setInput(blob())
    rows = np.concatenate(net.forward(["yolo_14", "yolo_21"]))
    scores = rows[:, 5:]
    assert scores[scores > 0].min() > 0.2
    assert (rows[:, 4] > 0).all()
    assert (rows[:, 4] < 0.01).any()


def test_thresh_and_nms_threshold_of_the_section_count(tmp_path: Path) -> None:
    text = Path(CFG).read_text().replace("[yolo]", "[yolo]\nthresh=.01\nnms_threshold=.3")
    cfg = tmp_path / "own.cfg"
    cfg.write_text(text)
    with pytest.warns(darknet_py.CfgWarning):
        net = cv2.dnn.readNetFromDarknet(str(cfg), WEIGHTS)
    net.setInput(blob())
    scores = net.forward()[:, 5:]
    assert 0.01 < scores[scores > 0].min() < 0.2
    few = np.count_nonzero(scores)
    cv2.dnn_DetectionModel(net)  # OpenCV's switches off the suppression of its net
    assert np.count_nonzero(net.forward()[:, 5:]) > few


def test_a_region_head_suppresses_by_itself_until_a_model_is_made(tmp_path: Path) -> None:
    head = "[region]\nanchors=1,1,1.1,1.1\nnum=2\nclasses=3\nsoftmax=1"
    cfg = toy(tmp_path, "[convolutional]\nfilters=16\nsize=1\nactivation=linear", head)
    net = random_net(cfg, tmp_path)
    net.setInput(np.random.default_rng(0).random((1, 3, 32, 32), np.float32))
    assert net.getUnconnectedOutLayersNames() == ("detection_out",)
    rows = net.forward("detection_out")
    assert rows.shape == (32 * 32 * 2, 8)
    cv2.dnn_DetectionModel(net)
    free = net.forward()
    np.testing.assert_allclose(free[:, 5:].sum(1), free[:, 4], rtol=1e-4)
    assert 0 < np.count_nonzero(rows[:, 5:]) < np.count_nonzero(free[:, 5:])


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
