"""The detector's own promises: names, precision, batches, letterboxes, classes that are not shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darknet_py import DarknetError, Detector, ImageError, Network, load
from darknet_py.cfg import parse_text
from darknet_py.detections import Detection, Detections
from darknet_py.detector import load_detector
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.inference.runner import prepare
from darknet_py.pictures.draw import draw
from darknet_py.pictures.write import write_image

TEXT = """[net]
width=64
height=32
channels=3
[convolutional]
size=8
stride=8
filters=21
activation=linear
[yolo]
mask=0,1,2
anchors=8,8, 16,16, 30,30
num=3
classes=2
"""


def network(text: str = TEXT) -> Network:
    made = Network(parse_text(text)).initialise(0).eval().requires_grad_(False)
    if made.heads:
        made.layers[0].biases[[4, 11, 18]] = 1.0  # objects everywhere
    return made


def test_names_must_be_as_many_as_classes(tmp_path: Path) -> None:
    (tmp_path / "x.names").write_text("cat\ndog\nowl\n")
    with pytest.raises(DarknetError, match=r"x\.names: 3 names, but <text> has 2 classes"):
        Detector(network(), tmp_path / "x.names")


def test_a_classifier_is_no_detector() -> None:
    with pytest.raises(DarknetError, match="no detection head"):
        Detector(network("[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n[softmax]\n"))


def test_all_heads_detect_the_same_classes() -> None:
    heads = "".join(
        f"[route]\nlayers=0\n[convolutional]\nfilters={5 + classes}\n[yolo]\nnum=1\nanchors=8,8\nclasses={classes}\n"
        for classes in (3, 2)
    )
    text = f"[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=4\n{heads}"
    with pytest.raises(CfgError, match=r"<text>:\d+: \[yolo\] classes=2: it detects 2 classes, layer 3 \(\[yolo\]\) 3"):
        Detector(Network(parse_text(text)))


@pytest.mark.parametrize("option", [{"precision": "int4"}, {"nms_kind": "soft"}, {"batch": 0}])
def test_wrong_options_are_named(option: dict[str, object]) -> None:
    with pytest.raises(DarknetError, match=str(next(iter(option.values())))):
        Detector(network(), **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("letterbox", [False, True])
def test_a_list_gives_what_each_image_gives(letterbox: bool) -> None:
    detector = Detector(network(), ["cat", "dog"], letterbox=letterbox, batch=2)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((40, 30), (20, 90), (32, 64))
    ]
    together = detector(images, 0.3)
    for image, found in zip(images, together, strict=True):
        alone = detector(image, 0.3)[0]
        assert len(found) == len(alone) > 0
        np.testing.assert_allclose(found.xywh, alone.xywh, atol=1e-5)
        assert found.size == (image.shape[1], image.shape[0])


def test_classes_that_are_not_to_be_shown() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    all_classes = Detector(network(), ["cat", "dog"])(image, 0.1)[0]
    shown = Detector(network(), ["cat", "dont_show"])(image, 0.1)[0]
    assert {detection.name for detection in all_classes} == {"cat", "dog"}
    assert {detection.name for detection in shown} == {"cat"}


def test_agnostic_suppression_leaves_one_class_per_place() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    assert len(Detector(network(), agnostic=True)(image, 0.1)[0]) < len(Detector(network())(image, 0.1)[0])


def test_nothing_found_is_an_empty_answer() -> None:
    found = Detector(network())(np.zeros((32, 64, 3), np.uint8), 0.999)[0]
    assert len(found) == 0
    assert list(found) == []
    assert found.xyxy.shape == (0, 4)


@pytest.mark.parametrize(("precision", "advice"), [("fp32", "weights"), ("bf16", "--precision fp32")])
def test_outputs_that_are_no_numbers_are_not_nothing_found(precision: str, advice: str) -> None:
    broken = network()
    broken.layers[0].biases[4] = torch.inf  # type: ignore[operator]
    detector = Detector(broken, precision=precision)
    with pytest.warns(CfgWarning, match=f"<text>: the network gives values that are not finite.*{advice}"):
        detector(np.zeros((32, 64, 3), np.uint8))


@pytest.mark.filterwarnings("error")
def test_large_numbers_are_numbers() -> None:
    large = network()
    large.layers[0].biases[:] = 3e38  # their sum is none
    Detector(large)(np.zeros((32, 64, 3), np.uint8))


def test_a_detection_knows_its_pixels() -> None:
    found = Detections(
        np.array([1]), np.float32([0.5]), np.float32([[0.5, 0.5, 0.5, 0.25]]), (200, 100), ["cat", "dog"]
    )
    assert found[0] == Detection(1, "dog", 0.5, (50.0, 37.5, 150.0, 62.5), (0.5, 0.5, 0.5, 0.25))
    assert found[:1] == [found[0]]


def test_tensors_and_grey_arrays_are_images_too() -> None:
    detector = Detector(network())
    array = np.random.default_rng(1).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    a = detector(array, 0.3)[0]
    b = detector(torch.from_numpy(array).permute(2, 0, 1) / 255, 0.3)[0]
    np.testing.assert_allclose(a.xywh, b.xywh, atol=1e-5)
    assert detector(array[..., 0], 0.3)[0].size == (64, 32)
    with pytest.raises(ImageError):
        detector("gone.jpg")


def test_a_detector_leaves_its_network_as_it_was(tmp_path: Path) -> None:
    made = network().train()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    Detector(made)(np.zeros((32, 64, 3), np.uint8))
    assert made.training
    assert before.keys() == made.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    made.save_weights(tmp_path / "x.weights")


def test_loading_without_weights_gives_fresh_ones(tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_text(TEXT)
    assert float(load(tmp_path / "x.cfg").layers[0].weights.abs().sum()) > 0


@pytest.mark.parametrize("size", [(12, 9), (64, 48), (768, 576), (4000, 3000), (40, 900)])
def test_labels_stay_inside_the_image_whatever_its_size(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    edge = [(-5.0, -5.0, size[0] / 2, size[1] / 2), (size[0] * 0.6, size[1] * 0.9, size[0] + 9.0, size[1] + 9.0)]
    drawn = draw(image, [Detection(k, "a rather long name", 0.5, box, (0, 0, 0, 0)) for k, box in enumerate(edge)])
    assert drawn.shape == image.shape
    assert (drawn != 128).any()
    assert (image == 128).all()


TREE = """[net]
width=32
height=32
channels=3
[convolutional]
filters=9
activation=linear
[region]
num=1
classes=4
anchors=1,1
tree=x.tree
"""


def test_a_class_map_picks_classes_of_a_tree_and_other_heads_ignore_it(tmp_path: Path) -> None:
    (tmp_path / "x.tree").write_text("animal -1\nthing -1\ncat 0\ndog 0\n")
    (tmp_path / "x.cfg").write_text(TREE)
    (tmp_path / "x.map").write_text("2\n3\n")
    (tmp_path / "x.names").write_text("cat\ndog\n")
    (tmp_path / "x.data").write_text("names=x.names\nmap=x.map\n")
    model = load(tmp_path / "x.cfg")
    model.save_weights(tmp_path / "x.weights")
    detector = load_detector(tmp_path / "x.cfg", tmp_path / "x.weights", data=tmp_path / "x.data", device="cpu")
    assert detector.names == ["cat", "dog"]
    assert {detection.name for detection in detector(np.zeros((32, 32, 3), np.uint8), 0.01)[0]} == {"cat", "dog"}
    assert len(Detector(model).names) == 4
    assert Detector(network(), class_map=[5]).class_map is None
    with pytest.raises(DarknetError, match="no class 4"):
        Detector(model, class_map=[0, 4])
    (tmp_path / "x.map").write_text("2\ncat\n")
    with pytest.raises(DarknetError, match=r"x\.map: 'cat' is not a class"):
        load_detector(tmp_path / "x.cfg", tmp_path / "x.weights", data=tmp_path / "x.data")


IMAGE = np.random.default_rng(1).integers(0, 256, (32, 64, 3), dtype=np.uint8)


def found(**changes: Any) -> Detections:
    values: dict[str, Any] = {
        "class_ids": np.array([1, 0, 1]),
        "confidences": np.float32([0.75, 0.5, 0.25]),
        "xywh": np.float32([[0.5, 0.5, 0.5, 0.25], [0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1, 1]]),
        "size": (200, 100),
        "names": ["cat", "dog"],
    }
    return Detections(**values | changes)


def test_detections_are_compared_by_their_content() -> None:
    assert found() == found()
    assert found() != found(size=(100, 100))
    assert found() != found(class_ids=np.array([1, 0, 0]))
    assert found() != "dog"


def test_detections_are_shown_in_short() -> None:
    assert repr(found()) == "<Detections 200x100: 2 dog, 1 cat>"
    empty = found(class_ids=np.empty(0, int), confidences=np.empty(0, "f4"), xywh=np.empty((0, 4), "f4"))
    assert repr(empty) == "<Detections 200x100: nothing>"


def test_detections_become_darknets_json() -> None:
    content = found().to_dict(frame_id=7, filename="dog.jpg")
    assert list(content) == ["frame_id", "filename", "objects"]
    assert content["objects"][0] == {
        "class_id": 1,
        "name": "dog",
        "relative_coordinates": {"center_x": 0.5, "center_y": 0.5, "width": 0.5, "height": 0.25},
        "confidence": 0.75,
        "box": {"left": 50.0, "top": 37.5, "right": 150.0, "bottom": 62.5},
    }


def test_detections_become_the_arguments_of_supervision() -> None:
    arguments = found().to_supervision()
    assert list(arguments) == ["xyxy", "confidence", "class_id", "data"]
    assert arguments["xyxy"].shape == (3, 4)
    assert arguments["xyxy"][0].tolist() == [50.0, 37.5, 150.0, 62.5]
    assert arguments["confidence"].tolist() == [0.75, 0.5, 0.25]
    assert arguments["class_id"].tolist() == [1, 0, 1]
    assert arguments["data"]["class_name"].tolist() == ["dog", "cat", "dog"]


def test_detections_are_drawn_in_the_order_of_the_images_colours() -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    image[..., 0] = 0
    drawn = found().draw(image)
    assert (drawn != image).any()
    np.testing.assert_array_equal(found().draw(image[..., ::-1], order="bgr"), drawn[..., ::-1])
    assert (found().draw(image, boxes=False) == image).all()
    assert (found().draw(image, labels=False) != drawn).any()
    with pytest.raises(ImageError, match="cannot be drawn on an image of 200x50"):
        found().draw(image[:50])


def test_detections_are_drawn_on_the_file_they_are_of(tmp_path: Path) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    write_image(tmp_path / "x.png", image)
    np.testing.assert_array_equal(found().draw(tmp_path / "x.png"), found().draw(image))


def test_only_some_classes_and_only_so_many_objects() -> None:
    detector = Detector(network(), ["cat", "dog"])
    all_found = detector(IMAGE, 0.1)[0]
    cats = detector(IMAGE, 0.1, classes="cat")[0]
    assert {one.name for one in all_found} == {"cat", "dog"}
    assert list(cats) == [one for one in all_found if one.name == "cat"]
    assert detector(IMAGE, 0.1, classes=["cat"])[0] == detector(IMAGE, 0.1, classes=[0])[0] == cats
    assert list(detector(IMAGE, 0.1, max_det=3)[0]) == all_found[:3]


def test_bgr_is_rgb_turned_round() -> None:
    detector = Detector(network())
    assert detector(IMAGE[..., ::-1], 0.3, order="bgr") == detector(IMAGE, 0.3)
    assert detector(IMAGE[..., ::-1], 0.3) != detector(IMAGE, 0.3)
    tensor = torch.from_numpy(IMAGE).permute(2, 0, 1)
    assert detector(tensor.flip(0), 0.3, order="bgr") == detector(IMAGE, 0.3)


def test_batches_are_lists_of_images() -> None:
    detector = Detector(network(), batch=2)
    images = np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]])
    expected = detector(list(images), 0.3)
    assert detector(images, 0.3) == expected
    assert detector(torch.from_numpy(images).permute(0, 3, 1, 2), 0.3) == expected
    assert detector([]) == []
    assert detector(images[:0]) == []


def misuses() -> dict[str, tuple[Callable[[], object], str]]:
    detect, net = Detector(network()), network()
    return {
        "no model": (lambda: Detector(None), "a network is needed, as darknet_py.load.* gives, not None"),  # type: ignore[arg-type]
        "a path": (lambda: Detector("x.cfg"), "a network is needed.* not 'x.cfg'"),  # type: ignore[arg-type]
        "a number": (lambda: Detector(1), "a network is needed"),  # type: ignore[arg-type]
        "names=5": (lambda: Detector(net, names=5), "names=5: write the path"),  # type: ignore[arg-type]
        "names=[5]": (lambda: Detector(net, names=[5]), r"names=\[5\]: write the path"),  # type: ignore[list-item]
        "device": (lambda: prepare(net, device="foo"), "device 'foo': there is no such device"),
        "device 99": (lambda: prepare(net, device=99), "device '99': "),
        "batch word": (lambda: prepare(net, batch="8"), "batch='8': write a whole number"),  # type: ignore[arg-type]
        "batch none": (lambda: prepare(net, batch=None), "batch=None: write a whole number"),  # type: ignore[arg-type]
        "batch float": (lambda: prepare(net, batch=1.5), "batch=1.5: write a whole number"),  # type: ignore[arg-type]
        "size=64": (lambda: prepare(net, size=64), r"size=64: write \(width, height\)"),  # type: ignore[arg-type]
        "size=(64,)": (lambda: prepare(net, size=(64,)), r"size=\(64,\): write"),  # type: ignore[arg-type]
        "size word": (lambda: prepare(net, size="64x64"), "size='64x64': write"),  # type: ignore[arg-type]
        "size float": (lambda: prepare(net, size=(64.0, 64)), "width in size=64.0: write a whole"),  # type: ignore[arg-type]
        "thresh word": (lambda: detect(IMAGE, "x"), "thresh='x': write a number from 0 to 1"),  # type: ignore[arg-type]
        "thresh nan": (lambda: detect(IMAGE, float("nan")), "thresh=nan: write a number"),
        "nms": (lambda: detect(IMAGE, nms=45), "nms=45: write a number"),
        "max_det": (lambda: detect(IMAGE, max_det=0), "max_det=0: write a whole number"),
        "class": (lambda: detect(IMAGE, classes="2"), "no class '2'; there are 2, counted from 0"),
        "order": (lambda: detect(IMAGE, order="gbr"), "order='gbr': write"),
        "path": (lambda: detect("a\0b.jpg"), "cannot read this image: "),
        "a list in a list": (lambda: detect([[IMAGE, IMAGE[1:]]]), "list is not an image; give a path"),
        "generator": (lambda: detect(one for one in [IMAGE]), "generator is not an image; give a path"),
        "shape": (lambda: detect(IMAGE.transpose(2, 0, 1)), r"shape \(3, 32, 64\).* \(height, width, channels\)"),
        "tensor": (lambda: detect(torch.zeros(32, 64, 3)), r"shape \(32, 64, 3\).* \(channels, height, width\)"),
        "runner shape": (lambda: prepare(net)(torch.zeros(1, 3, 64, 64)), r"\(n, 3, 32, 64\), not \(1, 3, 64, 64\)"),
        "runner channels": (lambda: prepare(net)(torch.zeros(1, 1, 32, 64)), r"\(n, 3, 32, 64\)"),
        "runner dtype": (lambda: prepare(net)(torch.zeros(1, 3, 32, 64).double()), "reads torch.float32 on cpu"),
        "runner array": (lambda: prepare(net)(IMAGE), r"\(n, 3, 32, 64\), not \(32, 64, 3\)"),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("name", misuses())
def test_misuse_gets_one_sentence(name: str) -> None:
    call, message = misuses()[name]
    with pytest.raises(DarknetError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_loading_to_a_device_that_is_not_there(device: str, tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_text(TEXT)
    with pytest.raises(DarknetError, match=f"device '{device}': "):
        load(tmp_path / "x.cfg", device=device)


def test_a_loaded_network_is_frozen_unless_it_is_to_be_trained(tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_text(TEXT)
    frozen, trainable = load(tmp_path / "x.cfg"), load(tmp_path / "x.cfg", trainable=True)
    assert not frozen.training
    assert not any(one.requires_grad for one in frozen.parameters())
    assert trainable.training
    assert all(one.requires_grad for one in trainable.parameters())


RECURRENT = TEXT.replace("[yolo]", "[crnn]\noutput_filters=21\nhidden_filters=4\nactivation=leaky\npad=1\n[yolo]")


def test_images_of_a_recurrent_network_know_nothing_of_each_other() -> None:
    detector = Detector(Network(parse_text(RECURRENT)).initialise(0))
    assert detector.recurrent
    first = detector(IMAGE, 0.01)
    other = np.zeros_like(IMAGE)
    assert detector(other, 0.01) != first
    assert detector(IMAGE, 0.01) == first
    assert detector.detect([IMAGE], 0.01, continued=True) != first
