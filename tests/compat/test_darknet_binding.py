"""Darknet's Python binding without the shared library: the forms of its generations, with this package's numbers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from project import CFGS, ROOT

import darknet_py
from darknet_py.compat import darknet, pjreddie

CFG, WEIGHTS, IMAGE = str(CFGS / "shapes.cfg"), str(ROOT / "weights/shapes.weights"), str(ROOT / "weights/shapes.png")
NAMES = (CFGS / "shapes.names").read_text().split()
SIZE = (192, 160)


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "shapes.data"
    path.write_text(f"classes = {len(NAMES)}\nnames = {CFGS / 'shapes.names'}\n")
    return str(path)


@pytest.fixture
def net() -> Any:
    return darknet.load_net_custom(CFG.encode(), WEIGHTS.encode(), 0, 1)


def rgb() -> Any:
    return cv2.cvtColor(cv2.imread(IMAGE), cv2.COLOR_BGR2RGB)


def expected(letterbox: bool = False, thresh: float = 0.5) -> list[tuple[str, float, tuple[float, ...]]]:
    """What the package's own Detector finds: name, probability, centre and size in pixels of the image."""
    detector = darknet_py.Detector(darknet_py.load(CFG, WEIGHTS), NAMES, letterbox=letterbox)
    size = np.array([512, 384, 512, 384])
    return [(one.name, one.confidence, tuple(one.relative * size)) for one in detector(IMAGE, thresh)[0]]


def check(found: list[Any], wanted: list[Any]) -> None:
    assert [one[0] for one in found] == [one[0] for one in wanted]
    np.testing.assert_allclose([one[1] for one in found], [one[1] for one in wanted], atol=1e-4)
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in wanted], rtol=1e-3)


def test_the_newer_generation_gives_percent_strings_in_the_networks_pixels(data: str) -> None:
    random.seed(3)
    network, names, colors = darknet.load_network(CFG, data, WEIGHTS, batch_size=1)
    random.seed(3)
    assert (names, colors) == (NAMES, darknet.class_colors(NAMES))
    width, height = darknet.network_width(network), darknet.network_height(network)
    assert (width, height) == SIZE
    assert darknet.network_dimensions(network) == (*SIZE, 3)
    image = darknet.make_image(width, height, 3)
    darknet.copy_image_from_bytes(image, cv2.resize(rgb(), SIZE).tobytes())
    found = darknet.detect_image(network, names, image, thresh=0.5)
    darknet.free_image(image)
    assert sorted(one[0] for one in found) == sorted(one[0] for one in expected())
    assert [one[1] for one in found] == sorted(one[1] for one in found)
    assert all(isinstance(one[1], str) and 50 < float(one[1]) <= 100 for one in found)
    assert all(0 < one[2][0] < width and 0 < one[2][1] < height for one in found)
    picture = rgb()
    assert darknet.draw_boxes(found, picture, colors) is picture
    assert (picture != rgb()).any()


def test_the_older_generation_gives_probabilities_in_the_images_pixels(net: Any, data: str) -> None:
    meta = darknet.load_meta(data.encode())
    assert [meta.names[k] for k in range(meta.classes)] == [name.encode() for name in NAMES]
    wanted = [(name.encode(), *rest) for name, *rest in expected()]
    check(darknet.detect(net, meta, IMAGE.encode()), wanted)
    image, kept = darknet.array_to_image(rgb())
    assert kept.shape == (3 * 384 * 512,)
    check(darknet.detect_image(net, meta, image), wanted)


def test_pjreddies_binding_letterboxes(net: Any, data: str) -> None:
    found = pjreddie.detect(net, pjreddie.load_meta(data), IMAGE, thresh=0.5)
    check([one for one in found if one[1] > 0.93], [(n.encode(), *r) for n, *r in expected(True) if r[0] > 0.93])


@pytest.mark.parametrize("last", [(), (0,)])
def test_the_raw_calls_work_with_ctypes_structures_that_clients_build(net: Any, last: tuple[int, ...]) -> None:
    planes = np.ascontiguousarray(rgb().transpose(2, 0, 1), np.float32) / 255
    image = darknet.IMAGE(512, 384, 3, planes.ctypes.data_as(darknet.POINTER(darknet.c_float)))
    count = darknet.pointer(darknet.c_int(0))
    darknet.predict_image(net, image)
    dets = darknet.get_network_boxes(net, image.w, image.h, 0.5, 0.5, None, 0, count, *last)
    number = count[0]
    assert number > len(expected())
    darknet.do_nms_sort(dets, number, len(NAMES), 0.45)
    found = darknet.remove_negatives(dets, NAMES, number)
    check(sorted(found, key=lambda one: -one[1]), expected())
    best = [dets[j].best_class_idx for j in range(number) if dets[j].best_class_idx != -1]
    assert [name for name, *_ in darknet.remove_negatives_faster(dets, NAMES, number)] == [NAMES[k] for k in best]
    assert dets[0].classes == len(NAMES)
    darknet.free_detections(dets, number)


def test_suppression_by_objectness_takes_all_classes_together(net: Any) -> None:
    image = darknet.load_image(IMAGE, 0, 0)
    count = darknet.pointer(darknet.c_int(0))
    darknet.predict_image(net, image)
    dets = darknet.get_network_boxes(net, 512, 384, 0.1, 0.5, None, 0, count, 0)
    darknet.do_nms_obj(dets, count[0], len(NAMES), 0.2)
    boxes = [(det.bbox.x, det.bbox.y) for det in dets[: count[0]] if det.objectness]
    assert 4 <= len(boxes) < count[0]
    assert len(boxes) == sum(any(det.prob[k] for k in range(len(NAMES))) for det in dets[: count[0]])


def test_a_batch_is_detected_image_by_image() -> None:
    net = darknet.load_net_custom(CFG, WEIGHTS, 0, 2)
    one = np.ascontiguousarray(cv2.resize(rgb(), SIZE).transpose(2, 0, 1), np.float32) / 255
    values = np.stack((one * 0, one))
    image = darknet.IMAGE(*SIZE, 3, values.ctypes.data_as(darknet.POINTER(darknet.c_float)))
    pairs = darknet.network_predict_batch(net, image, 2, 512, 384, 0.5, 0.5, None, 0, 0)
    assert pairs[0].num == 0
    darknet.do_nms_sort(pairs[1].dets, pairs[1].num, len(NAMES), 0.45)
    found = darknet.remove_negatives(pairs[1].dets, NAMES, pairs[1].num)
    assert sorted(one[0] for one in found) == sorted(one[0] for one in expected())
    darknet.free_batch_detections(pairs, 2)


def test_a_recurrent_network_keeps_its_state_between_predictions(tmp_path: Path) -> None:
    cfg = tmp_path / "rnn.cfg"
    cfg.write_text("[net]\ninputs=8\n[rnn]\nhidden=6\noutput=8\nactivation=tanh\n[softmax]\n")
    darknet_py.load(cfg).save_weights(tmp_path / "rnn.weights")
    net = pjreddie.load_net(str(cfg).encode(), str(tmp_path / "rnn.weights").encode(), 0)
    letter = pjreddie.c_array(pjreddie.c_float, [1.0] + [0.0] * 7)
    first, second = pjreddie.predict(net, letter)[:8], pjreddie.predict(net, letter)[:8]
    pjreddie.reset_rnn(net)
    assert pjreddie.predict(net, letter)[:8] == first != second
    assert sum(first) == pytest.approx(1)
    assert 0 <= pjreddie.sample(first) < 8


def test_a_classifier_gives_all_classes_the_most_probable_first(tmp_path: Path, data: str) -> None:
    cfg = tmp_path / "small.cfg"
    layers = f"[convolutional]\nfilters={len(NAMES)}\nsize=3\nstride=2\nactivation=linear\n[avgpool]\n[softmax]\n"
    cfg.write_text(f"[net]\nwidth=32\nheight=32\nchannels=3\n{layers}")
    darknet_py.load(cfg).save_weights(tmp_path / "small.weights")
    net = darknet.load_net(str(cfg), str(tmp_path / "small.weights"), 0)
    found = darknet.classify(net, darknet.load_meta(data), darknet.load_image(IMAGE, 0, 0))
    assert sorted(name for name, _ in found) == sorted(name.encode() for name in NAMES)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert sum(p for _, p in found) == pytest.approx(1)


def test_perform_detect_loads_once_and_gives_a_dict_or_a_list(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("netMain", "metaMain", "altNames"):
        monkeypatch.setattr(darknet, name, None)
    assert darknet.performDetect("", 0.5, CFG, WEIGHTS, data, initOnly=True) is None
    loaded = darknet.netMain
    found = darknet.performDetect(IMAGE, 0.5, CFG, WEIGHTS, data, showImage=False)
    check(found, expected())
    shown = darknet.performDetect(IMAGE, 0.5, CFG, WEIGHTS, data, makeImageOnly=True)
    assert shown["detections"] == found
    assert shown["image"].shape == (384, 512, 3)
    assert shown["caption"].startswith("circle: 99.0%")
    assert darknet.netMain is loaded
    with pytest.raises(ValueError, match=r"Invalid weight path `/.*no\.weights`"):
        darknet.performDetect(IMAGE, 0.5, CFG, "no.weights", data)
    with pytest.raises(AssertionError, match="Threshold"):
        darknet.performDetect(IMAGE, 1.5, CFG, WEIGHTS, data)


def test_images_are_planes_of_floats(tmp_path: Path) -> None:
    image = darknet.load_image(IMAGE.encode(), 0, 0)
    assert (image.w, image.h, image.c) == (512, 384, 3)
    planes = np.ctypeslib.as_array(image.data, (3, 384, 512)).copy()
    np.testing.assert_allclose(planes, rgb().transpose(2, 0, 1) / 255, atol=1e-6)
    darknet.rgbgr_image(image)
    assert np.array_equal(np.ctypeslib.as_array(image.data, (3, 384, 512)), planes[::-1])
    boxed = darknet.letterbox_image(image, 192, 192)
    assert (boxed.w, boxed.h) == (192, 192)
    assert boxed.data[0] == 0.5


def test_lines_and_corners_are_those_of_the_binding(capsys: pytest.CaptureFixture[str]) -> None:
    darknet.print_detections([("dog", "98.7", (10.4, 20.6, 5, 7))], True)
    darknet.print_detections([("dog", "98.7", (10.4, 20.6, 5, 7))])
    line = "dog: 98.7%    (left_x: 10   top_y:  21   width:   5   height:  7)"
    assert capsys.readouterr().out == f"\nObjects:\n{line}\n\nObjects:\ndog: 98.7%\n"
    assert darknet.bbox2points((10, 20, 4, 6)) == (8, 17, 12, 23)
    assert darknet.decode_detection([("dog", 0.98765, (1, 2, 3, 4))]) == [("dog", "98.77", (1, 2, 3, 4))]
    boxes = [("a", 1, 1, (10, 10, 8, 8)), ("b", 1, 1, (10, 11, 8, 8)), ("c", 1, 1, (40, 40, 8, 8))]
    assert [one[0] for one in darknet.non_max_suppression_fast(boxes, 0.3)] == ["c", "b"]


def metadata(folder: Path, text: str, names: int) -> str:
    """A .data file with that text, beside a file of so many names."""
    (folder / "some.names").write_text("".join(f"name{k}\n" for k in range(names)))
    (folder / "some.data").write_text(text)
    return str(folder / "some.data")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes=6\n", "some.data: no class names; write names="),
        ("classes=9\nnames=some.names\n", "some.data:1: classes=9: .*some.names has 6 names"),
        ("classes=six\nnames=some.names\n", "some.data:1: classes=six: not a number"),
    ],
)
def test_a_data_file_needs_a_name_for_each_class(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(darknet_py.DarknetError, match=words):
        darknet.load_network(CFG, metadata(tmp_path, text, 6), WEIGHTS)


def test_without_classes_a_data_file_has_as_many_as_names(tmp_path: Path) -> None:
    assert darknet.load_meta(metadata(tmp_path, "names=some.names\n", 7)).classes == 7
    assert darknet.load_meta(metadata(tmp_path, "valid=x\n", 7)).classes == 2


def test_too_few_names_are_refused_wherever_a_class_is_named(net: Any, tmp_path: Path) -> None:
    image = darknet.load_image(IMAGE, 0, 0)
    few = darknet.load_meta(metadata(tmp_path, "classes=2\nnames=some.names\n", 2))
    nameless = darknet.load_meta(metadata(tmp_path, "classes=6\n", 2))
    many = darknet.load_meta(metadata(tmp_path, "classes=9999\nnames=some.names\n", 9999))
    darknet.predict_image(net, image)
    count = darknet.pointer(darknet.c_int(0))
    dets = darknet.get_network_boxes(net, 1, 1, 0.5, 0.5, None, 0, count, 0)
    calls: list[Any] = [lambda: darknet.remove_negatives_faster(dets, NAMES[:1], count[0])]
    calls += [lambda names=names: darknet.detect_image(net, names, image) for names in ([], NAMES[:2], few, nameless)]
    calls += [lambda meta=meta: pjreddie.detect(net, meta, IMAGE) for meta in (few, nameless)]
    calls += [lambda: darknet.classify(net, nameless, image), lambda: pjreddie.classify(net, nameless, image)]
    for call in calls:
        with pytest.raises(darknet_py.DarknetError, match=r"names for \d classes"):
            call()
    assert len(darknet.remove_negatives(dets, [*NAMES, *NAMES], count[0])) == len(
        darknet.remove_negatives(dets, NAMES, count[0])
    )
    classifier = tmp_path / "classifier.cfg"
    classifier.write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n[softmax]\n")
    darknet_py.load(classifier).save_weights(tmp_path / "classifier.weights")
    small = darknet.load_net(str(classifier), str(tmp_path / "classifier.weights"), 0)
    for module in (darknet, pjreddie):
        with pytest.raises(darknet_py.DarknetError, match="gives 3 values, but there are 9999 classes"):
            module.classify(small, many, image)


def boxes_of(net: Any) -> Any:
    return darknet.get_network_boxes(net, 1, 1, 0.5, 0.5, None, 0, darknet.pointer(darknet.c_int(0)), 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: darknet.load_net("no.cfg", WEIGHTS, 0), "no.cfg: cannot read this cfg"),
        (lambda: darknet.copy_image_from_bytes(darknet.make_image(4, 4, 3), bytes(16)), "16 bytes are too few"),
        (lambda: boxes_of(darknet.load_net(CFG, WEIGHTS, 0)), "nothing was predicted yet"),
        (lambda: darknet.load_image("no.jpg", 0, 0), "no.jpg: cannot read this image"),
        (lambda: darknet.load_meta("no.data"), "no.data: cannot read"),
        (lambda: darknet.predict_image(darknet.load_net(CFG, WEIGHTS, 0), darknet.make_image(9, 9, 1)), "1 channels"),
    ],
)
def test_mistakes_are_darknet_errors(call: Any, words: str) -> None:
    with pytest.raises(darknet_py.DarknetError, match=words):
        call()
