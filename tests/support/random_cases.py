"""Random cases: how many, the values of options, and networks that are built or refused.

Every run draws the same cases. For a longer search, of new ones, DARKNET_PY_FUZZ=100 multiplies their number.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from darknet_py.cfg import Cfg
from darknet_py.errors import CfgError, CfgWarning
from darknet_py.layers.activation import ACTIVATIONS
from darknet_py.network import Network
from darknet_py.options import MAX_INT

LONGER = int(os.environ.get("DARKNET_PY_FUZZ", "1"))


def examples(count: int) -> settings:
    """Settings of a test: `count` cases, the same in every run unless a longer search is asked for."""
    return settings(
        max_examples=count * LONGER,
        derandomize=LONGER == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def build(cfg: Callable[[], Cfg]) -> Network | None:
    """The network, or None where it was refused; the refusal names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        try:
            network = Network(cfg())
        except CfgError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert "fuzz.cfg:" in refusal
        return None
    stored = {
        id(item.tensor): item.tensor.numel() for layer in network.layers for item in layer.stored()
    }  # not yet written to
    assert sum(stored.values()) <= MAX_INT
    filled = sum(buffer.numel() for buffer in network.buffers() if id(buffer) not in stored)
    assert filled < 10_000_000, "memory that is filled while the network is built"
    return network


INTEGERS = st.one_of(
    st.integers(-4, 9),
    st.integers(-4, 9),
    st.sampled_from([0, 1, 31, 32, 416, 65535, 65536, MAX_INT, -MAX_INT]),
    st.integers(),
).map(str)
NUMBERS = st.one_of(
    INTEGERS, st.floats().map(repr), st.sampled_from([".7", "1e-3", "1e39", "0x10", "2abc", "3#x", "-", "+."])
)
LISTS = st.lists(NUMBERS, max_size=6).map(",".join)
WILD = st.one_of(NUMBERS, LISTS, st.sampled_from([*ACTIVATIONS, "", "no.tree"]))
