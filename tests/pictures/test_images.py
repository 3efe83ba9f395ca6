"""Images reach the network as in the C program: its resize, its letterbox, to float32's last digits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from kit import CASES, KIT, needs_cases, needs_kit, read_json
from PIL import Image
from project import ROOT

from darknet_py.errors import ImageError
from darknet_py.pictures import on_device, resize
from darknet_py.pictures.fit import DarknetFit
from darknet_py.pictures.header import check_pixels
from darknet_py.pictures.read import as_image, read_image
from darknet_py.pictures.threads import batched, read_ahead

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
    ours = (resize.resize if kind == "resize" else resize.letterbox)(source, width, height)
    assert np.abs(ours.transpose(2, 0, 1) - kit[case]).max() <= TOLERANCE


@needs_kit
def test_the_last_row_is_black_where_darknets_rounding_makes_it_so() -> None:
    for height, target, value in read_json("misc", "resize_last_row")["cases"]:
        ours = resize.resize(np.ones((height, 5, 1), np.float32), 5, target)
        assert abs(float(ours[-1].max()) - value) <= 1e-7, (height, target)
        assert ours[:-1].min() > 0.99


@needs_kit
@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_a_photograph(fit: str) -> None:
    kit = np.load(KIT / "real" / "expected" / f"dog_input_{fit}_320x320.npz")
    expected = kit[kit.files[0]].reshape(3, 320, 320)
    image = read_image(KIT / "real" / "images_stb_png" / "dog.png")
    ours = getattr(resize, fit)(image, 320, 320).transpose(2, 0, 1)
    assert np.abs(ours - expected).max() <= TOLERANCE


def test_large_images_read_only_the_rows_that_count() -> None:
    image = np.random.default_rng(0).integers(0, 256, (301, 97, 3), dtype=np.uint8)
    small = resize.resize(image, 40, 50)
    rows = np.float32(image) / np.float32(255)
    first, second, weight = resize.taps(301, 50, True)
    left, right, across = resize.taps(97, 40, False)
    narrow = rows[:, left] * (1 - across)[:, None] + rows[:, right] * across[:, None]
    expected = narrow[first] * (1 - weight)[:, None, None] + narrow[second] * weight[:, None, None]
    assert np.abs(small[:-1] - expected[:-1]).max() <= TOLERANCE


@pytest.mark.parametrize("keeps_aspect", [False, True])
@pytest.mark.parametrize("sizes", [[(301, 97)] * 2, [(20, 31), (64, 48), (300, 1)]])
def test_a_gpu_would_fit_images_with_the_same_numbers(sizes: list[tuple[int, int]], keeps_aspect: bool) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    fit = DarknetFit(keeps_aspect)
    made = on_device.fitted(images, fit, 48, 64, torch.device("cpu"))
    assert made.shape == (len(images), 3, 64, 48)
    for image, one in zip(images, made, strict=True):
        np.testing.assert_array_equal(one.permute(1, 2, 0).numpy(), fit(image, 48, 64))


@pytest.mark.parametrize(("dtype", "maximum"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_of_8_and_16_bits_and_any_channels(tmp_path: Path, dtype: type, maximum: int, channels: int) -> None:
    image = np.random.default_rng(1).integers(0, maximum + 1, (9, 7, channels)).astype(dtype)
    stored = image if channels == 1 else cv2.cvtColor(image, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[channels])
    path = tmp_path / "ïmage.png"
    path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    read = read_image(path, channels)
    np.testing.assert_array_equal(read, image)
    np.testing.assert_allclose(resize.resize(read, 7, 9), image / maximum, atol=1e-6)


def test_arrays_and_tensors_are_images() -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    assert as_image(array, 3) is array
    assert as_image(torch.zeros(3, 4, 6), 3).shape == (4, 6, 3)
    assert as_image(np.zeros((4, 6), np.uint8), 3).shape == (4, 6, 3)
    assert as_image(array, 1).shape == (4, 6, 1)
    assert as_image(np.zeros((4, 6, 4), np.uint8), 3).shape == (4, 6, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 6, 3), np.int32), np.zeros(5), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 6, 2), np.uint8)]
)
def test_what_is_not_an_image(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError):
        as_image(wrong, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 torn"])
def test_files_that_are_not_images(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"wrong\.jpg: cannot read this image"):
        read_image(path)


def test_images_are_read_ahead_in_order_and_an_unreadable_one_is_its_error() -> None:
    def read(path: str) -> int:
        time.sleep(0.002 * (3 - int(path) % 3))
        if path == "4":
            raise ImageError("4: torn")
        return 10 * int(path)

    paths = [str(number) for number in range(9)]
    contents = dict(read_ahead(paths, read, ahead=4))
    assert list(contents) == paths
    assert isinstance(contents.pop("4"), ImageError)
    assert all(content == 10 * int(path) for path, content in contents.items())
    assert list(read_ahead([], read, ahead=4)) == []


def test_reading_ahead_stops_with_its_reader() -> None:
    begun = []
    reader = read_ahead(map(str, range(1000)), begun.append, ahead=3)
    next(reader)
    reader.close()
    assert len(begun) <= 4


def test_any_other_error_of_reading_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(["a"], lambda _: 1 / 0, ahead=1))


def test_batches_have_so_many_items_but_the_last() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 255.0), "values from 0 to 255; floats go from 0"),
        ((-1.0, 1.0), "values from -1 to 1"),
        ((0.0, np.nan), "not finite"),
        ((0.0, np.inf), "not finite"),
    ],
)
@pytest.mark.parametrize("tensor", [False, True])
def test_floats_beyond_0_and_1_are_refused(values: tuple[float, float], message: str, tensor: bool) -> None:
    image = np.full((3, 4, 3), values[0], np.float32)
    image[0, 0, 0] = values[1]
    with pytest.raises(ImageError, match=message):
        as_image(torch.from_numpy(image).permute(2, 0, 1) if tensor else image, 3)


def test_floats_of_any_precision_are_images() -> None:
    image = np.random.default_rng(0).random((4, 6, 3))
    for array in (image, image.astype(np.float32), image.astype(np.float16)):
        np.testing.assert_allclose(as_image(array, 3), image, atol=1e-3)
    half = torch.from_numpy(image).permute(2, 0, 1).bfloat16().requires_grad_()
    np.testing.assert_allclose(as_image(half, 3), image, atol=1e-2)


RGB = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_pil_images_of_every_mode_show_what_pil_shows(mode: str) -> None:
    image = Image.fromarray(RGB)
    for step in {"PA": ["P", "PA"], "La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode]):
        image = image.convert(step)
    expected = np.asarray((image.convert("LA") if mode == "La" else image).convert("RGB"))
    np.testing.assert_array_equal(as_image(image, 3), expected)
    assert as_image(image, 1).shape == (9, 7, 1)
    assert as_image(image, 4).shape == (9, 7, 4)


def test_a_palette_with_transparency_keeps_it() -> None:
    image = Image.fromarray(RGB[..., 0] // 128).convert("P")
    image.info["transparency"] = 0
    np.testing.assert_array_equal(as_image(image, 4), np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_pil_images_of_16_bits(mode: str) -> None:
    values = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)
    image = Image.fromarray(values)
    if mode == "I":
        image = Image.fromarray(values.astype(np.int32))
    elif mode == "I;16B":
        image = Image.frombytes("I;16B", (10, 6), values.astype(">u2").tobytes())
    assert image.mode == mode
    assert as_image(image, 1).dtype == np.uint16
    np.testing.assert_array_equal(as_image(image, 1)[..., 0], values)


def test_pil_images_of_floats_are_held_to_the_rule_of_floats() -> None:
    values = np.random.default_rng(0).random((6, 10), np.float32)
    np.testing.assert_array_equal(as_image(Image.fromarray(values), 1)[..., 0], values)
    with pytest.raises(ImageError, match="divide by the white value"):
        as_image(Image.fromarray(values * 255), 3)
    with pytest.raises(ImageError, match=r"values -1 to -1; 0\.\.65535"):
        as_image(Image.fromarray(np.full((2, 2), -1, np.int32)), 3)


@needs_cases
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f32.tiff", "values from 0 to 254; floats go from 0"),
        ("i16.tiff", "values of type int16; use uint8, uint16, or float"),
        ("i8.tiff", "values of type int8"),
    ],
)
def test_files_whose_values_have_no_known_white_are_refused(name: str, message: str) -> None:
    with pytest.raises(ImageError, match=rf"{name}: {message}"):
        read_image(CASES / "hostile" / name)


def test_float_files_from_0_to_1_are_images(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((6, 10, 3), np.float32)
    cv2.imwrite(str(tmp_path / "x.tiff"), values[..., ::-1])
    np.testing.assert_allclose(read_image(tmp_path / "x.tiff"), values, atol=1e-6)


def test_a_damaged_pil_image_is_an_image_error(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:2000])
    with (
        Image.open(tmp_path / "x.jpg") as torn,
        pytest.raises(ImageError, match=r"mode RGB cannot be read: .*truncated"),
    ):
        as_image(torn, 3)


def test_the_limit_of_pixels_holds_for_gif_and_may_be_written_as_opencv_takes_it() -> None:
    header = b"GIF89a" + (60000).to_bytes(2, "little") * 2 + bytes(20)
    with pytest.raises(ImageError, match="60000x60000 pixels"):
        check_pixels(header, "x.gif")
    for text, pixels in (("512MB", 512 << 20), ("1000", 1000)):
        command = [sys.executable, "-c", "from darknet_py.pictures.header import MAX_PIXELS; print(MAX_PIXELS)"]
        environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": text}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
        assert int(done.stdout) == pixels
