"""The cfgs of other programs' networks have as many parameters as those programs count, in training and deployed."""

from __future__ import annotations

import pytest
import torch
from project import CFGS

from darknet_py.cfg import parse_cfg
from darknet_py.inference.deploy import deployed
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.network import Network

TRAINED = {
    "yolov5n": 1_872_157,  # "YOLOv5n summary: 214 layers, 1872157 parameters"
    "yolov5s": 7_235_389,  # "YOLOv5s summary: 214 layers, 7235389 parameters"
    # YOLOv6's state_dicts have 34 constants more. Of S and L, its program's figures are those of the deployed form.
    "yolov6n": 5_058_270 - 34,
    "yolov6s": 20_147_324,
    "yolov6m": 37_740_982 - 34,
    "yolov6l": 59_638_697,
    "yolov7-tiny-ota": 6_228_762,
    "yolov7-ota": 37_620_125 + 2_557,  # "Model Summary: 407 layers, 37620125 parameters" without the implicit layers
    "yolov7-w6": 82_312_436,  # "Model Summary: 477 layers, 82312436 parameters", with auxiliary heads
    "yolox-nano": 912_159,  # "0.91 M"
    "yolox-tiny": 5_055_855,  # "5.06 M"
    "yolox-s": 8_968_255,  # "8.97 M"
    "yolov8n": 3_157_184,  # "YOLOv8n summary: 225 layers, 3157200 parameters, 3157184 gradients": 16 constants
    "yolov8s": 11_166_544,  # "YOLOv8s summary: 225 layers, 11166560 parameters, 11166544 gradients"
    # VGG16 without its last layer, the proposals' layers for 9 anchors, and the outputs for 21 classes
    "faster-rcnn": 138_357_544 - 4_097_000 + (4608 + 1) * 512 + (512 + 1) * (18 + 36) + (4096 + 1) * (21 + 84),
    "faster-rcnn-small": 533_206,
    "yolov3-mmdet": 61_949_149,  # "Model Summary: 333 layers, 61949149 parameters", of ultralytics' YOLOv3
}
"""Parameters with a gradient, by cfg; the comments cite what the programs print or publish."""

DEPLOYED = {
    "yolov5n": (1_867_405, 0),  # "YOLOv5n summary: 213 layers, 1867405 parameters", with batch norms folded
    "yolov5s": (7_225_885, 0),
    "yolov6n": (4_700_000, 55_000),  # presumably rounded twice, by way of 4.65
    "yolov6s": (18_500_000, 50_000),
    "yolov6m": (34_900_000, 50_000),
    "yolov6l": (59_600_000, 50_000),
    "yolov7-tiny-ota": (6_219_709, 0),  # "Model Summary: 200 layers, 6219709 parameters"
    "yolov7-ota": (36_905_341, 0),  # "Model Summary: 306 layers, 36905341 parameters"
    "yolov7-w6": (70_400_000, 50_000),
}
"""The published number, and by how much it is rounded at most."""


@pytest.mark.parametrize("name", TRAINED)
def test_parameters_are_as_many_as_in_the_original_program(name: str) -> None:
    path = CFGS / f"{name}.cfg"
    with torch.device("meta"):
        network = Network(parse_cfg(path))
    count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert count == TRAINED[name]
    assert f" {count:,} parameters" in path.read_text(), "the comment at the top says another number"


@pytest.mark.parametrize("name", DEPLOYED)
def test_deployed_parameters_are_as_many_as_in_the_original_program(name: str) -> None:
    network = deployed(reparameterised(Network(parse_cfg(CFGS / f"{name}.cfg")).initialise(0).eval()))
    count, rounding = DEPLOYED[name]
    assert abs(sum(parameter.numel() for parameter in network.parameters()) - count) <= rounding
