"""The triangle: the C program's numbers are those of the exported model in onnxruntime, as they are darknet_py's."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from exports import small_network
from kit import KIT, cases, needs_kit, read_json
from project import OWN_CFGS
from recipes import digest, recipe_inputs, recipe_network
from test_forward import LOOSER, TOLERANCE, invert_packed_xnor, use_pjreddies_epsilon
from test_real import NMS, missing, model_files, real_case, rows_of
from test_real import TOLERANCE as TOLERANCE_OF_DETECTIONS

from darknet_py.detector import Detector
from darknet_py.errors import CfgError
from darknet_py.inference.deploy import deployed
from darknet_py.network import Network, load
from darknet_py.pictures.read import read_image

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from darknet_py.inference import exporting
from darknet_py.inference.exporting import Form, export_onnx
from darknet_py.inference.onnx_runner import open_session

FLAT = (1, -1)


def compare_exported(network: Network, case: dict[str, Any], golden: Any, tolerance: float, folder: Path) -> None:
    """The outputs of the exported model, and what its heads make of them, are the C program's.

    Where rounding grows so much that the kit allows more than the export does, the export allows as much.
    """
    path = folder / "model.onnx"
    limits = exporting.TOLERANCES | {"fp32": max(exporting.TOLERANCES["fp32"], tolerance)}
    with patch.object(exporting, "TOLERANCES", limits):
        export_onnx(network, path, Form("raw"))
    session = open_session(path)
    path.unlink()
    names = [entry.name for entry in session.get_outputs()]
    shape = (1, case["channels"], case["height"], case["width"]) if case["width"] else FLAT
    given = {
        entry.name: np.zeros([1, *entry.shape[1:]], np.float32)
        for entry in session.get_inputs()
        if entry.name != "images"
    }
    last = len(network.layers) - 1
    layers = network.heads or [last - (network.layers[last].kind == "cost")]  # [cost] passes on what it reads
    for step, values in enumerate(recipe_inputs(case)):
        outputs = dict(zip(names, session.run(names, {"images": values.reshape(shape), **given}), strict=True))
        given = {name.removesuffix("_out"): value for name, value in outputs.items() if name.endswith("_out")}
        suffix = f"_step{step}" if case.get("steps", 1) > 1 else ""
        for index, name in zip(layers, names, strict=False):
            raw = torch.from_numpy(outputs[name])
            ours = (network.layers[index](raw) if network.heads else raw).numpy().reshape(-1)
            key = f"out_{index}{suffix}"
            theirs = golden[key].reshape(-1) if key in golden else golden[f"digest{suffix}"][index]
            ours = ours if key in golden else digest(ours)
            difference = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))
            assert difference <= tolerance, f"{name}{suffix}: {difference:.1e} of the largest value"


@pytest.mark.slow
@needs_kit
@pytest.mark.parametrize("name", cases("forward", "*.npz"))
def test_an_exported_network_gives_darknets_numbers(name: str, tmp_path: Path) -> None:
    case = read_json("forward", name)
    network = recipe_network(KIT / "forward" / f"{name}.cfg", case, tmp_path)
    if case.get("fused_batchnorm"):
        network = deployed(network)
        invert_packed_xnor(network)
    golden = np.load(KIT / "forward" / f"{name}.npz")
    compare_exported(network, case, golden, LOOSER.get(name, TOLERANCE), tmp_path)


@pytest.mark.slow
@needs_kit
@pytest.mark.parametrize("name", cases("real/expected", "*.json"))
def test_an_exported_model_detects_what_darknet_does(name: str, tmp_path: Path) -> None:
    cfg, weights, names = model_files(name)
    path = tmp_path / "model.onnx"
    export_onnx(load(cfg, weights), path)
    for letterbox in (False, True):
        real_case(name, letterbox, Detector(path, names, letterbox=letterbox))


@pytest.mark.slow
@needs_kit
@pytest.mark.parametrize("name", cases("real/expected", "*.json"))
def test_a_model_suppresses_in_its_graph_as_darknet_does(name: str, tmp_path: Path) -> None:
    """By the cfg's own nms_kind, on the overlaps that `detector test` measures without letterbox."""
    cfg, weights, names = model_files(name)
    path, thresh = tmp_path / "model.onnx", 0.25
    export_onnx(load(cfg, weights), path, Form("detections", thresh=thresh, nms=NMS))
    detector = Detector(path, names, letterbox=False)
    for file, sides in read_json("real/expected", name)["images"].items():
        expected = sides["resize"]["thresh_0.25"]
        column = "detections" if expected["same_with_cfg_nms_kind"] else "detections_cfg_nms_kind"
        theirs = np.array(expected[column]).reshape(-1, 6)
        image = read_image(KIT / "real" / "images_stb_png" / f"{Path(file).stem}.png")
        raw = detector.runner(detector.prepare([image]))
        ours = rows_of(detector.postprocess(raw, [(image.shape[1], image.shape[0])], thresh, None)[0])
        assert not missing(theirs, ours, thresh, TOLERANCE_OF_DETECTIONS), file
        assert not missing(ours, theirs, thresh, TOLERANCE_OF_DETECTIONS), file


@pytest.mark.slow
@pytest.mark.parametrize("path", OWN_CFGS, ids=lambda path: path.stem)
def test_every_cfg_of_the_project_can_be_exported_or_is_refused(path: Path, tmp_path: Path) -> None:
    network = small_network(path)
    if not all(layer.one_graph for layer in network.layers):
        with pytest.raises(CfgError, match=r"\[rpn\]: how many values it gives depends on the image"):
            export_onnx(network, tmp_path / "model.onnx")
        return
    report = export_onnx(network, tmp_path / "model.onnx", Form("boxes" if all_dense(network) else "raw"))
    assert max(report.differences.values()) <= exporting.TOLERANCES["fp32"]


def all_dense(network: Network) -> bool:
    return all(head.dense for head in network.head_layers())


@pytest.mark.slow
@needs_kit
@pytest.mark.parametrize("name", cases("forward_pjreddie", "*.npz"))
def test_an_exported_network_gives_pjreddies_numbers(name: str, tmp_path: Path) -> None:
    case = read_json("forward_pjreddie", name)
    network = recipe_network(KIT / "forward_pjreddie" / f"{name}.cfg", case, tmp_path)
    use_pjreddies_epsilon(network)
    compare_exported(network, case, np.load(KIT / "forward_pjreddie" / f"{name}.npz"), TOLERANCE, tmp_path)
