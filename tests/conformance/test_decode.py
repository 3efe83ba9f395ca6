"""Decoding and suppression give the C program's detections, on the kit's recipe networks and for every head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import KIT, cases, needs_kit, read_json
from recipes import recipe_inputs, recipe_network

from darknet_py.boxes import nms
from darknet_py.network import Network
from darknet_py.postprocess import from_letterbox

TOLERANCE = 1.2e-4  # relative to the value or the image's size: forward passes agree to 6e-5, and sizes may be squares


def rows_of(network: Network, raws: list[torch.Tensor], run: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """[class, prob, x, y, w, h] of every (box, class) that is left, in the kit's order."""
    found = []
    for layer, raw in zip(network.head_layers(), raws, strict=True):
        candidates = layer.decode(raw, run["thresh"], network.size)
        xywh = candidates.xywh
        if run["letter"] and layer.corrected:
            xywh = from_letterbox(xywh, candidates.image, [size], network.size)
        if not run["relative"] or not layer.corrected:  # Darknet gives [detection]'s boxes in pixels, asked or not
            xywh = xywh * torch.tensor([*size, *size])
        row, label = (candidates.probs > 0).nonzero(as_tuple=True)
        found.append(torch.cat((label[:, None], candidates.probs[row, label][:, None], xywh[row]), 1))
    rows = torch.cat(found)
    if run["nms"]:
        rows = rows[nms(rows[:, 2:], rows[:, 1], rows[:, 0].long(), run["nms"])]
    rows = rows[rows.isfinite().all(1)].numpy()
    return rows[np.lexsort((rows[:, 2], rows[:, 0], -rows[:, 1]))]


def decode_case(name: str, tmp_path: Path) -> float:
    """The largest difference of a probability or coordinate; fails where one is beyond the tolerance."""
    golden, case = read_json("decode", name), read_json("forward", name)
    network = recipe_network(KIT / "forward" / f"{name}.cfg", case, tmp_path)
    images = torch.from_numpy(recipe_inputs(case)[0]).view(1, case["channels"], case["height"], case["width"])
    raws = network(images)
    size = (golden["image_w"], golden["image_h"])
    worst = 0.0
    for run in golden["runs"]:
        ours = rows_of(network, raws, run, size)
        assert abs(len(ours) - run["n_rows"]) <= run["n_rows"] // 1000, (run["thresh"], run["nms"])
        unit = [1.0] * 4 if run["relative"] and network.head_layers()[0].corrected else [*size, *size]
        for row in np.array(run["top150"])[:140]:  # the last may be cut off among equals
            same = ours[(ours[:, 0] == row[0]) & (np.abs(ours[:, 1] - row[1]) <= TOLERANCE * max(1, row[1]))]
            assert len(same), row
            difference = (np.abs(same[:, 2:] - row[2:]) / np.maximum(unit, np.abs(row[2:]))).max(1).min()
            assert difference <= TOLERANCE, (run["thresh"], run["nms"], row)
            worst = max(worst, float(difference))
    return worst


@needs_kit
@pytest.mark.parametrize("name", cases("decode", "*.json"))
def test_detections_of_random_networks(name: str, tmp_path: Path) -> None:
    decode_case(name, tmp_path)


@needs_kit
def test_boxes_go_back_to_the_image() -> None:
    kit = np.load(KIT / "misc" / "correct_boxes.npz")
    for key in kit.files:
        if key == "boxes":
            continue
        w, h, net_w, net_h, relative, letter = (int("".join(filter(str.isdigit, part))) for part in key.split("_"))
        boxes = torch.from_numpy(kit["boxes"])
        if letter:
            boxes = from_letterbox(boxes, torch.zeros(len(boxes), dtype=torch.int64), [(w, h)], (net_w, net_h))
        ours = boxes.numpy() if relative else boxes.numpy() * np.float32([w, h, w, h])
        np.testing.assert_allclose(ours, kit[key], rtol=2e-6, atol=2e-6 * max(w, h), err_msg=key)
