"""What all tests share."""

import os
import warnings
from collections.abc import Iterator

import pytest

# Threads that wait give their core away: beside other programs, tests of small networks are then up to ten times as
# fast, with the same numbers. OpenMP reads it when torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Several test processes (pytest -n 2) share the cores.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.fixture(autouse=True)
def _quiet_cfgs() -> Iterator[None]:
    """The official cfgs have unknown and repeated options; tests that are about warnings ask for them."""
    from darknet_py.errors import CfgWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        yield
