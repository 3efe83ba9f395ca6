"""What all commands share: a request to end, a lack of memory; and how files are written and read."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from project import python

from darknet_py import command, files
from darknet_py.command import INTERRUPTED, MISTAKE, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable, json_text, open_file, read_file, write_file


def test_a_request_to_end_is_taken_for_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    """What the command has begun is finished, though `timeout` sends a second one."""
    before, finished = signal.getsignal(signal.SIGTERM), []

    def main() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append(True)

    assert run_command(main) == INTERRUPTED
    assert finished
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "interrupted; all files written so far are complete\n"


class Swallows:
    """Where Python drops the exception that a request to end raises."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_request_to_end_that_was_lost_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TOGETHER", 0.0)

    def main() -> int:
        Swallows()
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert run_command(main) == INTERRUPTED


def huge_array() -> object:
    return np.empty(1 << 60, np.uint8)


def huge_tensor() -> object:
    return torch.empty(1 << 60)


def huge_list() -> object:
    return [0] * (1 << 60)


@pytest.mark.parametrize("work", [huge_array, huge_tensor, huge_list])
def test_a_lack_of_memory_is_one_sentence(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: int(bool(work()))) == MISTAKE
    error = capsys.readouterr().err
    assert error.startswith("error: out of memory")
    assert error.count("\n") == 1


def test_an_error_of_the_program_is_not_hidden() -> None:
    def main() -> int:
        raise RuntimeError("a mistake in the program")

    with pytest.raises(RuntimeError, match="a mistake in the program"):
        run_command(main)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda number: steps.append("on the disk") or fsync(number))
    monkeypatch.setattr(files.os, "replace", lambda *paths: steps.append("named") or replace(*paths))
    write_file(tmp_path / "a.json", "{}")
    assert steps == ["on the disk", "named"]


def test_json_has_no_number_that_is_not_finite() -> None:
    text = json_text({"a": [float("nan"), 1.5, (float("inf"),)], "b": -float("inf")})
    assert json.loads(text) == {"a": [None, 1.5, [None]], "b": None}


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as raised:
        read_file(tmp_path / "a", 4)
    assert raised.value.errno == errno.EFBIG


def test_devices_are_not_files(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a device or a pipe is not a file"):
        open_file("/dev/null")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_detection_that_is_asked_to_end_leaves_complete_json(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from darknet_py import detect
        from darknet_py.work.detect import Run
        from darknet_py.command import run_command
        print_line = Run._print
        def stop(self, *words):
            print_line(self, *words)
            if self.files.count == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        Run._print = stop
        sys.exit(run_command(lambda: detect.main(sys.argv[1:])))
    """
    model = ["--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights", "--names", "cfg/shapes.names"]
    sources = ["weights/shapes.png"] * 5
    results = ["--json", "found.json", "--no-pictures", "--batch", "1"]
    done = python("-c", script, *sources, *model, *results, cwd=tmp_path)
    assert done.returncode == INTERRUPTED, done.stderr
    assert len(json.loads((tmp_path / "found.json").read_text())) == 2


def test_a_file_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "r.json", tmp_path):
        with pytest.raises(DarknetError, match="cannot write this file"):
            check_writable(None, tmp_path / "good.json", path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes the screen away")
def test_a_window_without_a_screen_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt would end the process."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    model = ["--cfg", "cfg/shapes.cfg", "--weights", "weights/shapes.weights"]
    done = python("-m", "darknet_py.detect", "weights/shapes.png", *model, "--show", cwd=tmp_path)
    assert done.returncode == MISTAKE
    assert done.stderr.startswith("error: --show: cannot open a window")
