"""Pictures reach the network as in the C program: its resize, its letterbox, to float32's last digits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kit import KIT, needs_kit, read_json

from darknet_py.errors import ImageError
from darknet_py.pictures import images

TOLERANCE = (
    5e-7  # float32, values in 0..1: bytes are divided by 255 after blending, not before; two units in the last place
)


def ops(kind: str) -> list[str]:
    path = KIT / "misc" / "image_ops.npz"
    return (
        [key for key in np.load(path).files if key.startswith(kind) and "last" not in key]
        if path.is_file()
        else ["(no kit)"]
    )


@needs_kit
@pytest.mark.parametrize("case", ops("resize") + ops("letterbox"))
def test_resize_and_letterbox(case: str) -> None:
    kit = np.load(KIT / "misc" / "image_ops.npz")
    kind, size = case.split("_")
    width, height = map(int, size.split("x"))
    source = np.ascontiguousarray(kit["src_u8"].transpose(1, 2, 0))
    ours = (images.resize if kind == "resize" else images.letterbox)(source, width, height)
    assert np.abs(ours.transpose(2, 0, 1) - kit[case]).max() <= TOLERANCE


@needs_kit
def test_the_last_row_is_black_where_darknets_rounding_makes_it_so() -> None:
    for given, wanted, value in read_json("misc", "resize_last_row")["cases"]:
        ours = images.resize(np.ones((given, 5, 1), np.float32), 5, wanted)
        assert abs(float(ours[-1].max()) - value) <= 1e-7, (given, wanted)
        assert ours[:-1].min() > 0.99


@needs_kit
@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_a_photograph(fit: str) -> None:
    kit = np.load(KIT / "real" / "expected" / f"dog_input_{fit}_320x320.npz")
    expected = kit[kit.files[0]].reshape(3, 320, 320)
    picture = images.read_image(KIT / "real" / "images_stb_png" / "dog.png")
    ours = getattr(images, fit)(picture, 320, 320).transpose(2, 0, 1)
    assert np.abs(ours - expected).max() <= TOLERANCE


def test_large_pictures_read_only_the_rows_that_count() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (301, 97, 3), dtype=np.uint8)
    small = images.resize(picture, 40, 50)
    rows = np.float32(picture) / np.float32(255)
    first, second, weight = images._taps(301, 50, True)
    left, right, across = images._taps(97, 40, False)
    part = rows[:, left] * (1 - across)[:, None] + rows[:, right] * across[:, None]
    expected = part[first] * (1 - weight)[:, None, None] + part[second] * weight[:, None, None]
    assert np.abs(small[:-1] - expected[:-1]).max() <= TOLERANCE


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_of_8_and_16_bits_and_any_channels(tmp_path: Path, dtype: type, most: int, channels: int) -> None:
    picture = np.random.default_rng(1).integers(0, most + 1, (9, 7, channels)).astype(dtype)
    stored = (
        picture if channels == 1 else cv2.cvtColor(picture, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[channels])
    )
    path = tmp_path / "pïcture.png"
    path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    read = images.read_image(path, channels)
    np.testing.assert_array_equal(read, picture)
    np.testing.assert_allclose(images.resize(read, 7, 9), picture / most, atol=1e-6)


def test_arrays_and_tensors_are_pictures() -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    assert images.as_picture(array, 3) is array
    assert images.as_picture(torch.zeros(3, 4, 6), 3).shape == (4, 6, 3)
    assert images.as_picture(np.zeros((4, 6), np.uint8), 3).shape == (4, 6, 3)
    assert images.as_picture(array, 1).shape == (4, 6, 1)
    assert images.as_picture(np.zeros((4, 6, 4), np.uint8), 3).shape == (4, 6, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 6, 3), np.int32), np.zeros(5), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 6, 2), np.uint8)]
)
def test_what_is_no_picture(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError):
        images.as_picture(wrong, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 torn"])
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"wrong\.jpg: cannot read this picture"):
        images.read_image(path)
