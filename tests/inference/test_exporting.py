"""An exported model says all that a user needs, and is written only if its numbers are the network's."""

from __future__ import annotations

import copy
import functools
import gc
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from disk import full_disk

from darknet_py import Detector, Network, load, parse_cfg
from darknet_py.cfg import parse_text
from darknet_py.choices import EXPORTED_OUTPUTS
from darknet_py.command import run_command
from darknet_py.detector import load_detector
from darknet_py.errors import CfgError, CfgWarning, DarknetError
from darknet_py.export import main as export_command
from darknet_py.inference import exporting
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.inference.onnx_runner import OnnxRunner, open_session
from darknet_py.names import read_names

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

NAMES = read_names("cfg/shapes.names")


@pytest.fixture(scope="module")
def network() -> Network:
    return load("cfg/shapes.cfg", "weights/shapes.weights")


@pytest.fixture(scope="module")
def exported(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Path]:
    """The bundled model in a form, with its names and letterbox; each form is written once."""

    @functools.cache
    def export(form: Form) -> Path:
        path = tmp_path_factory.mktemp("exported") / "model.onnx"
        report = export_onnx(network, path, form, names=NAMES, letterbox=True)
        assert 0 < max(report.differences.values()) <= exporting.TOLERANCES[form.type]
        return path

    return export


FORMS = {outputs: Form(outputs, thresh=0.05) for outputs in EXPORTED_OUTPUTS}
BY_DISTANCE = Form("detections", thresh=0.05, nms=0.2, nms_kind="greedynms")


@pytest.mark.parametrize(
    "form",
    [*FORMS.values(), Form("boxes", uint8=True), Form("detections", uint8=True, type="fp16", thresh=0.01)],
    ids=lambda form: f"{form.outputs} {'bytes' if form.uint8 else 'floats'} {form.type}",
)
def test_an_exported_model_gives_the_networks_numbers_for_any_number_of_images(
    form: Form, network: Network, exported: Callable[[Form], Path]
) -> None:
    session = open_session(exported(form))
    width, height = network.size
    for count in (1, 3):
        images = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        floats = np.ascontiguousarray((images.astype(np.float32) / 255).transpose(0, 3, 1, 2))
        outputs = session.run(None, {"images": images if form.uint8 else floats})
        raw = network(torch.from_numpy(floats))
        if form.outputs == "raw":
            expected = [part.numpy() for part in raw]
        else:
            each = [head.boxes(part, network.size) for head, part in zip(network.head_layers(), raw, strict=True)]
            scores = torch.cat([part.objectness[..., None] * part.classes for part in each], 1).numpy()
            expected = [torch.cat([part.xywh for part in each], 1).numpy(), scores]
        if form.outputs == "detections":
            rows = outputs[0]
            assert (rows[:, 2] > form.thresh).all()
            assert set(rows[:, 0]) <= set(range(count))
            assert len(rows) <= (scores > form.thresh).sum()
        else:
            for ours, theirs in zip(outputs, expected, strict=True):
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(theirs).max())


def test_the_models_metadata_say_how_to_use_it(network: Network, exported: Callable[[Form], Path]) -> None:
    model = onnx.load(exported(FORMS["detections"]))
    onnx.checker.check_model(model)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    about = json.loads(entries["darknet_py"])
    assert about["names"] == NAMES
    assert (about["letterbox"], about["thresh"], about["nms"]) == (True, 0.05, 0.45)
    assert parse_cfg_text(about["cfg"]) == len(network.layers)
    assert entries["classes"].split("\n") == NAMES
    assert "aspect ratio kept" in entries["resize"]
    assert [entry.name for entry in model.graph.input] == ["images"]


def parse_cfg_text(text: str) -> int:
    from darknet_py.cfg import parse_text

    return len(Network(parse_text(text)).layers)


@pytest.mark.parametrize("outputs", ["raw", "boxes", "detections"])
def test_the_size_may_be_left_free(network: Network, outputs: str, tmp_path: Path) -> None:
    """The boxes are fractions of the size that the images have, not of the cfg's."""
    export_onnx(network, tmp_path / "model.onnx", Form(outputs, thresh=0.01), dynamic_size=True)
    session = open_session(tmp_path / "model.onnx")
    picture = cv2.resize(cv2.imread("weights/shapes.png")[..., ::-1], (64, 96)).astype(np.float32) / 255
    images = torch.from_numpy(np.stack([picture, picture[:, ::-1]])).permute(0, 3, 1, 2)
    sized = load("cfg/shapes.cfg", "weights/shapes.weights", size=(64, 96))
    graph = exporting.Graph(sized, Form(outputs, thresh=0.01)).eval()
    limits = [torch.tensor([sized.net.nms]), torch.tensor([0.01])]
    expected = graph(images, limits if outputs == "detections" else [])
    found = session.run(None, {"images": images.numpy()})
    for ours, theirs in zip(found, expected[: len(found)], strict=True):
        assert len(ours) > 1
        assert np.abs(ours - theirs.numpy()).max() <= 1e-4


@pytest.mark.parametrize(("limits", "asked"), [({"thresh": 0.2}, "thresh=0.2"), ({"nms": 0.9}, "nms=0.9")])
def test_detections_of_a_file_are_of_its_thresholds(
    network: Network, limits: dict[str, float], asked: str, tmp_path: Path
) -> None:
    export_onnx(network, tmp_path / "model.onnx", Form("detections", thresh=0.3))
    detector = Detector(tmp_path / "model.onnx")
    assert detector("weights/shapes.png", thresh=0.5)
    with pytest.raises(DarknetError, match=rf"made with thresh=0.3 and nms=0.45, .*{asked}"):
        detector("weights/shapes.png", **limits)


@pytest.mark.parametrize("opset", [-1, 10, 30])
def test_a_version_of_the_operators_that_pytorch_does_not_make_is_refused(
    network: Network, opset: int, tmp_path: Path
) -> None:
    with pytest.raises(DarknetError, match=rf"opset {opset}: PyTorch does not write it \(it gave \d+\)"):
        export_onnx(network, tmp_path / "model.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


def test_an_infinity_does_not_hide_other_differences() -> None:
    ours, theirs = np.array([np.inf, 0.5]), np.array([np.inf, 0.1])
    assert exporting._difference("head_5", ours, theirs) == pytest.approx(0.8)
    assert exporting._difference("head_5", ours, ours) == 0
    assert exporting._difference("head_5", ours, np.array([3.0, 0.5])) == np.inf


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "net.weights"], "--out net.weights: write a name that ends in .onnx"),
        (["--out", "no/x.onnx"], "no/x.onnx: cannot write this file"),
        (["--out", "x.onnx", "--type", "int8", "--calibrate", "no.jpg"], "--calibrate no.jpg: there is no image"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--cfg", str(Path("cfg/shapes.cfg").resolve()), "--weights", str(Path("weights/shapes.weights").resolve())]
    monkeypatch.chdir(tmp_path)
    assert run_command(lambda: export_command([*model, *words])) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change", [{"outputs": "raw"}, {"outputs": "foo"}, {"uint8": True}, {"size": [64, 64]}, {"nms_kind": "foo"}]
)
def test_metadata_of_another_model_are_refused(
    change: dict[str, Any], exported: Callable[[Form], Path], tmp_path: Path
) -> None:
    model = onnx.load(exported(FORMS["boxes"]))
    entry = next(entry for entry in model.metadata_props if entry.key == "darknet_py")
    entry.value = json.dumps(json.loads(entry.value) | change)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(DarknetError, match="its metadata 'darknet_py' are"):
        Detector(tmp_path / "model.onnx")


def test_a_file_of_boxes_keeps_that_nothing_is_suppressed(network: Network, tmp_path: Path) -> None:
    export_onnx(network, tmp_path / "model.onnx", Form(nms=0))
    assert Detector(tmp_path / "model.onnx").net.nms == 0


def test_a_file_of_boxes_warns_of_limits_that_are_lost(tmp_path: Path) -> None:
    text = Path("cfg/shapes.cfg").read_text().replace("[net]\n", "[net]\nobjectness_thresh=0.5\nclass_thresh=0\n", 1)
    (tmp_path / "net.cfg").write_text(text)
    export_onnx(load(tmp_path / "net.cfg", "weights/shapes.weights"), tmp_path / "model.onnx")
    with pytest.warns(CfgWarning, match="objectness_thresh cannot be applied to the product of objectness and class"):
        Detector(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "asked", [{"size": (64, 64)}, {"device": "cuda"}, {"precision": "bf16"}, {"engine": "openvino"}]
)
def test_an_exported_model_is_as_it_is(network: Network, asked: dict[str, Any], tmp_path: Path) -> None:
    export_onnx(network, tmp_path / "model.onnx")
    with pytest.raises(DarknetError, match=f"model.onnx: {next(iter(asked))} .*has its own size and number format"):
        load_detector(None, tmp_path / "model.onnx", **asked)


def test_a_recurrent_networks_states_are_inputs_and_outputs(tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    path.write_text("[net]\ninputs=6\nbatch=1\n[gru]\noutput=5\n[connected]\noutput=3\nactivation=linear\n[softmax]\n")
    network = Network(parse_cfg(path)).initialise(3).eval()
    export_onnx(network, tmp_path / "model.onnx")
    runs = [in_onnxruntime, in_openvino, *([in_opencv] if int(cv2.__version__.split(".")[0]) >= 5 else [])]
    states = {run: np.zeros((1, 5), np.float32) for run in runs}
    for values in torch.rand(4, 1, 6):
        with torch.no_grad():
            (expected,) = network(values)
        for run in runs:
            inputs = {"images": values.numpy(), "state_0_output": states[run]}
            output, states[run] = run(tmp_path / "model.onnx", inputs, ["output", "state_0_output_out"])
            assert np.abs(output - expected.numpy()).max() <= 1e-6


def test_numbers_that_differ_leave_no_file(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_difference", lambda *_: 0.5)
    with pytest.raises(DarknetError, match=r"not written: in onnxruntime, the output 'boxes' differs .* by 5.0e-01"):
        export_onnx(network, tmp_path / "model.onnx")
    model = ["--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights"]
    assert run_command(lambda: export_command([*model, "--out", str(tmp_path / "model.onnx")])) == 1
    assert not list(tmp_path.iterdir())


def test_weights_are_given_back_before_onnxruntime_takes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=37\nsize=3\n")
    alive: list[Any] = []

    def look(*_: Any) -> dict[str, float]:
        tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
        alive.extend(tensor for tensor in tensors if tensor.shape == (37, 3, 3, 3))
        return {"output": 0.0}

    monkeypatch.setattr(exporting, "_differences", look)
    export_onnx(Network(parse_cfg(tmp_path / "net.cfg")).initialise(0), tmp_path / "model.onnx")
    assert not alive


def test_a_model_too_large_for_its_format_leaves_no_file(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MAX_BYTES", 10_000)
    with pytest.raises(DarknetError, match=r"the model would have [\d,]+ bytes; an ONNX file has 2 GB at most"):
        export_onnx(network, tmp_path / "model.onnx", Form("raw"))
    assert not list(tmp_path.iterdir())


def test_a_difference_that_is_no_number_is_a_difference(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = {"boxes": 0.0, "scores": float("nan")}
    monkeypatch.setattr(exporting, "_differences", lambda *_: differences)
    with pytest.raises(DarknetError, match=r"the output 'scores' differs .* by nan"):
        export_onnx(network, tmp_path / "model.onnx")
    broken = copy.deepcopy(network)
    broken.layers[0].weights.fill_(float("nan"))
    with pytest.raises(DarknetError, match=r"own 'boxes' of a random image is NaN.*; are these its trained weights\?$"):
        export_onnx(broken, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_said_of_the_file(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with full_disk(100_000), pytest.raises(OSError, match="File too large") as error:
        export_onnx(network, path)
    assert error.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_boxes_of_different_classes_are_not_put_together(tmp_path: Path) -> None:
    first, second = (
        f"[convolutional]\nfilters={5 + classes}\n[yolo]\nclasses={classes}\nnum=1\nanchors=8,8\n" for classes in (3, 2)
    )
    text = f"[net]\nwidth=8\nheight=8\nchannels=3\n{first}[route]\nlayers=0\n{second}"
    network = Network(parse_text(text, "my.cfg")).initialise(0).eval()
    with pytest.raises(CfgError, match=r"\[yolo\] classes=2: it detects 2 classes, layer 1 \(\[yolo\]\) 3"):
        export_onnx(network, tmp_path / "model.onnx")
    assert export_onnx(network, tmp_path / "model.onnx", Form("raw")).differences


def test_what_onnx_cannot_say_is_refused_at_its_option(tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    net = "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=6\nactivation=linear\n"
    path.write_text(net + "[region]\nclasses=1\nnum=1\nanchors=3,3\ncoords=4\nclassfix=-1\n")
    with pytest.raises(CfgError, match=r"\[region\] classfix=-1: these boxes depend on the threshold"):
        export_onnx(Network(parse_cfg(path)).initialise(0), tmp_path / "model.onnx")


def test_names_of_another_model_are_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(DarknetError, match=r"2 names, but cfg/shapes\.cfg has 6 classes"):
        export_onnx(network, tmp_path / "model.onnx", names=["cat", "dog"])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DarknetError, match="onnxruntime cannot open this model"):
        open_session(tmp_path / "model.onnx")


STRICT = Form("detections", thresh=0.9, nms=0.9)


@pytest.mark.parametrize(
    "form", [*FORMS.values(), BY_DISTANCE, STRICT], ids=lambda form: f"{form.outputs} {form.nms_kind} {form.thresh}"
)
def test_a_detector_needs_the_exported_file_alone(
    form: Form, network: Network, exported: Callable[[Form], Path]
) -> None:
    path = exported(form)
    detectors = Detector(path), Detector(network, NAMES, letterbox=True, nms_kind=form.nms_kind)
    ours = detectors[0]("weights/shapes.png")[0]
    theirs = detectors[1]("weights/shapes.png", thresh=form.thresh, nms=form.nms)[0]
    assert detectors[0].nms_kind == detectors[1].nms_kind
    assert len(theirs) > (2 if form == STRICT else 3)
    assert ours.names == theirs.names
    assert list(ours.class_ids) == list(theirs.class_ids)
    assert np.abs(ours.confidences - theirs.confidences).max() <= 1e-5
    assert np.abs(ours.xywh - theirs.xywh).max() <= 1e-5


def test_a_detector_of_bytes(network: Network, exported: Callable[[Form], Path]) -> None:
    path = exported(Form("boxes", uint8=True))
    ours, theirs = (
        detector("weights/shapes.png")[0] for detector in (Detector(path), Detector(network, NAMES, letterbox=True))
    )
    assert [found.name for found in ours] == [found.name for found in theirs]


def test_foreign_and_damaged_models_get_one_sentence(exported: Callable[[Form], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load(exported(FORMS["boxes"]))
    entry = next(entry for entry in model.metadata_props if entry.key == "darknet_py")
    for value in ("", "{}", "[1]", '{"size": [8]}'):
        entry.value = value
        onnx.save(model, path)
        with pytest.raises(DarknetError, match="its metadata 'darknet_py' are damaged"):
            OnnxRunner(path)
    model.metadata_props.remove(entry)
    onnx.save(model, path)
    with pytest.raises(DarknetError, match="was not exported by darknet_py"):
        Detector(path)


def in_onnxruntime(path: Path, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    return list(open_session(path).run(outputs, inputs))


def in_opencv(path: Path, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    net = cv2.dnn.readNetFromONNX(str(path))
    for name, values in inputs.items():
        net.setInput(values, name)
    return list(net.forward(outputs))


def in_openvino(path: Path, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    results = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    return [results[name] for name in outputs]


@pytest.mark.parametrize(
    ("consumer", "form"),
    [*product((in_opencv, in_openvino), FORMS.values()), (in_openvino, BY_DISTANCE)],
    ids=lambda value: f"{value.outputs} {value.nms_kind}" if isinstance(value, Form) else value.__name__,
)
def test_other_programs_read_the_model(
    consumer: Any, form: Form, network: Network, exported: Callable[[Form], Path]
) -> None:
    if consumer is in_opencv and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("this OpenCV is older than 5")
    path = exported(form)
    names = exporting.output_names(network, form)
    detector = Detector(network)
    picture = detector.prepare([detector.read("weights/shapes.png")]).contiguous()
    for images in (picture.numpy(), torch.cat((picture, picture.flip(3))).numpy()):
        expected = open_session(path).run(names, {"images": images})
        for ours, theirs in zip(consumer(path, {"images": images}, names), expected, strict=True):
            assert ours.shape == theirs.shape
            assert len(ours) > (3 if form.outputs == "detections" else 0)
            assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(theirs).max())


def test_the_command_exports_and_detect_opens_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darknet_py import detect, export

    monkeypatch.chdir(tmp_path)
    model = ["--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights", "--names", "cfg/shapes.names"]
    assert export.main([*model, "--out", "shapes.onnx"]) == 0
    found = []
    for arguments in (model, ["--weights", "shapes.onnx"]):
        assert detect.main([*arguments, "weights/shapes.png", "--no-pictures", "--json", "r.json", "--quiet"]) == 0
        found.append([one["name"] for one in json.loads(Path("r.json").read_text())[0]["objects"]])
    assert found[0] == found[1]
    assert len(found[0]) > 3


def test_bytes_come_into_a_network_that_reads_other_pixels(tmp_path: Path) -> None:
    """YOLOX reads BGR, 0..255: its exported model takes RGB bytes as every other."""
    network = Network(parse_cfg("cfg/yolox-nano.cfg"), size=(96, 64)).initialise(1)
    for name, buffer in network.named_buffers():
        if name.endswith("rolling_variance"):
            buffer.fill_(1)
    path = tmp_path / "model.onnx"
    export_onnx(network, path, Form("boxes", uint8=True))
    image = torch.randint(0, 256, (64, 96, 3), dtype=torch.uint8)
    ours = network.eval()(image.permute(2, 0, 1).flip(0)[None].float())
    heads = zip(network.head_layers(), ours, strict=True)
    boxes = torch.cat([head.boxes(raw, network.size).xywh for head, raw in heads], 1)
    theirs = open_session(path).run(["boxes"], {"images": image[None].numpy()})[0]
    assert np.abs(theirs - boxes.detach().numpy()).max() <= 1e-4
    through_runner = OnnxRunner(path)(image.permute(2, 0, 1).flip(0)[None].float())[0]
    assert np.abs(through_runner.numpy() - theirs).max() <= 1e-6
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries["resize"] == "aspect ratio kept, at the left top of grey 114 of 255"


def test_the_order_of_equally_confident_detections_does_not_count() -> None:
    rows = np.array([[0, 1, 0.9, 0.1, 0.1, 0.2, 0.2], [0, 1, 0.5, 0.3, 0.3, 0.2, 0.2], [0, 1, 0.5, 0.7, 0.7, 0.2, 0.2]])
    difference = functools.partial(exporting._difference, "detections")
    assert difference(rows, rows[[0, 2, 1]] + 1e-7) <= 1.1e-7
    assert difference(rows, rows[[1, 0, 2]]) >= 0.4
    for wrong in (rows[[0, 1, 1]], np.full_like(rows, np.nan)):
        assert not difference(rows, wrong) <= 1e-4
    changed = rows.copy()
    changed[2, 3] += 0.01
    assert difference(rows, changed) >= 0.009
    assert difference(rows[:0], rows[:0]) == 0
