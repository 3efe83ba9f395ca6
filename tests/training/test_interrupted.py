"""What remains of a training run when something breaks: the disk, the process, the pictures, a second run beside it."""

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import environment

from darknet_py.cfg import parse_cfg
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.network import Network
from darknet_py.train import main
from darknet_py.training import loop, report
from darknet_py.training.checkpoint import FORMAT, load_checkpoint, previous_of, save_checkpoint, write_checkpoint
from darknet_py.training.report import read_rows
from darknet_py.training.run import Progress
from darknet_py.training.step import Trainer

CFG = """[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=0.001
burn_in=2
max_batches=6
ema_alpha=0.9
saturation=1.5
[convolutional]
batch_normalize=1
filters=8
size=3
stride=4
pad=1
activation=leaky
[dropout]
[convolutional]
filters=33
size=1
stride=4
pad=1
[yolo]
mask=0,1,2
anchors=8,8,16,16,24,24
classes=6
num=3
"""

RECIPE = """epochs=4
optimizer=sgd
nesterov=1
policy=cosine
clip_norm=10
burn_in_epochs=1
burn_in_bias_rate=0.05
burn_in_momentum=0.8
nominal_batch=12
mosaic=1
close_mosaic=1
ema_alpha=0.9
ema_ramp=3
bn_momentum=0.03"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    path = write_dataset(folder, train=6, valid=2)
    path.write_text(f"{path.read_text()}savelast = 1\n")
    return path


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    (tmp_path / "tiny.cfg").write_text(CFG)
    return tmp_path / "tiny.cfg"


def run(data: Path, cfg: Path, out: Path, *arguments: str) -> int:
    return main([str(data), str(cfg), "--out", str(out), "--workers", "0", "--device", "cpu", *arguments])


def trainer_of(cfg: Path) -> Trainer:
    return Trainer(Network(parse_cfg(cfg)).initialise(0))


# Damage


def test_a_checkpoint_in_which_any_bit_has_changed_is_refused(cfg: Path, tmp_path: Path) -> None:
    trainer, path = trainer_of(cfg), tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer, {"first": 1})
    good = path.read_bytes()
    places = np.random.default_rng(0).integers(len(good), size=150).tolist() + list(range(-60, 0))
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(DarknetError, match="not a checkpoint, or damaged"):
            load_checkpoint(path, trainer)
    for length in (0, 1, 20, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(DarknetError, match="not a checkpoint, or damaged"):
            load_checkpoint(path, trainer)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_and_the_run_ends_the_same(
    data: Path, cfg: Path, tmp_path: Path
) -> None:
    assert run(data, cfg, tmp_path / "whole") == 0
    assert run(data, cfg, tmp_path / "out", "--max-batches", "4") == 0
    checkpoint = tmp_path / "out" / "tiny_last.checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.warns(CfgWarning, match="the run continues from the one before, .*previous"):
        assert run(data, cfg, tmp_path / "out", "--resume") == 0
    assert [row["iteration"] for row in read_rows(tmp_path / "out" / "metrics.csv")] == list("123456")
    whole, resumed = ((tmp_path / name / "tiny_final.weights").read_bytes() for name in ("whole", "out"))
    assert resumed == whole


def test_a_recipe_of_another_program_is_resumed_between_two_updates_and_ends_the_same(
    data: Path, cfg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gradients that wait for the next iteration, a rising average and no mosaic in the last epochs."""
    text = CFG.replace("burn_in=2\nmax_batches=6\nema_alpha=0.9", RECIPE)
    cfg.write_text(text)
    assert run(data, cfg, tmp_path / "whole") == 0
    iteration = loop._iteration

    def until_the_third(trainer: Trainer, *arguments: Any) -> Any:
        if trainer.iteration == 3:
            assert trainer.waiting
            raise KeyboardInterrupt
        return iteration(trainer, *arguments)

    monkeypatch.setattr(loop, "_iteration", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(data, cfg, tmp_path / "out")
    monkeypatch.undo()
    assert run(data, cfg, tmp_path / "out", "--resume") == 0
    rows = [read_rows(tmp_path / name / "metrics.csv") for name in ("whole", "out")]
    assert len(rows[0]) == 8, "4 epochs of 6 images, 4 at a time"
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    for name in ("final", "last", "ema"):
        whole, resumed = (tmp_path / folder / f"tiny_{name}.weights" for folder in ("whole", "out"))
        assert whole.read_bytes() == resumed.read_bytes()
    final, averaged, last = (
        (tmp_path / "out" / f"tiny_{name}.weights").read_bytes() for name in ("final", "ema", "last")
    )
    assert final == averaged != last, "the average is the result"


def test_a_new_run_does_not_keep_the_checkpoint_of_an_earlier_one(cfg: Path, tmp_path: Path) -> None:
    trainer, path = trainer_of(cfg), tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer, {})
    save_checkpoint(path, trainer, {}, keep=True)
    assert previous_of(path).is_file()
    save_checkpoint(path, trainer, {})
    assert not previous_of(path).exists()


STRANGE = (None, True, -1, 2**70, float("nan"), "x", [], {}, {"x": 1}, {3: None}, torch.zeros(3), torch.zeros(1, 2))
MISSING = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside of nested dicts and lists."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def test_whatever_stands_in_a_checkpoint_it_is_loaded_or_refused(cfg: Path, tmp_path: Path) -> None:
    trainer, path = trainer_of(cfg), tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer, Progress().plain())
    good = torch.load(path, weights_only=True)
    assert good["format"] == FORMAT
    refused = 0
    for number, place in enumerate(places(good)):
        for strange in [MISSING, *(STRANGE[(number + k) % len(STRANGE)] for k in range(4))]:
            content = copy.deepcopy(good)
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            if strange is MISSING:
                del inner[place[-1]]
            else:
                inner[place[-1]] = strange
            write_checkpoint(path, content)
            try:
                Progress.restored(load_checkpoint(path, trainer))
            except DarknetError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["trainer"].update(iteration=-3), "its iteration is -3"),
        (lambda content: content["trainer"].update(seen=2**70), "its seen is 1180591620717411303424"),
        (lambda content: content["trainer"]["ema"].update(x=torch.zeros(1)), "its ema also have x"),
        (lambda content: content["progress"].update(unknown=1), "its progress has unknown=1"),
        (lambda content: content.update(format="darknet_py checkpoint 999999"), "not a checkpoint of this version"),
    ],
)
def test_a_checkpoint_with_impossible_values_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, cfg: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer_of(cfg), Progress().plain())
    content = torch.load(path, weights_only=True)
    change(content)
    write_checkpoint(path, content)
    with pytest.raises(DarknetError, match=message):
        Progress.restored(load_checkpoint(path, trainer_of(cfg)))


def test_a_lack_of_memory_is_not_called_damage(cfg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, path = trainer_of(cfg), tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer, {})

    def fails(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(trainer, "load_state_dict", fails)
    with pytest.raises(torch.OutOfMemoryError):
        load_checkpoint(path, trainer)


def test_a_state_dict_is_a_copy_of_the_state(cfg: Path) -> None:
    trainer = trainer_of(cfg)
    before = trainer.state_dict()
    with torch.no_grad():
        updates = trainer.optimizer.buffers(list(trainer.optimizer.parameters()), "updates")
        for tensor in (*trainer.network.parameters(), *updates):
            tensor.add_(1)
    after = trainer.state_dict()
    assert not torch.equal(after["weights"]["layers.0.weights"], before["weights"]["layers.0.weights"])
    assert not torch.equal(after["optimizer"]["state"][0]["updates"], before["optimizer"]["state"][0]["updates"])


# Failures in the middle of a run


def broken_chart(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """The chart library fails in iteration 3."""

    def add(self: report.Chart, result: report.IterationResult) -> None:
        if result.iteration == 3:
            raise ZeroDivisionError("the chart library is broken")

    monkeypatch.setattr(report.Chart, "add", add)


def lost_worker(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """There is no second mini-batch in iteration 4, when the first one has changed rolling statistics already."""
    step, calls = loop._step, []

    def count(trainer: Trainer, batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 8:
            raise DarknetError("a worker process died")
        return step(trainer, batch)

    monkeypatch.setattr(loop, "_step", count)


def lost_folder(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """The backup folder disappears after iteration 3."""
    add = report.Report.add

    def remove(self: report.Report, result: report.IterationResult, progress: Progress) -> None:
        add(self, result, progress)
        if result.iteration == 3:
            shutil.rmtree(out)

    monkeypatch.setattr(report.Report, "add", remove)


@pytest.mark.parametrize("failure", [broken_chart, lost_worker, lost_folder])
def test_a_run_that_fails_saves_its_last_whole_iteration(
    failure: Callable[[pytest.MonkeyPatch, Path], None],
    data: Path,
    cfg: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Resumed, it ends with the weights of a run that did not fail."""
    seldom = tmp_path / "seldom.data"
    lines = (line.split(" = ") for line in data.read_text().splitlines())
    options = {key: value if key == "classes" else str(data.parent / value) for key, value in lines}
    seldom.write_text("".join(f"{key} = {value}\n" for key, value in (options | {"savelast": "1000"}).items()))
    assert run(seldom, cfg, tmp_path / "whole") == 0
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        failure(patch, out)
        with pytest.raises((ZeroDivisionError, DarknetError, OSError)):
            run(seldom, cfg, out)
    assert re.search(rf"iteration [34] is saved in {out}; --resume continues it", capsys.readouterr().err)
    assert run(seldom, cfg, out, "--resume") == 0
    whole, resumed = ((tmp_path / name / "tiny_final.weights").read_bytes() for name in ("whole", "out"))
    assert resumed == whole


# Two runs, and what killed ones leave


def test_a_second_training_in_the_same_folder_is_refused_until_the_first_ends(
    data: Path, cfg: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from darknet_py.files import locked\n"
            "with locked(Path(sys.argv[1]), ''): print('held', flush=True); sys.stdin.read()",
            str(out / ".training.lock"),
        ],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(DarknetError, match="another training writes here"):
            run(data, cfg, out)
        assert not (out / "metrics.csv").exists()
    finally:
        holder.kill()
        holder.communicate()
    assert run(data, cfg, out) == 0  # the lock's file is left behind, and free


def test_files_that_killed_processes_left_are_cleared(data: Path, cfg: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import os, sys; from darknet_py.files import beside\n"
        "beside(sys.argv[1]).write_text('half a file'); os._exit(9)"
    )
    command = [sys.executable, "-c", script, str(out / "tiny_last.checkpoint")]
    assert subprocess.run(command, env=environment()).returncode == 9
    own = out / f".other.{os.getpid()}.part"
    own.write_text("somebody's")
    assert len(list(out.glob(".*.part*"))) == 2
    assert run(data, cfg, out) == 0
    assert list(out.glob(".*.part*")) == [own]
