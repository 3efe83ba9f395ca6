"""A two-stage network is trained, evaluated and used like any other."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from project import CFGS

import darknet_py
from darknet_py import evaluate, train
from darknet_py.cfg import parse_text
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import CfgError
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.layers.regions import CONVENTIONS
from darknet_py.losses.assign.regions import objects_of
from darknet_py.network import Network
from darknet_py.training.step import Trainer


def small_cfg(classes: int, net: str = "") -> str:
    """cfg/faster-rcnn-small.cfg for other classes and with other options in [net]."""
    text = (CFGS / "faster-rcnn-small.cfg").read_text()
    text = text.replace("output=5\n", f"output={classes + 1}\n").replace("output=20\n", f"output={4 * (classes + 1)}\n")
    text = text.replace("classes=4\n", f"classes={classes}\n")
    names = [line.split("=")[0] for line in net.splitlines()]
    text = re.sub(rf"^({'|'.join(names)})=.*\n", "", text, flags=re.MULTILINE) if names else text
    return text.replace("[net]\n", f"[net]\n{net}", 1)


def trained_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images and their truths, in Darknet's rows: two in the first, one in the second."""
    rows = torch.zeros(2, 200, 6)
    rows[0, 0, :5], rows[0, 1, :5] = torch.tensor((0.3, 0.4, 0.3, 0.5, 1)), torch.tensor((0.7, 0.6, 0.4, 0.3, 0))
    rows[1, 0, :5] = torch.tensor((0.5, 0.5, 0.6, 0.6, 3))
    return torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0)), rows


def test_it_trains_evaluates_and_detects(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "shapes", train=40, valid=6)
    cfg, out = tmp_path / "small.cfg", tmp_path / "out"
    cfg.write_text(small_cfg(6, "width=96\nheight=96\nmax_batches=40\nburn_in=5\nbatch=4\n"))
    arguments = ["--out", str(out), "--workers", "0", "--device", "cpu"]
    assert train.main([str(data), str(cfg), *arguments]) == 0
    with (out / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    weights = out / "small_final.weights"
    assert evaluate.main([str(data), str(cfg), str(weights), "--device", "cpu"]) == 0
    network = darknet_py.load(cfg, weights)
    detector = darknet_py.Detector(network, names=str(tmp_path / "shapes" / "shapes.names"))
    found = detector(sorted((tmp_path / "shapes" / "images").glob("valid-*.png"))[:2], thresh=0.01)
    assert [len(one) > 0 for one in found] == [True, True]
    assert all((np.abs(one.xywh[:, :2] - 0.5) <= 0.5).all() for one in found)


def test_a_resumed_run_draws_what_a_whole_one_draws(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "shapes", train=8, valid=1)
    cfg = tmp_path / "small.cfg"
    cfg.write_text(small_cfg(6, "width=64\nheight=64\nmax_batches=4\nbatch=2\n"))
    arguments = [str(data), str(cfg), "--workers", "0", "--device", "cpu"]
    assert train.main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert train.main([*arguments, "--out", str(tmp_path / "parts"), "--max-batches", "2"]) == 0
    assert train.main([*arguments, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    whole, parts = (tmp_path / name / "small_final.weights" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_the_truths_are_among_the_regions_that_are_trained() -> None:
    network = Network(parse_text(small_cfg(4))).initialise(0)
    images, rows = trained_images()
    step = Trainer(network).accumulate(images, rows)
    assert set(step.parts) == {"objectness", "proposals", "classes", "boxes"}
    assert step.cost == pytest.approx(sum(float(part) for part in step.parts.values()), rel=1e-5)
    regions = step.raws[24][1]
    truths = objects_of(rows, network.size, CONVENTIONS["torchvision"])
    for image, number in truths.valid.nonzero().tolist():
        own = (regions[:, 0] == image) & (regions[:, 5] == number)
        assert (regions[own, 1:5] == truths.boxes[image, number]).all(1).any()
    assert torch.bincount(regions[:, 0].long()).tolist() == [32, 32]


def test_in_inference_every_proposal_is_looked_at() -> None:
    network = Network(parse_text(small_cfg(4))).initialise(0).eval()
    outputs = network.features(trained_images()[0], [15, 16, 17, 23])
    assert torch.equal(outputs[16][:, :5], outputs[15])
    assert (outputs[16][:, 5] == -1).all()
    assert len(outputs[15]) == len(outputs[17]) == len(outputs[23]) <= 2 * network.layers[15].shape.rows


def test_an_image_without_proposals_and_truths_has_no_detections() -> None:
    network = Network(parse_text(small_cfg(4).replace("nms=0.7\n", "nms=0.7\nthresh=1\n"))).initialise(0)
    images, rows = trained_images()
    step = Trainer(network).accumulate(images, torch.zeros_like(rows))
    assert np.isfinite(step.cost)
    with torch.no_grad():
        (raw,) = network.eval()(images)
    assert len(raw[1]) == 0
    assert len(network.head_layers()[0].decode(raw, 0.1, network.size).image) == 0


@pytest.mark.parametrize("outputs", ["raw", "boxes"])
def test_an_export_is_refused(outputs: str, tmp_path: Path) -> None:
    network = Network(parse_text(small_cfg(4), "small.cfg")).initialise(0).eval()
    with pytest.raises(CfgError, match=r"^small\.cfg:\d+: \[rpn\]: how many values it gives depends on the image"):
        export_onnx(network, tmp_path / "small.onnx", Form(outputs))
    assert not (tmp_path / "small.onnx").exists()


def test_compilation_is_refused() -> None:
    network = Network(parse_text(small_cfg(4), "small.cfg")).initialise(0)
    with pytest.raises(CfgError, match=r"^small\.cfg:\d+: \[rpn\]: .* it cannot be compiled; train without --compile$"):
        Trainer(network, compiled=True)
