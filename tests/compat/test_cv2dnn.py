"""The layers of a Net in the stand-in for OpenCV 4's `cv2.dnn`, and what `forward` gives."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2 as opencv
import numpy as np
import pytest
import torch
from cv2dnn_nets import CFG, IMAGE, SIZE, WEIGHTS, blob, random_net, shapes_net, toy

import darknet_py
import darknet_py.compat.cv2dnn as cv2

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
