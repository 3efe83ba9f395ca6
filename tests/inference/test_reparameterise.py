"""Branches become one convolution, what only training needs goes, and the boxes stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from project import python
from torch import Tensor

from darknet_py import Network, load
from darknet_py.cfg import parse_text
from darknet_py.inference.reparameterise import reparameterised

NET = "[net]\nwidth=32\nheight=24\nchannels=3\nbn_eps=.001\n"
CONVOLUTION = "[convolutional]\nfilters={}\nsize={}\nstride={}\npad=1\nbatch_normalize=1\nactivation={}\n"


def convolution(filters: int, size: int, stride: int = 1, activation: str = "linear") -> str:
    return CONVOLUTION.format(filters, size, stride, activation)


STEM = convolution(8, 3, 2, "relu")
TWO_BRANCHES = (
    f"# a block of two branches\n{convolution(12, 3, 2)}[route]\nlayers=-2\n{convolution(12, 1, 2)}"
    "[shortcut]\nfrom=-3\nactivation=relu\n"
)
THREE_BRANCHES = (
    f"{convolution(8, 3)}[route]\nlayers=-2\n{convolution(8, 1)}[shortcut]\nfrom=-3\nactivation=linear\n"
    "[route]\nlayers=-5\n[batchnorm]\n[shortcut]\nfrom=-3\nactivation=silu\n"
)
ALL_AT_ONCE = (
    f"{convolution(8, 1)}[route]\nlayers=-2\n{convolution(8, 5)}[route]\nlayers=-4\n[batchnorm]\n"
    "[shortcut]\nfrom=-3,-5\nactivation=relu\n"
)
HEAD = "[convolutional]\nfilters=7\nsize=1\n{}activation=linear\n[anchor_free]\nclasses=3\n{}\n"


def network_of(text: str) -> Network:
    """Random weights, and statistics as after training."""
    network = Network(parse_text(NET + text)).initialise(1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in network.layers:
            for stored in layer.stored():
                if stored.name in ("scales", "rolling_variance"):
                    stored.tensor.uniform_(0.5, 1.5, generator=generator)
                elif stored.name in ("biases", "rolling_mean"):
                    stored.tensor.normal_(0, 0.2, generator=generator)
    return network.requires_grad_(False)


def outputs(network: Network) -> list[Tensor]:
    images = torch.rand(2, *network.input_shape[:3], generator=torch.Generator().manual_seed(3))
    raws = network(images)
    heads = network.head_layers()
    if not heads:
        return list(raws)
    found = [head.boxes(raw, network.size) for head, raw in zip(heads, raws, strict=True)]
    return [torch.cat((boxes.xywh, boxes.objectness[..., None], boxes.classes), -1) for boxes in found]


def kinds(network: Network) -> list[str]:
    return [layer.kind for layer in network.layers]


def assert_equal_outputs(network: Network, small: Network) -> None:
    for actual, expected in zip(outputs(small), outputs(network), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("text", "size"), [(TWO_BRANCHES, 3), (THREE_BRANCHES, 3), (ALL_AT_ONCE, 5)], ids=["two", "three", "all"]
)
def test_branches_become_one_convolution(text: str, size: int) -> None:
    network = network_of(f"{STEM}{text}")
    small = reparameterised(network)
    assert kinds(small) == ["convolutional"] * 2
    assert small.layers[1].options.size == size
    assert small.layers[1].options.activation == network.layers[-1].options.activation
    assert_equal_outputs(network, small)


def test_branches_with_groups_become_one_convolution_with_groups() -> None:
    text = THREE_BRANCHES.replace("pad=1", "pad=1\ngroups=4")
    network = network_of(STEM + text)
    small = reparameterised(network)
    assert [layer.groups for layer in small.layers] == [1, 4]
    assert_equal_outputs(network, small)


@pytest.mark.parametrize(
    "text",
    [
        f"{TWO_BRANCHES}[route]\nlayers=-1,-4\n",  # another layer reads a branch
        TWO_BRANCHES.replace("activation=linear", "activation=relu"),  # no linear map
        TWO_BRANCHES.replace("from=-3", "from=-3\nweights_type=per_feature\nweights_normalization=relu"),
        f"{convolution(8, 3)}[shortcut]\nfrom=-2\nactivation=relu\n",  # the map itself is no branch
        f"{convolution(8, 3)}{convolution(8, 1)}[shortcut]\nfrom=-2\nactivation=relu\n",  # one after the other
    ],
    ids=["read elsewhere", "activated", "weighted", "residual", "in series"],
)
def test_what_is_no_sum_of_branches_stays(text: str) -> None:
    network = network_of(f"{STEM}{text}")
    small = reparameterised(network)
    assert kinds(small).count("shortcut") == 1
    assert_equal_outputs(network, small)


def test_a_network_with_nothing_to_fold_keeps_its_text() -> None:
    network = network_of(f"{STEM}# the end\n{convolution(8, 3, 1, 'relu')}")
    assert reparameterised(network).cfg.text == network.cfg.text.replace("batch_normalize=1", "batch_normalize=0")


def test_auxiliary_heads_go_with_what_they_alone_read() -> None:
    lead = HEAD.format("", "")
    auxiliary = f"[route]\nlayers=0\n{convolution(8, 3)}{HEAD.format('', 'aux_of=2')}"
    later = f"[route]\nlayers=1\n{HEAD.format('', '')}"
    network = network_of(f"{STEM}{lead}{auxiliary}{later}")
    small = reparameterised(network)
    assert kinds(small) == ["convolutional", "convolutional", "anchor_free", "route", "convolutional", "anchor_free"]
    assert [layer.source_indices for layer in small.layers if layer.kind == "route"] == [(1,)]
    assert_equal_outputs(network, small)


def test_learned_summands_and_factors_go_into_the_convolution() -> None:
    head = HEAD.format("groups=1\n", "")
    around = head.replace("[conv", "[implicit_add]\n[conv").replace("[anchor", "[implicit_mul]\n[anchor")
    network = network_of(f"{STEM}{around}[route]\nlayers=0\n[implicit_add]\nfilters=1\n{head}")
    small = reparameterised(network)
    assert kinds(small) == ["convolutional", "convolutional", "anchor_free", "route", "convolutional", "anchor_free"]
    assert_equal_outputs(network, small)


def test_summands_before_zeros_around_a_map_stay() -> None:
    network = network_of(f"{STEM}[implicit_add]\n{convolution(8, 3)}")
    small = reparameterised(network)
    assert kinds(small) == ["convolutional", "implicit_add", "convolutional"]
    assert_equal_outputs(network, small)


@pytest.mark.parametrize("form", ["", "new_coords=1\nscale_x_y=2\nlogistic=1\n", "new_coords=1\n"])
def test_the_single_class_of_yolov7_stays_certain(form: str) -> None:
    head = f"[yolo]\nclasses=1\nnum=2\nanchors=4,5,8,9\nloss=yolov7\n{form}"
    network = network_of(f"{STEM}[convolutional]\nfilters=12\nsize=1\nactivation=linear\n{head}")
    small = reparameterised(network)
    assert "loss" not in small.cfg.sections[-1].first  # the C program would multiply by the class
    assert_equal_outputs(network, small)
    assert all(certainty.unique().tolist() == [1] for certainty in (found[..., 5] for found in outputs(small)))


def test_the_logistic_function_goes_into_the_convolution() -> None:
    head = "[yolo]\nclasses=2\nnum=2\nanchors=4,5,8,9\nnew_coords=1\nscale_x_y=2\nlogistic=1\nbox_weight=2\n"
    network = network_of(f"{STEM}{TWO_BRANCHES}[convolutional]\nfilters=14\nsize=1\nactivation=linear\n{head}")
    small = reparameterised(network)
    assert small.layers[-2].options.activation == "logistic"
    assert not {"logistic", "box_weight"} & set(small.cfg.sections[-1].first)  # words that Darknet does not know
    assert_equal_outputs(network, small)


def test_comments_and_keys_which_speak_of_the_other_network_go() -> None:
    small = reparameterised(network_of(f"# 6 layers\n{STEM}key=stem\n{TWO_BRANCHES}"))
    assert [line for line in small.cfg.lines if line.startswith("#")] == small.cfg.lines[:1]
    assert "key" not in small.cfg.text


def test_the_command_writes_a_pair_that_loads(tmp_path: Path) -> None:
    network = network_of(
        f"{STEM}{TWO_BRANCHES}{THREE_BRANCHES.replace('filters=8', 'filters=12')}{HEAD.format('', '')}"
    )
    (tmp_path / "a.cfg").write_text(network.cfg.text)
    network.save_weights(tmp_path / "a.weights")
    command = ("-m", "darknet_py.convert", "a.weights", "--cfg", "a.cfg", "--deploy", "--out", "b.weights")
    done = python(*command, "--out-cfg", "b.cfg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    small = load(tmp_path / "b.cfg", tmp_path / "b.weights")
    assert kinds(small) == ["convolutional"] * 4 + ["anchor_free"]
    assert_equal_outputs(network, small)
