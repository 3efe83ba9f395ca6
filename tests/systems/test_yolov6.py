"""YOLOv6's overlaps, assigners and losses are those of its own program."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from yolos import YOLOS, arrays, needs_yolos

from darknet_py.boxes import corners
from darknet_py.losses.overlaps import OVERLAPS

V6 = YOLOS / "yolov6"


def the(values: Any) -> Tensor:
    return torch.from_numpy(values)


@needs_yolos
@pytest.mark.parametrize("form", ["xywh", "xyxy"])
@pytest.mark.parametrize("eps", ["1e-10", "1e-07"])
@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlaps_and_their_gradients(kind: str, eps: str, form: str) -> None:
    """Where the original gives NaN (CIoU of identical boxes), ours is defined."""
    pairs, case = arrays(V6 / "boxes.npz"), f"loss_{kind}_{form}_eps{eps}"
    leaf, other = the(pairs["box1_xywh"]), corners(the(pairs["box2_xywh"]))
    if form == "xyxy":
        leaf = corners(leaf)
    leaf.requires_grad_()
    loss = 1 - OVERLAPS[kind](corners(leaf) if form == "xywh" else leaf, other, float(eps))
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    expected = the(pairs[case])
    known = ~expected.isnan()
    assert known.sum() >= 190
    torch.testing.assert_close(loss[known], expected[known], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient[known], the(pairs[f"grad1_{case}"])[known], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss, the(pairs[f"{case}_f64"]), rtol=1e-6, atol=1e-6)
