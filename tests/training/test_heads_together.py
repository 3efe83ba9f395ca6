"""Heads that are trained together fit each other: training says at the line where one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_data import data_file, write_noise

from darknet_py import CfgError, Network
from darknet_py.cfg import parse_text
from darknet_py.training.material import open_material
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
    return (
        head.format(stride=8, options="")
        + "[route]\nlayers=0\n"
        + head.format(stride=stride, options=options + "\naux_of=1")
    )


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


def refusal_of_images(folder: Path, text: str) -> str:
    """What is said when the network is to be trained with images of two classes."""
    (folder / "train.txt").write_text(f"{write_noise(folder / 'one.png')}\n")
    with pytest.raises(CfgError) as error:
        open_material(data_file(folder, train=str(folder / "train.txt")), Network(parse_text(NET + text, "my.cfg")))
    return str(error.value)


def test_all_heads_have_the_same_classes(tmp_path: Path) -> None:
    other = BOXES.format(stride=1, options="").replace("classes=3", "classes=2").replace("filters=16", "filters=14")
    said = refusal_of_images(tmp_path, POINTS.format(stride=8, options="") + "[route]\nlayers=0\n" + other)
    assert said.startswith("my.cfg:20: [yolo] classes=2: it detects 2 classes, layer 1 ([anchor_free]) 3; write equal")


def test_proposals_are_trained_beside_a_head(tmp_path: Path) -> None:
    expected = "my.cfg:8: [rpn]: it is trained with the truths of a head, and there is none; write one, e.g. [roi_head]"
    assert refusal_of_images(tmp_path, "[convolutional]\nfilters=5\n[rpn]\nsizes=16\nratios=1\n") == expected
