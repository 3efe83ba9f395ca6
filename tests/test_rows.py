"""A layer may give several rows for an image, as region proposals do: the layers after it go through all of them.

[corners], defined here, gives the four quarters of a map, each as a row of its own.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from darknet_py import CfgError, Network
from darknet_py.cfg import parse_text
from darknet_py.layers import KINDS, Layer, Place, Shape
from darknet_py.layers.layer import LayerOptions

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
TRUNK = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
CLASSIFIER = TRUNK + "[connected]\noutput=5\nactivation=linear\n[softmax]\n"
DETECTOR = TRUNK + "[convolutional]\nfilters=7\nactivation=linear\n[yolo]\nnum=1\nanchors=2,2\nclasses=2\n"


class Corners(Layer):
    kind = "corners"
    own_rows = True

    def __init__(self, options: LayerOptions, place: Place) -> None:
        super().__init__(options, place)
        shape = place.image()
        self.shape = Shape.image(shape.c, shape.h // 2, shape.w // 2)._replace(rows=4 * shape.rows)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) → (4n, c, h/2, w/2): of each image left top, right top, left bottom, right bottom."""
        quarters = x.unflatten(3, (2, -1)).unflatten(2, (2, -1)).permute(0, 2, 4, 1, 3, 5)
        return quarters.flatten(0, 2)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind exists in these tests only."""
    monkeypatch.setitem(KINDS, "corners", Corners)


def build(text: str, size: int = 8) -> Network:
    network = Network(parse_text(NET + text, "my.cfg"), size=(size, size)).initialise(1).eval().requires_grad_(False)
    for layer in network.layers:
        if getattr(layer, "rolling_variance", None) is not None:
            layer.rolling_variance.fill_(1)
    return network


def quarters_of(images: Tensor) -> Tensor:
    return torch.stack(
        [image[:, y : y + 4, x : x + 4] for image in images for y, x in ((0, 0), (0, 4), (4, 0), (4, 4))]
    )


@pytest.mark.parametrize("tail", [CLASSIFIER, DETECTOR])
def test_the_layers_after_it_run_on_every_row(tail: str) -> None:
    network, alone = build("[corners]\n" + tail), build(tail, size=4)
    assert [layer.shape.rows for layer in network.layers] == [4] * len(network.layers)
    assert [layer.shape[:4] for layer in network.layers[1:]] == [layer.shape[:4] for layer in alone.layers]
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(2))
    (output,), (expected,) = network(images), alone(quarters_of(images))
    assert output.shape[0] == 2 * 4
    assert torch.allclose(output, expected, atol=1e-6)


def test_rows_multiply() -> None:
    network = build("[corners]\n[corners]\n[connected]\noutput=2\n")
    assert [layer.shape.rows for layer in network.layers] == [4, 16, 16]
    assert network(torch.rand(3, 3, 8, 8))[0].shape == (3 * 16, 2, 1, 1)


def test_a_head_decodes_the_boxes_of_every_row() -> None:
    network = build("[corners]\n" + DETECTOR)
    (raw,) = network(torch.rand(2, 3, 8, 8))
    candidates = network.head_layers()[0].decode(raw, 0.0, network.size)
    assert candidates.image.unique().tolist() == list(range(2 * 4))


@pytest.mark.parametrize(
    ("section", "line"), [("[route]\nlayers=1,3\n", 16), ("[shortcut]\nfrom=1\n", 16), ("[sam]\nfrom=1\n", 16)]
)
def test_layers_of_different_rows_do_not_meet(section: str, line: int) -> None:
    half = "[convolutional]\nfilters=3\nsize=2\nstride=2\n"
    text = f"[convolutional]\nfilters=3\n[corners]\n[route]\nlayers=0\n{half}\n\n{section}"
    with pytest.raises(CfgError) as error:
        build(text)
    name = section.split("\n")[0]
    rows = "layer 1: 4, layer 3: 1" if name == "[route]" else "layer 3: 1, layer 1: 4"
    text = f"the layers that it reads have different numbers of rows per image ({rows})"
    assert str(error.value) == f"my.cfg:{line}: {name}: {text}"
