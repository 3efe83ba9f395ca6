"""Heads that are trained together fit each other: training says at the line where one does not."""

from __future__ import annotations

import pytest

from darknet_py import CfgError, Network
from darknet_py.cfg import parse_text
from darknet_py.training.step import Trainer

NET = "[net]\nwidth=64\nheight=64\nchannels=3\nbatch=2\n"
POINTS = "[convolutional]\nfilters=7\nstride={stride}\nactivation=linear\n[anchor_free]\nclasses=3\n{options}\n"
BOXES = (
    "[convolutional]\nfilters=16\nstride={stride}\nactivation=linear\n"
    "[yolo]\nclasses=3\nnum=2\nanchors=9,9,20,20\nloss=yolov5\n{options}\n"
)


def start(text: str) -> None:
    Trainer(Network(parse_text(NET + text, "my.cfg")).initialise(0))


def beside(head: str, stride: int, options: str) -> str:
    """A head, and an auxiliary one that reads the input as it does."""
    return head.format(stride=8, options="") + "[route]\nlayers=0\n" + head.format(stride=stride, options=options + "\naux_of=1")


@pytest.mark.parametrize("head", [POINTS, BOXES], ids=["anchor_free", "yolo"])
@pytest.mark.parametrize(
    ("stride", "options", "message"),
    [
        (2, "", "its map is 4 x 4, that of layer 1, which it helps to train, 8 x 8; make them equal"),
        (1, "loss={other}", "layer 1 has another loss; write loss={other} there"),
    ],
)
def test_an_auxiliary_head_has_the_map_and_the_loss_of_its_lead_head(
    head: str, stride: int, options: str, message: str
) -> None:
    other = "yolov6" if head is POINTS else "giou"
    text = beside(head, stride, options.format(other=other)).replace(f"loss=yolov5\nloss={other}", f"loss={other}")
    start(beside(head, 1, ""))
    with pytest.raises(CfgError, match=rf"my\.cfg:\d+: \[{head.split('[')[2].split(']')[0]}\] aux_of=1: ") as error:
        start(text)
    assert str(error.value).endswith(message.format(other=other))


def test_boxes_of_an_auxiliary_head_without_anchors_may_have_another_form() -> None:
    """As in YOLOv6, whose auxiliary heads have no distributions."""
    aided = "[route]\nlayers=0\n" + POINTS.format(stride=1, options="aux_of=1").replace("filters=7", "filters=19")
    start(POINTS.format(stride=8, options="") + aided.replace("classes=3", "classes=3\nreg_max=3"))
