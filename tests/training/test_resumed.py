"""Runs that are stopped, killed and resumed end as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from other_cfgs import for_classes, with_options
from project import ROOT
from small_training import run, write_cfg

from darknet_py.data.shapes import NAMES, write_dataset
from darknet_py.errors import DarknetError
from darknet_py.training.report import Chart, IterationResult, read_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), train=12, valid=4)


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, iterations=3)
    results = []
    for place, arguments in enumerate((("--seed", "1"), ("--seed", "1", "--workers", "1"), ("--seed", "2"))):
        assert run(data, cfg, tmp_path / str(place), *arguments) == 0
        results.append((tmp_path / str(place) / "tiny_final.weights").read_bytes())
    assert results[0] == results[1] != results[2]


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    """Stopped by a SIGTERM, after random sizes and in the middle of the moving average."""
    cfg = write_cfg(tmp_path, iterations=140, random=1, extra="ema_alpha=0.9\nresize_step=16\n")
    assert run(data, cfg, tmp_path / "whole", "--seed", "4") == 0
    before = signal.getsignal(signal.SIGTERM)
    signalled = Signal(after=75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chart, "add", signalled)
        assert run(data, cfg, tmp_path / "stopped", "--seed", "4") == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(read_rows(tmp_path / "stopped" / "metrics.csv")) == 75
    assert not (tmp_path / "stopped" / "tiny_final.weights").exists()
    assert run(data, cfg, tmp_path / "stopped", "--resume") == 0
    whole, stopped = ((tmp_path / name / "tiny_final.weights").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped
    columns = [
        [(row["loss"], row["rate"], row["width"]) for row in read_rows(tmp_path / name / "metrics.csv")]
        for name in ("whole", "stopped")
    ]
    assert columns[0] == columns[1]
    assert len({row[2] for row in columns[0]}) > 1


class Signal:
    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, result: IterationResult) -> None:
        if result.iteration == self.after:
            os.kill(os.getpid(), signal.SIGTERM)


def small(name: str, folder: Path) -> Path:
    """One of the project's cfgs for a few small images of the data's classes, whose last epochs differ."""
    options = {"width": "64", "height": "64", "batch": "4", "subdivisions": "1", "epochs": "16", "max_batches": "48",
               "close_mosaic": "8", "burn_in": "3", "burn_in_epochs": "0", "nominal_batch": "8"}  # fmt: skip
    path = folder / "tiny.cfg"
    path.write_text(with_options(for_classes((ROOT / "cfg" / f"{name}.cfg").read_text(), len(NAMES)), "net", options))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "system", ["darknet", "yolov8n", "yolov7-tiny-ota", "yolox-nano", "yolov6n", "faster-rcnn-small"]
)
def test_a_run_killed_at_any_moment_and_resumed_ends_with_the_same_weights(
    data: Path, tmp_path: Path, system: str
) -> None:
    """Optimizer, moving average, epochs and the last of these continue."""
    cfg = write_cfg(tmp_path, iterations=400) if system == "darknet" else small(system, tmp_path)
    short = tmp_path / "often.data"
    text = data.read_text()
    for name in ("train", "valid", "names"):
        text = text.replace(f"{name} = ", f"{name} = {data.parent}/")
    short.write_text(f"{text}savelast = 3\n")
    assert run(short, cfg, tmp_path / "whole") == 0
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "darknet_py.train",
        str(short),
        str(cfg),
        "--out",
        str(out),
        "--workers",
        "1",
        "--device",
        "cpu",
    ]
    generator = np.random.default_rng(3)
    kills = 0
    for _ in range(40):
        checkpoint = out / "tiny_last.checkpoint"
        resume = ["--resume"] if checkpoint.is_file() else []
        child = subprocess.Popen([*command, *resume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if kills < 5:
            written = checkpoint.stat().st_mtime_ns if resume else 0
            while child.poll() is None and (not checkpoint.is_file() or checkpoint.stat().st_mtime_ns == written):
                time.sleep(0.01)
            time.sleep(float(generator.uniform(0, 0.4)))
            child.kill()
        said = child.communicate()[0]
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, said
        kills += 1
    assert kills == 5, said
    names = [path.name for path in (tmp_path / "whole").glob("tiny_*.weights")]
    assert "tiny_final.weights" in names
    assert ("tiny_ema.weights" in names) == ("ema_alpha" in cfg.read_text())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (out / name).read_bytes()


def test_a_run_is_resumed_as_it_began(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, iterations=2)
    assert run(data, cfg, tmp_path / "out", "--loss", "giou") == 0
    cfg.write_text(cfg.read_text().replace("max_batches=2", "max_batches=4"))
    with pytest.raises(DarknetError, match="started with loss giou, not darknet; resume it with the same"):
        run(data, cfg, tmp_path / "out", "--resume")
    assert run(data, cfg, tmp_path / "out", "--resume", "--loss", "giou") == 0
    with pytest.raises(DarknetError, match=r"needs a number above 0, and mixup=1 in \[net\]"):
        run(data, cfg, tmp_path / "out", "--mixup-beta", "1.5")
