"""What all tests share."""

import os
import warnings
from collections.abc import Iterator

import pytest

# Threads that wait give their core away: beside other programs, tests of small networks are then up to ten times as
# fast, with the same numbers. OpenMP reads it when torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _quiet_cfgs() -> Iterator[None]:
    """The official cfgs have unknown and repeated options; tests that are about warnings ask for them."""
    from darknet_py.errors import CfgWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        yield
