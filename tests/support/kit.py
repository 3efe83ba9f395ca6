"""The conformance kit (what Darknet's C program computes), its numbers on random networks, small inputs that once went
wrong, and the real data sets.

Tests list their folders.

They lie in `../shared` beside the project, or where $DARKNET_PY_SHARED points; without them their tests are skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("DARKNET_PY_SHARED") or Path(__file__).resolve().parents[3] / "shared")
KIT = SHARED / "kit"
RANDOM = SHARED / "random"
REALDATA = SHARED / "realdata"
CASES = SHARED / "cases"
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not available (set DARKNET_PY_SHARED)")
needs_random = pytest.mark.skipif(
    not RANDOM.is_dir(), reason="the random networks are not available (set DARKNET_PY_SHARED)"
)
needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason="the small inputs are not available (set DARKNET_PY_SHARED)"
)
needs_realdata = pytest.mark.skipif(
    not REALDATA.is_dir(), reason="the real images are not available (set DARKNET_PY_SHARED)"
)


def cases(folder: str, pattern: str, corpus: Path = KIT) -> list[str]:
    """The files of `folder` in the corpus, as relative paths without suffix; one skipped case without it."""
    root = corpus / folder
    found = sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob(pattern)) if root.is_dir() else []
    return found or [f"(no {corpus.name})"]


def read_json(folder: str, name: str, corpus: Path = KIT) -> Any:
    return json.loads((corpus / folder / f"{name}.json").read_text())
