"""Where the project's files lie, and Python run with the project as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CFGS = ROOT / "cfg"
OWN_CFGS = sorted(CFGS.glob("*.cfg"))


def environment() -> dict[str, str]:
    """The environment of a process that imports this project from any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def python(*arguments: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` in `cwd` until it ends; five minutes at most."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), input=stdin, capture_output=True, text=True, timeout=300)
