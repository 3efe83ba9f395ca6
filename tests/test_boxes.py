"""IoU family and suppression equal box.c's, pair by pair and row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import KIT, needs_kit

from darknet_py import boxes

TOLERANCE = 2e-6  # float32, another order of operations; the values lie in -2..1


@needs_kit
@pytest.mark.parametrize("measure", ["iou", "giou", "diou", "ciou"])
def test_the_measures_of_two_boxes(measure: str) -> None:
    kit = np.load(KIT / "misc" / "boxes.npz")
    pred, truth = torch.from_numpy(kit["pred"]), torch.from_numpy(kit["truth"])
    ours = getattr(boxes, measure)(pred, truth).numpy()
    assert np.abs(ours - kit[measure]).max() <= TOLERANCE


# The kit's column diounms_beta06 is no measure: its values are around 1e8 (box_diounms was called without a prototype,
# so C took its result for an int). box.c's own use of it is in nms.npz, and compared below.


def nms_cases() -> list[str]:
    path = KIT / "misc" / "nms.npz"
    return (
        [key for key in np.load(path).files if key.endswith(("0.3", "0.45", "0.6")) and "obj" not in key]
        if path.is_file()
        else ["(no kit)"]
    )


@needs_kit
@pytest.mark.parametrize("case", nms_cases())
def test_the_same_boxes_survive(case: str) -> None:
    kit = np.load(KIT / "misc" / "nms.npz")
    columns = [str(name) for name in kit["row_columns"]]
    rows, expected = kit["rows"], kit[case]
    name, thresh = case.rsplit("_thresh", 1)
    kind = name.split("_")[0]
    beta = 1.0 if "beta10" in name else 0.6
    xywh = torch.from_numpy(rows[:, [columns.index(c) for c in "xywh"]])
    probs = torch.from_numpy(rows[:, [k for k, c in enumerate(columns) if c.startswith("prob")]])
    seen = (
        torch.from_numpy(rows[:, columns.index("objectness")]) != 0
    )  # box.c leaves boxes without objectness as they are
    row, label = ((probs > 0) & seen[:, None]).nonzero(as_tuple=True)
    survives = boxes.nms(xywh[row], probs[row, label], label, float(thresh), kind, beta)
    left = torch.where(seen[:, None], 0.0, probs)
    left[row[survives], label[survives]] = probs[row[survives], label[survives]]
    np.testing.assert_array_equal(left.numpy(), expected[:, -probs.shape[1] :])


def greedy(xywh: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, thresh: float) -> torch.Tensor:
    """box.c:do_nms_sort, one pair after the other."""
    alive = torch.ones(len(scores), dtype=torch.bool)
    for i in sorted(range(len(scores)), key=lambda k: -float(scores[k])):
        for j in range(len(scores)):
            later = scores[j] < scores[i]
            if alive[i] and later and groups[i] == groups[j] and boxes.iou(xywh[i], xywh[j]) > thresh:
                alive[j] = False
    return alive


@pytest.mark.parametrize("block", [7, 2048])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(boxes, "BLOCK", block)
    generator = torch.Generator().manual_seed(1)
    xywh = torch.rand((90, 4), generator=generator) * torch.tensor([1.0, 1.0, 0.5, 0.5])
    scores, groups = torch.rand(90, generator=generator), torch.randint(0, 3, (90,), generator=generator)
    assert torch.equal(boxes.nms(xywh, scores, groups, 0.3), greedy(xywh, scores, groups, 0.3))


def test_nothing_to_suppress() -> None:
    none = torch.zeros(0)
    assert boxes.nms(none.view(0, 4), none, none.long(), 0.45).shape == (0,)
