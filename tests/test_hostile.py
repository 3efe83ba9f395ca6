"""Files made to break the program: each is read or refused with one sentence, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hostile import CASES, kind_of, read, small_network
from project import environment

from darknet_py.cfg import parse_text
from darknet_py.errors import CfgWarning
from darknet_py.network import Network
from darknet_py.pictures.header import header_size
from darknet_py.weights import load_weights, save_weights

LIMIT = 4096  # MB of address space, of which PyTorch takes the most
SECONDS, KILOBYTES = 300, 600_000  # for one file; machines are loaded


class Outcome(NamedTuple):
    result: str
    seconds: float
    kilobytes: int


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """All cases, read one after the other by one process with little memory."""
    script = Path(__file__).parent / "support" / "hostile.py"
    done = subprocess.run(
        [sys.executable, str(script), str(LIMIT)],
        input="\n".join(map(str, CASES)), env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {path: Outcome(*rest) for path, *rest in lines}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_a_hostile_file_is_read_or_refused_with_a_sentence(path: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[str(path)]
    assert outcome.result == "read" or outcome.result.startswith("refused: ")
    assert outcome.result.count("\n") == 0
    assert outcome.seconds < SECONDS
    assert outcome.kilobytes < KILOBYTES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
@pytest.mark.parametrize("name", ["pipe", "folder", "zero", "absent", "nul\0"])
@pytest.mark.parametrize(
    "kind", ["cfg", "ckpt", "coco", "image", "labels", "names", "pt", "safetensors", "voc", "weights"]
)
def test_what_is_not_a_file_is_refused_by_every_reader(kind: str, name: str, tmp_path: Path) -> None:
    """None of them waits for a pipe's writer, or reads a device without an end."""
    ending = f".{kind}" if kind in ("pt", "safetensors") else ""
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    os.symlink("/dev/zero", tmp_path / f"zero{ending}")
    result = read(kind, tmp_path / f"{name}{ending}")
    assert result.startswith("refused: ")
    assert "\n" not in result


def test_each_case_is_of_a_known_kind() -> None:
    for path in CASES:
        assert kind_of(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm", ".jp2"])
def test_the_size_of_an_image_is_read_from_its_header(suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 1053, 3), np.uint8)
    assert header_size(cv2.imencode(suffix, image)[1].tobytes()) == (1053, 37)


@pytest.mark.parametrize(("stride", "side"), [(1, 4), (2, 5), (3, 9)])
def test_a_window_larger_than_the_map_gives_what_one_with_all_its_padding_gives(stride: int, side: int) -> None:
    size = 4 * side
    text = f"[net]\nwidth={side}\nheight={side}\nchannels=2\n[maxpool]\nsize={size}\nstride={stride}\n"
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    before, more = (size - 1) // 2, size  # padding to the right is never too much
    count = (side - 1) // stride + 1
    padded = torch.nn.functional.pad(x, (before, more, before, more), value=-3e38)
    expected = torch.nn.functional.max_pool2d(padded, size, stride)[..., :count, :count]
    assert torch.equal(Network(parse_text(text))(x)[0], expected)


def test_weights_that_are_not_finite_are_named_by_layer(tmp_path: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network.layers[1].weights[0, 0] = float("nan")
    save_weights(network, tmp_path / "nan.weights")
    with pytest.warns(CfgWarning, match=r"not finite: layer 1 \(convolutional\) 1; was the loss"):
        load_weights(small_network(), tmp_path / "nan.weights")
