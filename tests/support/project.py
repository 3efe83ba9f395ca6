"""The project that these tests are of: where its files lie, and Python run with it as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CFGS = ROOT / "cfg"
OWN_CFGS = sorted(CFGS.glob("*.cfg"))


def environment() -> dict[str, str]:
    """For a process of its own in any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def python(*arguments: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, until it ends."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), input=stdin, capture_output=True, text=True, timeout=300)
