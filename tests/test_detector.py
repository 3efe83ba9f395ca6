"""The detector's own promises: names, precision, batches, letterboxes, classes that are not shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from darknet_py import DarknetError, Detector, ImageError, Network, load
from darknet_py.cfg import parse_text
from darknet_py.detections import Detection, Detections
from darknet_py.detector import load_detector
from darknet_py.pictures.draw import draw

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
    assert max(drawn.shape[:2]) >= 320
    assert drawn.shape[0] * size[0] == drawn.shape[1] * size[1]
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
