"""How levels of an image become values of the network's input: order, range, mean and deviation of the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from project import CFGS

from darknet_py import Detector
from darknet_py.cfg import parse_text
from darknet_py.data.preview import preview
from darknet_py.data.samples import ImageBatch
from darknet_py.errors import CfgError
from darknet_py.network import Network
from darknet_py.pictures.levels import Levels

CAFFE = Levels("bgr", 255, (102.9801, 115.9465, 122.7717))
TORCHVISION = Levels("rgb", 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ALL = [Levels(), Levels("bgr", 255), CAFFE, TORCHVISION, Levels(mean=(0.5,), deviation=(0.25,))]
PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def test_py_faster_rcnns_input_is_blue_first_minus_a_mean() -> None:
    values = CAFFE.values(np.array([[[255, 0, 10]]], np.uint8))
    assert values.dtype == np.float32
    assert np.allclose(values, [[[10 - 102.9801, 0 - 115.9465, 255 - 122.7717]]], atol=1e-5)


def test_torchvisions_input_is_minus_a_mean_divided_by_a_deviation() -> None:
    values = TORCHVISION.values(np.array([[[255, 0, 51]]], np.uint8))
    assert np.allclose(values, [[[(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]]], atol=1e-6)


@pytest.mark.parametrize("levels", ALL, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_detection_training_and_exported_models_read_the_same_values(levels: Levels, dtype: type) -> None:
    white = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    picture = (PICTURE / 255 * white).round(0 if white > 1 else 8).astype(dtype)
    values = levels.values(picture)
    planes = np.empty((3, 5, 7), np.float32)
    levels.fill(planes, picture)
    assert np.allclose(planes.transpose(1, 2, 0), values, rtol=1e-6, atol=1e-6)
    of_bytes = levels.values_of_bytes(torch.from_numpy(PICTURE)[None])
    assert np.allclose(of_bytes[0].permute(1, 2, 0).numpy(), values, rtol=1e-5, atol=1e-5)
    assert np.array_equal(levels.bytes_of_values(of_bytes)[0].numpy(), PICTURE)


def test_a_single_number_holds_for_all_channels_and_grey_has_no_order() -> None:
    grey = PICTURE[..., :1]
    assert np.allclose(Levels("bgr", 255, (3.0,)).values(grey), grey.astype(np.float32) - 3)


def detector_of(options: str, path: Path) -> Detector:
    text = (CFGS / "shapes.cfg").read_text().replace("[net]\n", f"[net]\n{options}", 1)
    return Detector(Network(parse_text(text, str(path))))


def test_a_detector_gives_the_network_these_values(tmp_path: Path) -> None:
    cfg = tmp_path / "a.cfg"
    plain, normalised = detector_of("", cfg), detector_of("input_mean=.5,.25,0\ninput_deviation=2\n", cfg)
    image = np.random.default_rng(1).integers(0, 256, (144, 160, 3)).astype(np.uint8)
    mean = torch.tensor((0.5, 0.25, 0)).view(3, 1, 1)
    assert torch.allclose(normalised.prepare([image]), (plain.prepare([image]) - mean) / 2, atol=1e-6)


@pytest.mark.parametrize("option", ["input_mean=1,2", "input_deviation=1,2,3,4"])
def test_as_many_numbers_as_channels(option: str, tmp_path: Path) -> None:
    with pytest.raises(CfgError, match=r"\[net\] .*numbers for 3 channels; write one for each, or a single one"):
        detector_of(f"{option}\n", tmp_path / "a.cfg")


def test_a_deviation_of_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CfgError, match=r"input_deviation"):
        detector_of("input_deviation=1,0,1\n", tmp_path / "a.cfg")


@pytest.mark.parametrize("levels", ALL, ids=str)
def test_a_preview_shows_the_images_as_they_were(levels: Levels) -> None:
    planes = np.empty((1, 3, 5, 7), np.float32)
    levels.fill(planes[0], PICTURE)
    batch = ImageBatch(torch.from_numpy(planes), torch.zeros(1, 1, 5), ["one.png"])
    assert np.array_equal(preview(batch, ["a"], levels=levels), PICTURE)
