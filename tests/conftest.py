"""What all tests share."""

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet_cfgs() -> Iterator[None]:
    """The official cfgs have unknown and repeated options; tests that are about warnings ask for them."""
    from darknet_py.errors import CfgWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        yield
