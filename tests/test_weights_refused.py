"""Invalid weights files are refused with a message, and a failed write leaves the old file as it was."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
import torch
from disk import full_disk
from kit import KIT, needs_kit
from weight_files import ERRORS, GOOD, NEEDED, NET, header, network, value

import darknet_py
from darknet_py.errors import CfgWarning, WeightsError
from darknet_py.weights import load_weights

# --------------------------------------------------------------------------------------------------------- wrong files

CUTOFF = " To train from weights of other classes, load the layers before the classes: --cutoff 2"
NOT_WEIGHTS = "not a .weights file: its first bytes"
WRONG = {
    "4 bytes short": (
        GOOD[:-4],
        f"{NEEDED - 4} bytes, but my.cfg needs {NEEDED}: the file ends 4 bytes early, "
        "inside layer 2 (convolutional, weights). Wrong cfg (other classes or filters), or a cut-off download?"
        f"{CUTOFF}",
    ),
    "1 byte short": (
        GOOD[:-1],
        f"{NEEDED - 1} bytes, but my.cfg needs {NEEDED}: the file ends 1 byte early, "
        "inside layer 2 (convolutional, weights). Wrong cfg (other classes or filters), or a cut-off download?"
        f"{CUTOFF}",
    ),
    "cut in the middle of a tensor": (
        GOOD[: 20 + 4 * 7],
        f"48 bytes, but my.cfg needs {NEEDED}: the file ends {NEEDED - 48} bytes early, "
        "inside layer 0 (convolutional, rolling_variance). "
        "Wrong cfg (other classes or filters), or a cut-off download?",
    ),
    "cut before a layer": (
        GOOD[: 20 + 4 * 14],
        f"76 bytes, but my.cfg needs {NEEDED}: the file ends just before layer 2 (convolutional). "
        "If it is a backbone, train from it with --cutoff 2 (load: cutoff=2); "
        "or else wrong cfg, or a cut-off download?",
    ),
    "4 bytes too long": (
        GOOD + bytes(4),
        f"{NEEDED + 4} bytes, but my.cfg needs {NEEDED}: 4 bytes are left over after layer 2. "
        f"Wrong cfg (other classes or filters, or fewer layers)?{CUTOFF}",
    ),
    "empty": (b"", "0 bytes; too short even for the header (16 bytes); did the download fail?"),
    "10 bytes": (GOOD[:10], "10 bytes; too short even for the header (16 bytes); did the download fail?"),
    "18 bytes": (GOOD[:18], "18 bytes; the header of version 0.2 has 20; did the download fail?"),
    "a PNG image": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01",
        NOT_WEIGHTS + r" b'\x89PNG\r\n\x1a\n' are not a version number (this is an image)",
    ),
    "a JPEG image": (
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
        NOT_WEIGHTS + r" b'\xff\xd8\xff\xe0\x00\x10JF' are not a version number (this is an image)",
    ),
    "a zip": (
        b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(20),
        NOT_WEIGHTS + r" b'PK\x03\x04\x14\x00\x00\x00' are not a version number (this is a zip or PyTorch file; "
        "the weights of a NAME_last.checkpoint are in NAME_last.weights)",
    ),
    "a web page": (
        b"\n<!DOCTYPE html>\n<html><head>",
        NOT_WEIGHTS + r" b'\n<!DOCTY' are not a version number (this is a web page)",
    ),
    "a git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
        NOT_WEIGHTS + " b'version ' are not a version number (this is a git-lfs pointer)",
    ),
    "a cfg": (
        b"[net]\nwidth=416\nheight=416\n",
        NOT_WEIGHTS + r" b'[net]\nwi' are not a version number (this is a .cfg)",
    ),
    "a gzip": (
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(20),
        NOT_WEIGHTS + r" b'\x1f\x8b\x08\x00\x00\x00\x00\x00' are not a version number (this is a gzip file)",
    ),
    "something else": (
        bytes(range(100, 140)),
        NOT_WEIGHTS + " b'defghijk' are not a version number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    data, message = WRONG[what]
    path = tmp_path / "my.weights"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as error:
        load_weights(network(ERRORS), path)
    assert str(error.value) == f"{path}: {message}"


def test_nothing_is_loaded_from_a_wrong_file(tmp_path: Path) -> None:
    model = network(ERRORS).initialise(1)
    before = value(model, "0.weights").clone()
    (tmp_path / "my.weights").write_bytes(GOOD[:-4])
    with pytest.raises(WeightsError):
        load_weights(model, tmp_path / "my.weights")
    assert torch.equal(value(model, "0.weights"), before)
    assert model.seen == 0


def test_a_header_alone_is_no_backbone(tmp_path: Path) -> None:
    """`cutoff=0` would load nothing at all: no advice."""
    (tmp_path / "my.weights").write_bytes(header())
    with pytest.raises(WeightsError) as error:
        load_weights(network(ERRORS), tmp_path / "my.weights")
    assert "cutoff" not in str(error.value)


def test_of_a_longer_file_the_layers_before_the_cutoff_are_read(tmp_path: Path) -> None:
    (tmp_path / "my.weights").write_bytes(GOOD)
    whole, part = network(ERRORS), network(ERRORS)
    load_weights(whole, tmp_path / "my.weights")
    text = f"{tmp_path / 'my.weights'}: 36 bytes are left over after layer 0, not read because of cutoff=1"
    with pytest.warns(CfgWarning, match=re.escape(text)):
        load_weights(part, tmp_path / "my.weights", cutoff=1)
    assert torch.equal(value(part, "0.weights"), value(whole, "0.weights"))


@pytest.mark.parametrize("ending", ["weights", "safetensors"])
@pytest.mark.parametrize("name", ["missing", "folder", "missing/my"])
def test_a_file_that_cannot_be_read_is_named(name: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"folder.{ending}").mkdir()
    path = tmp_path / f"{name}.{ending}"
    with pytest.raises(WeightsError, match=re.escape(f"{path}: cannot read this file: ")):
        load_weights(network(ERRORS), path)


@needs_kit
def test_another_models_weights_are_refused() -> None:
    real = KIT / "real"
    cfg = next((real / "yolo-fastest-1.1").glob("*.cfg"))
    weights = next((real / "yolo-fastest-1.1-xl").glob("*.weights"))
    with pytest.raises(
        WeightsError, match=re.escape(f"{weights}: 3693964 bytes, but {cfg} needs 1384268: 2309696 bytes are left over")
    ):
        darknet_py.load(cfg, weights)
    with pytest.raises(WeightsError, match=r"ends \d+ bytes early, inside layer \d+ \(convolutional, \w+\)"):
        darknet_py.load(
            next((real / "yolo-fastest-1.1-xl").glob("*.cfg")), next((real / "yolo-fastest-1.1").glob("*.weights"))
        )


# -------------------------------------------------------------------------------------------------- writing that fails


def saved(path: Path) -> bytes:
    """A good file at this place, as it was before a writing that fails."""
    network(ERRORS).initialise(1).save_weights(path)
    return path.read_bytes()


BODY = "[convolutional]\nfilters=4\n"  # layer 0
LATER_CHANNELS = {  # layer 1 depends on the classes, and a layer with weights follows before the head
    "factors": BODY
    + "[convolutional]\nfilters={yolo}\n[implicit_mul]\n[yolo]\nnum=1\nanchors=8,8\nclasses={classes}\n",
    "branches": BODY + "[convolutional]\nfilters={classes}\n[route]\nlayers=0\n[convolutional]\nfilters=4\n"
    "[route]\nlayers=3,1\n[anchor_free]\nclasses={classes}\n",
}


@pytest.mark.parametrize("name", LATER_CHANNELS)
def test_the_cutoff_for_other_classes_is_before_all_layers_that_depend_on_them(name: str, tmp_path: Path) -> None:
    five, three = (
        network(NET + LATER_CHANNELS[name].format(classes=classes, yolo=classes + 5)).initialise(classes)
        for classes in (5, 3)
    )
    five.save_weights(tmp_path / "five.weights")
    with pytest.raises(WeightsError, match=r"load the layers before the classes: --cutoff 1$"):
        load_weights(three, tmp_path / "five.weights")


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_full_disk_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    old = saved(tmp_path / name)
    large = network(NET + "[connected]\noutput=5000\n").initialise(1)  # 980 kB
    with (
        full_disk(100_000),
        pytest.raises(WeightsError, match=re.escape(f"{tmp_path / name}: cannot write this file: ")),
    ):
        large.save_weights(tmp_path / name)
    assert (tmp_path / name).read_bytes() == old
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_a_failure_at_the_last_moment_leaves_the_old_file(
    failure: BaseException, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved(tmp_path / name)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(WeightsError if isinstance(failure, OSError) else KeyboardInterrupt):
        network(ERRORS).initialise(2).save_weights(tmp_path / name)
    assert (tmp_path / name).read_bytes() == old
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_folder_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / name
    with pytest.raises(WeightsError, match=re.escape(f"{path}: cannot write this file: ")):
        network(ERRORS).initialise(1).save_weights(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["my.weights", "my.safetensors"])
def test_a_folder_in_the_files_place_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(WeightsError, match="cannot write this file"):
        network(ERRORS).initialise(1).save_weights(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_place_that_has_no_name_is_refused(name: str) -> None:
    with pytest.raises(WeightsError):
        network(ERRORS).initialise(1).save_weights(name)
