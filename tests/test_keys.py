"""Tensors of other programs find their layers by name: blocks, folded batch norm, phases of the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from project import CFGS
from torch import Tensor
from yolos import YOLOS, needs_yolos, rows

import darknet_py
from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.convert import main as convert
from darknet_py.errors import CfgWarning, WeightsError
from darknet_py.keys import own_tensors
from darknet_py.network import Network

CFG = """[net]
width=8
height=8
channels=3
bn_eps=.001
[convolutional]
filters=4
size=6
stride=2
padding=2
batch_normalize=1
activation=linear
key=stem
[implicit_mul]
key=scale
"""
NORM = ("weight", "bias", "running_mean", "running_var")


def state(convolution: str, norm: str | None, size: int = 6) -> dict[str, Tensor]:
    """A state_dict for CFG with these names of its convolution and batch norm; no norm: it is folded."""
    channels = 3 if size == 6 else 12
    values = {f"{convolution}.weight": torch.rand(4, channels, size, size), "scale.implicit": torch.rand(1, 4, 1, 1)}
    if norm is None:
        return values | {f"{convolution}.bias": torch.rand(4)}
    return values | {f"{norm}.{name}": torch.rand(4) + 0.5 for name in NORM}


def loaded(values: dict[str, Tensor], path: Path) -> Network:
    torch.save(values, path / "a.pt")
    (path / "a.cfg").write_text(CFG)
    return darknet_py.load(path / "a.cfg", path / "a.pt")


@pytest.mark.parametrize(
    ("convolution", "norm"),
    [("stem.conv", "stem.bn"), ("stem.0", "stem.1"), ("module.stem.conv", "module.stem.bn"),
     ("module_list.0.Conv2d", "module_list.0.BatchNorm2d")],
)  # fmt: skip
def test_a_block_is_found_by_the_name_of_its_layer(convolution: str, norm: str, tmp_path: Path) -> None:
    values = state(convolution, norm)
    if norm.startswith("module_list"):
        values["module_list.1.implicit"] = values.pop("scale.implicit")
    layer = loaded(values, tmp_path).layers[0]
    assert torch.equal(layer.weights, values[f"{convolution}.weight"])
    found = (layer.scales, layer.biases, layer.rolling_mean, layer.rolling_variance)
    assert all(torch.equal(one, values[f"{norm}.{name}"]) for name, one in zip(NORM, found, strict=True))


def test_a_folded_batch_norm_becomes_one_that_changes_nothing(tmp_path: Path) -> None:
    values = state("stem.conv", None)
    images = torch.rand(2, 3, 8, 8)
    wanted = torch.conv2d(images, values["stem.conv.weight"], values["stem.conv.bias"], 2, 2) * values["scale.implicit"]
    torch.testing.assert_close(loaded(values, tmp_path)(images)[0], wanted, rtol=1e-5, atol=1e-6)


def test_a_convolution_of_the_four_phases_is_one_of_the_picture(tmp_path: Path) -> None:
    values = state("stem.conv", None, size=3)
    images = torch.rand(2, 3, 8, 8)
    phases = [images[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    read = torch.conv2d(torch.cat(phases, 1), values["stem.conv.weight"], values["stem.conv.bias"], 1, 1)
    actual = loaded(values, tmp_path)(images)[0]
    torch.testing.assert_close(actual, read * values["scale.implicit"], rtol=1e-5, atol=1e-6)


def test_half_precision_and_counters_come_in_and_convert_writes_weights(tmp_path: Path) -> None:
    values = {name: value.half() for name, value in state("stem.conv", "stem.bn").items()}
    values |= {"stem.bn.num_batches_tracked": torch.tensor(7), "head.anchors": torch.rand(3, 3, 2)}
    network = loaded(values, tmp_path)
    arguments = [str(tmp_path / "a.pt"), "--cfg", str(tmp_path / "a.cfg"), "--out", str(tmp_path / "a.weights")]
    assert convert(arguments) == 0
    again = darknet_py.load(tmp_path / "a.cfg", tmp_path / "a.weights")
    assert torch.equal(again.layers[0].weights, values["stem.conv.weight"].float())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))


def test_tensors_of_no_layer_are_named_in_a_warning(tmp_path: Path) -> None:
    values = state("stem.conv", "stem.bn") | {"teacher.weight": torch.ones(1)}
    with pytest.warns(
        CfgWarning, match=r"a\.pt: 1 tensors belong to no layer of .*, e\.g\. 'teacher\.weight'; not read"
    ):
        loaded(values, tmp_path)


def test_other_anchors_than_the_cfgs_are_named_in_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """They belong to the data set that the weights were trained on; the file has them in cells."""
    head = (
        "[convolutional]\nfilters=24\nactivation=linear\nkey=out\n[yolo]\nclasses=3\nnum=3\nanchors=4,8, 16,16, 2,6\n"
    )
    (tmp_path / "b.cfg").write_text(CFG + head)  # cells of 2 pixels
    anchors = torch.tensor([[[2.0, 4.0], [8.0, 8.0], [1.0, 3.0]]])
    values = state("stem.conv", "stem.bn") | {"out.weight": torch.rand(24, 4, 1, 1), "out.bias": torch.rand(24)}
    torch.save(values | {"head.anchors": anchors.half()}, tmp_path / "b.pt")
    darknet_py.load(tmp_path / "b.cfg", tmp_path / "b.pt")
    assert not recwarn.list
    torch.save(values | {"head.anchors": anchors * 2}, tmp_path / "b.pt")
    with pytest.warns(CfgWarning, match=r"'head\.anchors' are .*; write anchors=8, 16, 32, 32, 4, 12$"):
        darknet_py.load(tmp_path / "b.cfg", tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stem.bn.running_var": None}, "'stem.bn.running_var' of layer 0 is missing; wrong cfg?"),
        ({"stem.conv.weight": torch.ones(5, 3, 6, 6)}, "'stem.conv.weight' is (5, 3, 6, 6), layer 0 of"),
        ({"scale.implicit": None}, "'scale.implicit' of layer 1 is missing; wrong cfg?"),
    ],
    ids=["missing", "shape", "learned values"],
)
def test_what_does_not_fit_is_refused_by_the_name_in_the_file(
    change: dict[str, Tensor | None], says: str, tmp_path: Path
) -> None:
    values = {name: value for name, value in (state("stem.conv", "stem.bn") | change).items() if value is not None}
    with pytest.raises(WeightsError) as caught:
        loaded(values, tmp_path)
    assert says in str(caught.value)


def test_two_tensors_for_one_are_refused(tmp_path: Path) -> None:
    values = state("stem.conv", "stem.bn")
    with pytest.raises(
        WeightsError, match=r"'stem\.conv\.weight' and 'module\.stem\.conv\.weight' are the same tensor"
    ):
        loaded(values | {"module.stem.conv.weight": values["stem.conv.weight"]}, tmp_path)


@pytest.mark.parametrize("shape", [(), (1, 3, 3), (0, 3, 2), (1, 1 << 29, 2)])
def test_anchors_of_another_shape_are_no_anchors(shape: tuple[int, ...], tmp_path: Path) -> None:
    """The last one is one number, expanded."""
    text = "[net]\nwidth=64\nheight=64\nchannels=3\n[convolutional]\nfilters=24\nactivation=linear\nkey=out\n"
    (tmp_path / "b.cfg").write_text(f"{text}[yolo]\nclasses=3\nnum=3\nanchors=4,8, 16,16, 2,6\n")
    values = {
        "out.weight": torch.rand(24, 3, 1, 1),
        "out.bias": torch.rand(24),
        "anchors": torch.ones(()).expand(shape),
    }
    torch.save(values, tmp_path / "b.pt")
    darknet_py.load(tmp_path / "b.cfg", tmp_path / "b.pt")


@needs_yolos
@pytest.mark.parametrize("program", ["mmdet", "bubbliiiing"])
def test_yolov3_of_other_programs_is_darknets_layer_by_layer(program: str) -> None:
    file = {"mmdet": "yolov3_d53", "bubbliiiing": "bubbliiiing"}[program]
    folder = YOLOS / "mmdet_yolov3"
    with torch.device("meta"):
        network = Network(parse_cfg(CFGS / "yolov3-mmdet.cfg"))
        tensors = {
            row["key"]: torch.empty([int(n) for n in row["shape"].split("x")])
            for row in rows(folder / f"{file}.keys.tsv")
            if row["shape"] != "scalar"
        }
        found = own_tensors(network, tensors, "a.pt")
    for row in rows(folder / "darknet_index.tsv"):
        assert found[f"layers.{row['darknet_layer']}.weights"] is tensors[f"{row[f'{program}_conv']}.weight"]
    assert len(found) == len(tensors)


def test_a_learned_value_of_all_channels_or_of_each() -> None:
    for filters, count in (("", 3), ("filters=1\n", 1), ("filters=3\n", 3)):
        text = f"[net]\nwidth=2\nheight=2\nchannels=3\n[implicit_add]\n{filters}[implicit_mul]\n{filters}"
        network = Network(parse_text(text)).initialise(0).eval()
        add, factor = (layer.weights.detach() for layer in network.layers)
        assert len(add) == len(factor) == count
        images = torch.rand(2, 3, 2, 2)
        wanted = (images + add.view(1, -1, 1, 1)) * factor.view(1, -1, 1, 1)
        assert torch.equal(network(images)[0], wanted)
        assert abs(float(add.mean())) < 0.1
        assert abs(float(factor.mean()) - 1) < 0.1
