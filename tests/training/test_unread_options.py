"""Training names options of the cfg that the chosen loss, augmentation, optimizer or schedule does not read."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from project import CFGS

from darknet_py.cfg import parse_cfg
from darknet_py.network import Network
from darknet_py.training.step import Trainer

CFG = """[net]
batch=4
width=64
height=64
channels=3
{net}
[convolutional]
filters=22
activation=linear
[yolo]
classes=6
num=2
anchors=10,10,20,20
{head}
"""


def warned(path: Path) -> list[str]:
    """What training says of options without effect, before it begins."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(Network(parse_cfg(path)))
    return [text for warning in caught if "it has no effect with" in (text := str(warning.message))]


@pytest.mark.parametrize(
    ("net", "head", "message"),
    [
        ("augmentation=yolox\nhue=.1", "", "7: [net] hue=.1: it has no effect with augmentation=yolox"),
        ("augmentation=yolox\nmixup=1", "", "7: [net] mixup=1: it has no effect with augmentation=yolox"),
        ("augmentation=yolov8\npaste_in_probability=.1", "",
         "7: [net] paste_in_probability=.1: it has no effect with augmentation=yolov8"),
        ("augmentation=yolov5\npaste_in_probability=.1", "",
         "7: [net] paste_in_probability=.1: it has no effect with augmentation=yolov5"),
        ("augmentation=yolov6\nperspective=.001", "",
         "7: [net] perspective=.001: it has no effect with augmentation=yolov6"),
        ("augmentation=mmdet\nmosaic=1", "", "7: [net] mosaic=1: it has no effect with augmentation=mmdet"),
        ("augmentation=yolov5", "jitter=.3", "14: [yolo] jitter=.3: it has no effect with augmentation=yolov5"),
        ("", "box_weight=2", "14: [yolo] box_weight=2: it has no effect with loss=darknet"),
        ("", "anchor_t=3", "14: [yolo] anchor_t=3: it has no effect with loss=darknet"),
        ("", "loss=grid\nanchor_t=3\nmin_pos_iou=.1", "15: [yolo] anchor_t=3: it has no effect with loss=grid"),
        ("mixup_probability=.1", "", "6: [net] mixup_probability=.1: it has no effect with augmentation=darknet"),
        ("ema_ramp=10", "", "6: [net] ema_ramp=10: it has no effect with ema_alpha=0.0"),
        ("optimizer=adamw\nnesterov=1", "", "7: [net] nesterov=1: it has no effect with optimizer=adamw"),
        ("optimizer=adamw\nburn_in_momentum=.8", "",
         "7: [net] burn_in_momentum=.8: it has no effect with optimizer=adamw"),
        ("burn_in_bias_rate=.1", "", "6: [net] burn_in_bias_rate=.1: it has no effect with policy=constant"),
        ("policy=warmcos\npolicy_delay=1", "", "7: [net] policy_delay=1: it has no effect with policy=warmcos"),
        ("optimizer=sgd\naccumulate_modulo=1", "",
         "7: [net] accumulate_modulo=1: it has no effect with nominal_batch=0"),
        ("ema_ramp=10\nema_alpha=.9\npolicy=cosine\npolicy_delay=1\nburn_in_bias_rate=.1\nburn_in_momentum=.8",
         "", None),
        ("augmentation=yolov7\npaste_in_probability=.1\nangle=0", "", None),
        ("angle=0\nmosaic=1", "jitter=.3\nresize=1.5", None),
    ],
)  # fmt: skip
def test_an_option_that_nobody_reads_is_named(tmp_path: Path, net: str, head: str, message: str | None) -> None:
    path = tmp_path / "my.cfg"
    path.write_text(CFG.format(net=net, head=head))
    assert warned(path) == ([] if message is None else [f"{path}:{message}"])


@pytest.mark.parametrize("cfg", sorted(CFGS.glob("*.cfg")), ids=lambda path: path.stem)
def test_no_bundled_cfg_writes_an_option_without_effect(cfg: Path) -> None:
    assert warned(cfg) == []
