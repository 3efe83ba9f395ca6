"""The benchmark measures engines in turn, says which are missing, and writes its numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from project import python

from darknet_py import benchmark
from darknet_py.errors import DarknetError
from darknet_py.work import benchmark_gpu

MODEL = ["--cfg", "cfg/shapes.cfg", "--seconds", "0.2"]


def test_engines_are_measured_in_processes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "speed.json"
    assert benchmark.main([*MODEL, "--against", f"onnxruntime,opencv={sys.executable}", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())[0]
    assert {"darknet_py", "onnxruntime"} <= set(result["milliseconds"])
    assert all(min(blocks) > 0 for blocks in result["milliseconds"].values())
    assert "x1.00" in printed
    import cv2

    if int(cv2.__version__.split(".")[0]) >= 5:
        assert "opencv: left out: this OpenCV does not read Darknet's files" in printed


def test_a_python_that_is_none_gets_one_sentence() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(DarknetError, match="no/python: no Python"):
        benchmark.main([*MODEL, "--against", "opencv=no/python"])


def test_an_unknown_engine_gets_the_list(tmp_path: Path) -> None:
    done = python("-m", "darknet_py.benchmark", "--against", "tensorrt", cwd=tmp_path)
    assert done.returncode == 2
    assert "'tensorrt' is not known; write one of openvino, onnxruntime, opencv" in done.stderr


def test_the_c_program_s_own_times_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "darknet"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nassert sys.argv[1:3] == ['detector', 'test']\n"
        "for path in sys.stdin:\n    open(path.strip())\n"
        "    print('Enter Image Path: ', path.strip() + ': Predicted in 1234.500000 milli-seconds.', flush=True)\n"
    )
    program.chmod(0o755)
    out = tmp_path / "speed.json"
    chart = tmp_path / "speed.svg"
    arguments = ["--against", f"darknet={program}", "--json", str(out)]
    arguments += ["--chart", str(chart)] if importlib.util.find_spec("matplotlib") else []
    assert benchmark.main([*MODEL, *arguments]) == 0
    assert chart.is_file() == ("--chart" in arguments)
    assert set(json.loads(out.read_text())[0]["milliseconds"]["darknet"]) == {1234.5}
    assert benchmark.main([*MODEL, "--batch", "2", "--against", f"darknet={program}"]) == 0
    assert "darknet: left out: the C program's `detector test` takes one image at a time" in capsys.readouterr().out


def test_the_c_program_needs_its_place(tmp_path: Path) -> None:
    done = python("-m", "darknet_py.benchmark", "--against", "darknet", cwd=tmp_path)
    assert done.returncode == 2
    assert "'darknet' is a program of its own; write darknet=PATH" in done.stderr


def test_what_a_gpu_is_measured_by_finds_a_cpu_equal_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    results = benchmark_gpu.measure_gpu(["cfg/shapes.cfg"], (96, 96), torch.device("cpu"), [1], 0.01, compiled=False)
    printed = capsys.readouterr().out
    assert "failed" not in printed
    exact = [value for name, value in results.items() if "fp32, greatest difference" in name]
    assert exact == [0.0]
    assert results["cfg/shapes.cfg: loss"] == results["cfg/shapes.cfg: gradients"] == 0.0
    assert results["two streams at once: outputs that differ"] == 0
    assert results["losses after a resume with dropout"] == 0.0
    assert "cfg/shapes.cfg, batch 1: training step, fp32" in results
