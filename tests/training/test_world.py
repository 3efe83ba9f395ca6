"""Several processes train as a single one does: the same gradients, weights and rolling statistics."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from project import ROOT

from darknet_py import DarknetError, load
from darknet_py.cfg import parse_text
from darknet_py.data.shapes import write_dataset
from darknet_py.network import Network
from darknet_py.training.run import split_subdivisions
from darknet_py.training.step import Trainer
from darknet_py.training.world import join_processes

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

NET = (
    "[net]\nwidth=32\nheight=32\nchannels=3\nbatch=8\nsubdivisions={}\n"
    "learning_rate=0.01\nmomentum=0.9\ndecay=0.001\nmax_batches=5\n"
)
LAYERS = """
[convolutional]
batch_normalize=1
filters=6
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=mish

[convolutional]
filters=14
size=1
activation=linear

[yolo]
mask=0,1
anchors=6,6, 14,14
num=2
classes=2
max=4
ignore_thresh=.6
"""
RECIPE = """optimizer=sgd
nesterov=1
clip_norm=5
policy=cosine
burn_in=2
burn_in_bias_rate=0.05
burn_in_momentum=0.8
nominal_batch=16
ema_alpha=0.99
ema_ramp=5
bn_momentum=0.03
"""
SAME = 1e-5  # of the largest value of a tensor: float32 sums in another order


def make(subdivisions: int, recipe: str = "") -> Network:
    return Network(parse_text(NET.format(subdivisions) + recipe + LAYERS)).initialise(1)


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    truths = torch.zeros(8, 4, 6)
    truths[:, :2, :4] = torch.rand(8, 2, 4, generator=generator) * 0.4 + 0.3
    truths[:, 1, 4] = 1
    return torch.rand(8, 3, 32, 32, generator=generator), truths


def averages(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"average {name}": tensor for name, tensor in trainer.ema.values.items()}


def iterate(trainer: Trainer, iterations: int = 3) -> dict[str, torch.Tensor]:
    """The weights after this many iterations; the processes take turns with the mini-batches."""
    parts = [part.chunk(trainer.net.subdivisions) for part in samples()]
    for _ in range(iterations):
        for images, truths in list(zip(*parts, strict=True))[trainer.world.rank :: trainer.world.size]:
            trainer.accumulate(images, truths)
        trainer.update()
    return {
        f"{layer.index}.{stored.name}": stored.tensor.detach()
        for layer in trainer.network.layers
        for stored in layer.stored()
    }


def one_of_two(
    rank: int, port: int, out: str, subdivisions: int, synchronised: bool, exact: bool, recipe: str = ""
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join_processes("cpu") as (world, _):
        trainer = Trainer(make(subdivisions, recipe), world=world, synchronised=synchronised, exact=exact)
        torch.save(iterate(trainer, 5 if recipe else 3) | averages(trainer), f"{out}.{rank}")


def free_port() -> int:
    import socket

    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return int(connection.getsockname()[1])


def together(
    out: Path, subdivisions: int, *, synchronised: bool = False, exact: bool = False, recipe: str = ""
) -> list[dict[str, torch.Tensor]]:
    arguments = (free_port(), str(out), subdivisions, synchronised, exact, recipe)
    multiprocessing.spawn(one_of_two, arguments, nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(2)]


def worst(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return max(float((ours[key] - theirs[key]).abs().max() / theirs[key].abs().max()) for key in theirs)


@pytest.mark.parametrize("exact", [False, True])
def test_two_processes_change_the_weights_as_one_does(tmp_path: Path, exact: bool) -> None:
    first, second = together(tmp_path / "two", 4, synchronised=False, exact=exact)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert worst(first, iterate(Trainer(make(4), exact=exact))) < SAME


def test_two_processes_follow_another_program_s_recipe_as_one_does(tmp_path: Path) -> None:
    first, second = together(tmp_path / "two", 4, recipe=RECIPE)
    assert all(torch.equal(first[key], second[key]) for key in first)
    alone = Trainer(make(4, RECIPE))
    assert worst(first, iterate(alone, 5) | averages(alone)) < SAME
    assert alone.optimizer.updates < 5, "some gradients wait"


@pytest.mark.parametrize("exact", [False, True])
def test_with_synchronised_batch_norm_two_mini_batches_are_one(tmp_path: Path, exact: bool) -> None:
    first, second = together(tmp_path / "two", 2, synchronised=True, exact=exact)
    assert all(torch.equal(first[key], second[key]) for key in first)
    alone = iterate(Trainer(make(1), exact=exact))
    assert worst(first, alone) < 2 * SAME
    assert worst(iterate(Trainer(make(2), exact=exact)), alone) > 1e-3, "batch norm makes a difference here"


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), train=12, valid=4)


def write_cfg(folder: Path, batch: int = 8, iterations: int = 4) -> Path:
    text = (
        (NET + LAYERS)
        .format(2)
        .replace("batch=8", f"batch={batch}")
        .replace("max_batches=5", f"max_batches={iterations}")
    )
    path = folder / "tiny.cfg"
    path.write_text(text.replace("filters=14", "filters=22").replace("classes=2", "classes=6"))
    return path


def torchrun(processes: int, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, "-m", "darknet_py.train", *arguments], text=True, env=environment, **pipes)


def test_torchrun_trains_as_one_process(data: Path, tmp_path: Path) -> None:
    from darknet_py.train import main

    cfg = write_cfg(tmp_path)
    arguments = [str(data), str(cfg), "--workers", "0", "--device", "cpu"]
    process = torchrun(2, *arguments, "--out", str(tmp_path / "two"), "--map", "--map-every", "2")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.count("4 iterations") == 2, "only the first process prints"
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    ours, theirs = (load(cfg, tmp_path / name / "tiny_final.weights") for name in ("two", "one"))
    assert ours.seen == theirs.seen == 32
    pairs = [
        pair
        for one, other in zip(ours.layers, theirs.layers, strict=True)
        for pair in zip(one.stored(), other.stored(), strict=True)
    ]
    assert max(float((one.tensor - other.tensor).abs().max() / other.tensor.abs().max()) for one, other in pairs) < SAME
    losses = [
        [float(row["loss"]) for row in csv.DictReader((tmp_path / name / "metrics.csv").open())]
        for name in ("two", "one")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_a_signal_ends_all_processes_after_the_same_iteration_and_resume_continues(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, iterations=400)
    arguments = [str(data), str(cfg), "--workers", "0", "--device", "cpu", "--out", str(tmp_path / "out")]
    process = torchrun(2, *arguments)
    rows = tmp_path / "out" / "metrics.csv"
    deadline = time.monotonic() + 90
    while not (rows.is_file() and len(rows.read_text().splitlines()) > 20) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    iterations = len(rows.read_text().splitlines()) - 1
    assert (tmp_path / "out" / "tiny_last.checkpoint").is_file()
    assert load(cfg, tmp_path / "out" / "tiny_last.weights").seen == iterations * 8
    process = torchrun(2, *arguments, "--resume", "--max-batches", str(iterations + 5))
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert len(rows.read_text().splitlines()) - 1 == iterations + 5


def test_each_process_gets_the_same_number_of_mini_batches() -> None:
    network = make(2)
    assert split_subdivisions(network, 2) == ""
    assert "subdivisions=4 instead of 2" in split_subdivisions(network, 4)
    assert network.net.subdivisions == 4
    with pytest.raises(DarknetError, match="batch=8 cannot be split over 3 processes"):
        split_subdivisions(make(1), 3)


def test_darknets_gpus_are_processes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darknet_py.__main__ import main as words

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cfg = write_cfg(tmp_path, iterations=2)
    assert words(["detector", "train", str(data), str(cfg), "-gpus", "0,1", "-nogpu", "-dont_show"]) == 0
    assert load(cfg, tmp_path / "backup" / "tiny_final.weights").seen == 16
