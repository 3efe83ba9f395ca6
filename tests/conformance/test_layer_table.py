"""The layer table is Darknet's: every value that the C program parsed or derived, for every cfg file of the kit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit import KIT, cases, needs_kit, read_json
from project import CFGS, OWN_CFGS

from darknet_py.cfg import parse_cfg
from darknet_py.network import Network
from darknet_py.table import describe

NEW = ("shapes", "cells")  # of this project alone; no official file
OTHERS = [path.stem for path in OWN_CFGS if "\nkey=" in path.read_text()]  # networks of other programs
OWN = [path.stem for path in OWN_CFGS if path.stem not in (*NEW, *OTHERS)]
IOU_LOSS = {"iou": 0, "giou": 1, "mse": 2, "diou": 3, "ciou": 4}
WORDS: dict[str, dict[str, int]] = {
    "iou_loss": IOU_LOSS,
    "iou_thresh_kind": IOU_LOSS,
    "nms_kind": {"default": 0, "greedynms": 1, "diounms": 2, "cornersnms": 3},
    "weights_type": {"none": 0, "per_feature": 1, "per_layer": 1, "per_channel": 2},
    "weights_normalization": {"none": 0, "relu": 1, "avg_relu": 1, "softmax": 2},
    "cost_type": {"sse": 0, "masked": 1, "smooth": 4},
    "yolo_point": {"center": 1, "left_top": 2, "right_bottom": 4},
}
# What the C program holds beside the meaning of the cfg: buffers, constants of its structs, and the options of training
# that the table does not show. Each is left out by name, all else must be equal.
NOT_COMPARED = {
    "use_bin_output", "assisted_excitation", "deform", "shared", "learning_rate_scale", "truth_size", "truths", "steps",
    "embedding_layer_id", "embedding_size", "stopbackward", "onlyforward", "status", "scale",
}  # fmt: skip
# Fields of the C structs that the section's parser leaves alone: for a route `in` holds its first source's INPUT size.
NOT_READ = {
    "route": ("in",),
    "dropout": ("in",),
    "gru": ("hidden",),
    "lstm": ("hidden",),
    "gaussian_yolo": ("new_coords", "focal_loss", "show_details"),
}


def official(name: str) -> Path | None:
    for folder in ("alexeyab", "alexeyab-build", "pjreddie"):
        if (path := KIT / "cfg" / folder / f"{name}.cfg").is_file():
            return path
    index = (line.split("\t") for line in (KIT / "cfg" / "INDEX.tsv").read_text().splitlines())
    return next((KIT / file for _, source, file in index if source == f"cfg/{name}.cfg"), None)


def equal(key: str, ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) and key in WORDS:
        ours = WORDS[key][ours]
    if isinstance(theirs, str) or isinstance(ours, str):
        return ours == theirs
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(equal(key, a, b) for a, b in zip(ours, theirs, strict=True))
    return abs(ours - theirs) <= 1e-6 * max(1.0, abs(theirs))  # floats were printed from float32


def table_case(name: str) -> int:
    """How many values of the table were compared; fails where one differs."""
    expected = read_json("layers", name)
    path = official(name)
    assert path is not None, "the kit has a table, but no cfg of that name"
    table = describe(Network(parse_cfg(path)))
    if (
        expected["status"] == "crash_SIGFPE"
    ):  # the C program divides by zero behind its table, of a network without images
        expected = expected["patched_parse"]
    if "layers" not in expected:
        assert expected["status"] == "abort_assert"  # the C program stops; pjreddie's runs it, and so do we
        return 0
    return assert_equal_tables(table, expected)


def assert_equal_tables(table: dict[str, Any], expected: dict[str, Any]) -> int:
    assert len(table["layers"]) == expected["n_layers"]
    assert table["total_float32"] == expected["total_float32"]
    assert table["file_bytes"] == expected["file_bytes"]
    wrong, compared = [], 0
    for ours, theirs in zip(table["layers"], expected["layers"], strict=True):
        for key, value in theirs.items():
            if key in NOT_COMPARED or key in NOT_READ.get(ours["type"], ()):
                continue
            if key == "fields":
                value = [list(field) for field in value]
            if (
                key == "anchors"
            ):  # the C program fills up a list that is too short for num, and cuts one that is too long
                ours[key] = [*ours[key], 0.5][: len(value)]
            compared += 1
            if key not in ours or not equal(key, ours[key], value):
                wrong.append((ours["index"], ours["type"], key, ours.get(key), value))
    assert not wrong, "\n".join(map(str, wrong[:12]))
    return compared


@needs_kit
@pytest.mark.parametrize("name", cases("layers", "*.json"))
def test_every_layer_is_as_darknet_parsed_it(name: str) -> None:
    table_case(name)


@needs_kit
@pytest.mark.parametrize("name", OWN)
def test_our_own_cfgs_have_the_official_tables(name: str) -> None:
    """Written by hand, each cfg in `cfg/` is layer by layer the official one (yolov1: pjreddie's yolov1/yolo)."""
    ours = describe(Network(parse_cfg(CFGS / f"{name}.cfg", strict=True)))
    expected = read_json("layers", {"yolov1": "yolov1/yolo"}.get(name, name))
    assert_equal_tables(ours, expected)
