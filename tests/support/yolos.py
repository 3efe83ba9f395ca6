"""What the newer systems' own programs compute: `../shared/yolos`, beside the conformance kit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import SHARED

YOLOS = SHARED / "yolos"
needs_yolos = pytest.mark.skipif(not YOLOS.is_dir(), reason="the YOLOs' own numbers are not available")


@cache
def arrays(path: Path) -> dict[str, Any]:
    """The arrays of a .npz file, by name."""
    with np.load(path) as file:
        return dict(file)
