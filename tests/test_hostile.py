"""Files made to break the program: each is read or refused with one sentence, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile import CASES, kind_of, read
from project import environment

LIMIT = 4096  # MB of address space, of which PyTorch takes the most
SECONDS, KILOBYTES = 30, 600_000  # for one file


class Outcome(NamedTuple):
    result: str
    seconds: float
    kilobytes: int


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """All cases, read one after the other by one process with little memory."""
    script = Path(__file__).parent / "support" / "hostile.py"
    done = subprocess.run(
        [sys.executable, str(script), str(LIMIT)],
        input="\n".join(map(str, CASES)), env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {path: Outcome(*rest) for path, *rest in lines}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_a_hostile_file_is_read_or_refused_with_a_sentence(path: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[str(path)]
    assert outcome.result == "read" or outcome.result.startswith("refused: ")
    assert outcome.result.count("\n") == 0
    assert outcome.seconds < SECONDS
    assert outcome.kilobytes < KILOBYTES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
@pytest.mark.parametrize("name", ["pipe", "folder", "zero", "absent", "nul\0"])
@pytest.mark.parametrize("kind", ["cfg", "ckpt", "coco", "image", "labels", "names", "safetensors", "voc", "weights"])
def test_what_is_not_a_file_is_refused_by_every_reader(kind: str, name: str, tmp_path: Path) -> None:
    """None of them waits for a pipe's writer, or reads a device without an end."""
    ending = ".safetensors" if kind == "safetensors" else ""
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    os.symlink("/dev/zero", tmp_path / f"zero{ending}")
    result = read(kind, tmp_path / f"{name}{ending}")
    assert result.startswith("refused: ")
    assert "\n" not in result


def test_each_case_is_of_a_known_kind() -> None:
    for path in CASES:
        assert kind_of(path)
