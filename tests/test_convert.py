"""A model as one file: converted there and back, opened alone by everything, cut, fused, and refused in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from kit import KIT, needs_kit
from project import ROOT, python
from weight_files import NET, ORDER, count, network, random_file

import darknet_py
from darknet_py import anchors, benchmark, check, classify, detect, evaluate, generate, summary, train
from darknet_py.bundled import bundled
from darknet_py.cfg import parse_cfg
from darknet_py.classifier import Classifier
from darknet_py.command import run_command
from darknet_py.convert import main as convert
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import CfgWarning, DarknetError, WeightsError
from darknet_py.layers.softmax import Softmax
from darknet_py.names import read_names
from darknet_py.network import Network
from darknet_py.weights import load_weights
from darknet_py.work import benchmark as measurements

CFG, WEIGHTS, NAMES, IMAGE = (str(bundled(what)) for what in ("cfg", "weights", "names", "image"))
SHAPES = read_names(NAMES)
FOUND = {"circle", "square", "triangle", "cross"}  # in the bundled image


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The command's error."""
    assert run_command(lambda: convert([*map(str, arguments)])) == 2
    return capsys.readouterr().err.removeprefix("error: ").rstrip("\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as one file."""
    path = tmp_path_factory.mktemp("model") / "shapes.safetensors"
    assert convert([WEIGHTS, "--cfg", CFG, "--names", NAMES, "--out", str(path)]) == 0
    return path


def test_a_model_as_one_file_becomes_the_same_three_files_again(model: Path, tmp_path: Path) -> None:
    files = {"--out": "my.weights", "--out-cfg": "my.cfg", "--out-names": "my.names"}
    options = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    assert convert([str(model), *options]) == 0
    for name, original in zip(files.values(), (WEIGHTS, CFG, NAMES), strict=True):
        assert (tmp_path / name).read_bytes() == Path(original).read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["--out", "my.weights", "--out-cfg", "my.weights"],
        ["--out", "my.weights", "--out-cfg", "my.txt", "--out-names", "./my.txt"],
        ["--out", "shapes.cfg"],
        ["--out", "my.weights", "--out-cfg", "my.cfg", "--out-names", "shapes.names"],
    ],
)
def test_no_result_is_written_over_another_file_of_the_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Path(WEIGHTS).resolve()
    for path in (CFG, NAMES):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DarknetError, match=r"write another name|--out-cfg writes the cfg"):
        convert([str(weights), "--cfg", "shapes.cfg", "--names", "shapes.names", *words])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["my.SAFETENSORS", "my.PT", "my.Weights"])
def test_the_case_of_an_ending_does_not_matter(name: str, model: Path, tmp_path: Path) -> None:
    assert convert([str(model), "--out", str(tmp_path / name)]) == 0
    assert convert([str(model), "--out", str(tmp_path / name.lower())]) == 0
    assert (tmp_path / name).stat().st_size == (tmp_path / name.lower()).stat().st_size
    with pytest.raises(DarknetError, match="export writes ONNX"):
        convert([str(model), "--out", str(tmp_path / "my.ONNX")])


def test_a_model_as_one_file_may_be_read_by_all_who_may_read_other_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert stat.S_IMODE(model.stat().st_mode) == stat.S_IMODE((tmp_path / "x").stat().st_mode)


@needs_kit
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yoloface-50k", "MobileNetV2-YOLOv3-Nano-voc"])
def test_real_models_keep_every_byte(name: str, tmp_path: Path) -> None:
    (cfg,), (weights,) = ((KIT / "real" / name).glob(pattern) for pattern in ("*.cfg", "*.weights"))
    assert convert([str(weights), "--cfg", str(cfg), "--out", str(tmp_path / "my.safetensors")]) == 0
    assert convert([str(tmp_path / "my.safetensors"), "--out", str(tmp_path / "my.weights")]) == 0
    assert (tmp_path / "my.weights").read_bytes() == weights.read_bytes()


def test_one_file_opens_alone(model: Path) -> None:
    found = darknet_py.Detector(darknet_py.load(model))(IMAGE)[0]
    assert {detection.name for detection in found} == FOUND
    separate = darknet_py.Detector(darknet_py.load(CFG, WEIGHTS), NAMES)(IMAGE)[0]
    assert np.array_equal(found.xywh, separate.xywh)
    assert darknet_py.load(None, model).names == darknet_py.load(CFG, model).names == SHAPES
    assert darknet_py.load(model, WEIGHTS).seen == darknet_py.load(CFG, WEIGHTS).seen
    assert darknet_py.Detector(darknet_py.load(model), SHAPES[::-1]).names == SHAPES[::-1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), 4, 4))


COMMANDS: dict[str, tuple[Any, list[str]]] = {
    "detect": (detect.main, ["--weights", "MODEL", IMAGE, "--json", "out.json"]),
    "evaluate": (evaluate.main, ["DATA", "MODEL"]),
    "valid": (evaluate.valid_main, ["DATA", "MODEL"]),
    "recall": (evaluate.recall_main, ["DATA", "MODEL"]),
    "train": (train.main, ["DATA", "MODEL", "--clear", "--max-batches", "1", "--out", ".", "--workers", "0"]),
    "anchors": (anchors.main, ["DATA", "--cfg", "MODEL", "--write", "out.cfg", "--seed", "1"]),
    "check": (check.main, ["DATA", "--cfg", "MODEL"]),
    "summary": (summary.main, ["MODEL"]),
    "benchmark": (benchmark.main, ["--cfg", "MODEL", "--seconds", "0.01"]),
}


@pytest.mark.filterwarnings("ignore::darknet_py.CfgWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_opens_one_file(
    command: str, model: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measurements, "measure_import", lambda: None)  # it takes long, and reads no model
    main, words = COMMANDS[command]
    assert main([{"MODEL": str(model), "DATA": data}.get(word, word) for word in words]) in (0, 1)
    printed = capsys.readouterr().out
    if command == "detect":
        objects = json.loads((tmp_path / "out.json").read_text())[0]["objects"]
        assert {one["name"] for one in objects} == FOUND
    elif command == "train":  # from the model's weights, not from random ones
        assert "layers 0-20  loaded" in printed
        assert (tmp_path / "shapes_final.weights").is_file()
    elif command == "anchors":
        assert Network(parse_cfg(tmp_path / "out.cfg")).summary()
    elif command == "evaluate":
        assert "circle" in printed


CLASSIFIER = NET + "[convolutional]\nfilters=2\nactivation=linear\n[avgpool]\n[softmax]\n"


def test_classifiers_and_character_networks_open_alone(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    classifier = network(CLASSIFIER).initialise(0)
    classifier.names = ["cat", "dog"]
    classifier.save_weights(tmp_path / "c.safetensors")
    assert classify.main(["--weights", str(tmp_path / "c.safetensors"), IMAGE]) == 0
    assert b"cat: 0." in capsysbinary.readouterr().out
    assert Classifier(darknet_py.load(tmp_path / "c.safetensors")).names == ["cat", "dog"]
    network("[net]\ninputs=256\n[rnn]\noutput=256\n[softmax]\n").initialise(0).save_weights(tmp_path / "r.safetensors")
    assert generate.main(["--weights", str(tmp_path / "r.safetensors"), "--length", "5", "--random-seed", "1"]) == 0
    assert len(capsysbinary.readouterr().out) >= 5


def test_files_that_the_cfg_names_travel_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "my.tree").write_text("animal -1\ncat 0\ndog 0\n")
    (folder / "my.cfg").write_text("[net]\ninputs=3\n[softmax]\ntree=my.tree\n")
    Network(parse_cfg(folder / "my.cfg")).save_weights(tmp_path / "my.safetensors")
    (folder / "my.tree").unlink()
    layer = darknet_py.load(tmp_path / "my.safetensors").layers[0]
    assert isinstance(layer, Softmax)
    assert layer.tree is not None
    assert layer.tree.parent.tolist() == [-1, 0, 0]
    darknet_py.load(tmp_path / "my.safetensors").save_weights(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "my.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ORDER)
def test_a_state_dict_keeps_every_number_and_pytorch_takes_it(kind: str, tmp_path: Path) -> None:
    model = network(ORDER[kind][0])
    data = random_file(tmp_path / "my.weights", count(model))
    load_weights(model, tmp_path / "my.weights")
    model.save_weights(tmp_path / "my.pt")
    again = network(ORDER[kind][0])
    assert {layer.state for layer in load_weights(again, tmp_path / "my.pt")} == {"loaded"}
    again.seen = model.seen
    again.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == data
    network(ORDER[kind][0]).load_state_dict(torch.load(tmp_path / "my.pt", weights_only=True))


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


def write_pt(path: Path, change: str) -> None:
    """A state_dict of CLASSIFIER with one thing wrong."""
    state: Any = dict(network(CLASSIFIER).initialise(0).state_dict())
    first = "layers.0.weights"
    if change == "missing":
        del state[first]
    elif change == "extra":
        state["head.weight"] = torch.zeros(1)
    elif change == "shape":
        state[first] = torch.zeros(3, 2)
    elif change == "integers":
        state[first] = state[first].int()
    elif change == "sparse":
        state[first] = state[first].to_sparse()
    elif change == "code":
        state = {first: Hostile()}
    elif change == "nested":
        state = {"weights": state, "epoch": 3}
    elif change == "tensor":
        state = state[first]
    torch.save(state, path)
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif change == "weights":
        path.write_bytes(Path(WEIGHTS).read_bytes())
    elif change == "old":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif change == "pickle":
        path.write_bytes(pickle.dumps(Hostile()))
    elif change == "compressed":
        with zipfile.ZipFile(path) as stored, zipfile.ZipFile(f"{path}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in stored.namelist():
                archive.writestr(entry, stored.read(entry))
        os.replace(f"{path}.zip", path)
    elif change == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "does not fit my.cfg: 'layers.0.weights' is missing; wrong cfg?"),
        ("extra", "does not fit my.cfg: 'head.weight' is not part of the network; wrong cfg?"),
        ("shape", "'layers.0.weights' is (3, 2), my.cfg needs (2, 3, 1, 1); wrong cfg?"),
        ("integers", "'layers.0.weights' is not a tensor of floats, but torch.IntTensor"),
        ("sparse", "not a PyTorch state_dict: 'layers.0.weights' is no tensor; save network.state_dict() alone"),
        ("code", "not a PyTorch state_dict: it holds no tensors by names (keys layers.0.weights); save network"),
        ("nested", "not a PyTorch state_dict: it holds no tensors by names (keys weights, epoch); save"),
        ("tensor", "not a PyTorch state_dict: it holds a single tensor; save network.state_dict() alone"),
        ("truncated", "not a file as torch.save writes it since PyTorch 1.6; is it cut off?"),
        ("weights", "not a file as torch.save writes it since PyTorch 1.6; is it cut off?"),
        ("old", "not a file as torch.save writes it since PyTorch 1.6; is it cut off?"),
        ("pickle", "not a file as torch.save writes it since PyTorch 1.6; is it cut off?"),
        ("compressed", "a compressed archive, which torch.save does not write; not read"),
        ("another zip", "not a PyTorch state_dict: "),
    ],
)
def test_a_wrong_state_dict_is_refused_in_a_sentence(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("my.pt")
    write_pt(path, change)
    with pytest.raises(WeightsError) as caught:
        load_weights(network(CLASSIFIER), path)
    assert str(caught.value).startswith(f"my.pt: {message}")
    assert "\n" not in str(caught.value)
    assert not Path("was-run").exists()


def test_a_fused_model_detects_the_same(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fused, weights, cfg = (tmp_path / name for name in ("f.safetensors", "f.weights", "f.cfg"))
    assert convert([str(model), "--fuse", "--out", str(fused)]) == 0
    assert not capsys.readouterr().err
    assert convert([str(model), "--fuse", "--out", str(weights), "--out-cfg", str(cfg)]) == 0
    wanted = darknet_py.Detector(darknet_py.load(model))(IMAGE)[0]
    for small in (darknet_py.load(fused), darknet_py.load(cfg, weights)):
        assert not any(layer.options.batch_normalize for layer in small.layers if layer.kind == "convolutional")
        found = darknet_py.Detector(small)(IMAGE)[0]
        np.testing.assert_allclose(found.xywh, wanted.xywh, atol=1e-3)
    assert convert([str(model), "--fuse", "--out", str(weights)]) == 0
    assert "needs another cfg than" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*not read because of cutoff=13:darknet_py.CfgWarning")
def test_a_backbone_is_cut_from_any_format_and_opens_alone(model: Path, tmp_path: Path) -> None:
    convert([str(model), "--out", str(tmp_path / "my.pt")])
    results = []
    for number, source in enumerate((WEIGHTS, str(model), str(tmp_path / "my.pt"))):
        for suffix in (".weights", ".safetensors", ".pt"):
            out = tmp_path / f"backbone-{number}{suffix}"
            assert convert([source, "--cfg", CFG, "--cutoff", "13", "--out", str(out)]) == 0
            whole = darknet_py.load(CFG, out, cutoff=13)
            assert whole.seen == 0
            results.append(whole.layers[12].weights)
        backbone = darknet_py.load(tmp_path / f"backbone-{number}.safetensors")
        assert len(backbone.layers) == 13
        assert backbone(torch.zeros(1, 3, 160, 192))[0].shape == (1, 128, 10, 12)
    assert all(torch.equal(result, darknet_py.load(model).layers[12].weights) for result in results)
    with pytest.warns(CfgWarning, match="tensors are left over, not read because of cutoff=14"):
        darknet_py.load(CFG, model, cutoff=14)


def test_several_files_become_their_average(model: Path, tmp_path: Path) -> None:
    Network(parse_cfg(CFG)).initialise(0).save_weights(tmp_path / "b.weights")
    files = [str(model), str(tmp_path / "b.weights")]
    assert convert([*files, "--out", str(tmp_path / "mean.safetensors")]) == 0
    one, two, mean = (darknet_py.load(CFG, file).layers[0].weights for file in (*files, tmp_path / "mean.safetensors"))
    torch.testing.assert_close(mean, (one + two) / 2)
    assert darknet_py.load(tmp_path / "mean.safetensors").names == SHAPES


def test_what_does_not_fit_is_said_in_a_sentence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = "the cfg is missing; only .safetensors files carry theirs: name the .cfg, too (--cfg)"
    safetensors.save_file({"layers.0.weights": torch.zeros(1)}, "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-1])
    (tmp_path / "three.names").write_text("a\nb\nc\n")
    (tmp_path / "folder.safetensors").mkdir()
    assert said(capsys, WEIGHTS, "--out", "x.pt") == f"{WEIGHTS}: {missing}"
    foreign = "its metadata has no cfg, as another program wrote it; name the .cfg, too (--cfg)"
    assert said(capsys, "foreign.safetensors", "--out", "x.pt") == f"foreign.safetensors: {foreign}"
    text = said(capsys, "foreign.safetensors", "--cfg", CFG, "--out", "x.pt")
    assert text.startswith(f"foreign.safetensors: does not fit {CFG}: 'layers.0.biases' is missing")
    assert said(capsys, "cut.safetensors", "--out", "x.pt").startswith("cut.safetensors: not a safetensors file: ")
    assert said(capsys, "no.safetensors", "--out", "x.pt").startswith("no.safetensors: cannot read this file: ")
    assert said(capsys, "folder.safetensors", "--out", "x.pt").startswith("folder.safetensors: cannot read this file: ")
    assert said(capsys, WEIGHTS, "--cfg", "cfg/yolov3-tiny.cfg", "--out", "x.pt").endswith("or a cut-off download?")
    names = said(capsys, model, "--names", "three.names", "--out", "x.pt")
    assert names == f"three.names: 3 names, but {model} has 6 classes; names of another model?"
    text = said(capsys, WEIGHTS, "--cfg", CFG, "--out", "x.pt", "--out-names", "x.names")
    assert text == f"--out-names x.names: {WEIGHTS} carries no class names; write --names FILE"
    assert said(capsys, model, "--out", "x.onnx") == "--out x.onnx: python -m darknet_py.export writes ONNX"
    assert said(capsys, model, "--cutoff", "99", "--out", "x.pt").endswith("99 cannot be kept; write 1 to 22")
    for suffix in ("weights", "safetensors", "pt"):
        text = said(capsys, model, "--out", f"nowhere/x.{suffix}")
        assert text == f"nowhere/x.{suffix}: cannot write this file: No such file or directory"
    with pytest.raises(WeightsError, match="the cfg is missing"):
        darknet_py.load(None, WEIGHTS)
    with pytest.raises(SystemExit):
        evaluate.main(["x.data", CFG])
    assert "only a .safetensors is a model by itself" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cut.safetensors", "folder.safetensors", "foreign.safetensors", "three.names",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("[", "it is not a JSON object"),
        ("[1]", "it is not a JSON object"),
        ("[" * 100_000, "it is not a JSON object"),
        ("{}", "the cfg is missing"),
        ('{"cfg": 3}', "the cfg is missing"),
        ('{"cfg": "[net]"}', "the version or the number of images seen is missing"),
        ('{"cfg": "[net]", "names": "cat"}', "the class names are not a list of texts"),
        ('{"cfg": "[net]", "names": [1]}', "the class names are not a list of texts"),
        ('{"cfg": "[net]", "files": {"a.tree": 1}}', "the files that the cfg names are not texts"),
    ],
)
def test_damaged_metadata_is_refused_in_a_sentence(metadata: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    safetensors.save_file({"a": torch.zeros(1)}, path, {"darknet_py": metadata})
    with pytest.raises(WeightsError) as caught:
        darknet_py.load(path)
    assert str(caught.value) == f"{path}: its metadata is damaged: {message}"


def test_a_wrong_cfg_in_the_metadata_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "my.safetensors"
    about = json.dumps({"cfg": "[net]\nwidth=8\n[convolutionl]\n", "seen": 0, "version": [0, 2, 5]})
    safetensors.save_file({"a": torch.zeros(1)}, path, {"darknet_py": about})
    with pytest.raises(DarknetError, match=r"my.safetensors:"):
        darknet_py.load(path)


LIMITED = """
import resource, sys
from darknet_py.command import run_command
from darknet_py.convert import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(run_command(lambda: main(sys.argv[1:])))
"""


@pytest.mark.parametrize("suffix", ["weights", "safetensors", "pt"])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(suffix: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / f"my.{suffix}"
    out.write_bytes(b"old")
    done = python("-c", LIMITED, model, "--out", out, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {out}: cannot write this file: ")
    assert done.stderr.count("\n") == 1
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_the_help_and_the_list_of_commands_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    from darknet_py.__main__ import main

    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    assert ".safetensors" in capsys.readouterr().out
    main([])
    assert "darknet_py.convert" in capsys.readouterr().out


def test_torch_export_as_documented(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet of docs/CONVERTING.md, run."""
    text = (ROOT / "docs" / "CONVERTING.md").read_text(encoding="utf-8")
    snippet = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(model.read_bytes())
    scope: dict[str, Any] = {}
    exec(compile(snippet, "docs/CONVERTING.md", "exec"), scope)
    images = torch.rand(3, 3, 160, 192)
    with torch.no_grad():
        wanted = darknet_py.load(model)(images)
    for result, expected in zip(scope["exported"](images), wanted, strict=True):
        torch.testing.assert_close(result, expected)
