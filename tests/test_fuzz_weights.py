"""Whatever a weights file holds, it is loaded or refused with one sentence."""

from __future__ import annotations

import json
import struct
import tempfile
import textwrap
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_cases import examples

from darknet_py.cfg import parse_text
from darknet_py.errors import WeightsError
from darknet_py.network import Network
from darknet_py.options import MAX_INT
from darknet_py.weights import load_weights, save_weights

STORED = textwrap.dedent("""\
    [net]
    width=4
    height=4
    channels=3
    [convolutional]
    filters=3
    batch_normalize=1
    [maxpool]
    [convolutional]
    filters=3
    flipped=1
    [shortcut]
    from=-2
    weights_type=per_feature
    [connected]
    output=2
    batch_normalize=1
    [gru]
    """)


def loads(network: Network, path: Path) -> bool:
    """Whether it was loaded; if not, a WeightsError named the file."""
    try:
        load_weights(network, path)
    except WeightsError as error:
        refusal = str(error)
    else:
        return True
    assert refusal.startswith(f"{path}: ")
    return False


@cache
def stored_network() -> Network:
    return Network(parse_text(STORED)).initialise(1)


HEADERS = st.builds(
    lambda major, minor, revision, seen: struct.pack("<3iQ", major, minor, revision, seen),
    *[st.sampled_from([0, 0, 1, 2, 5, 1001, -1, MAX_INT])] * 3,
    st.integers(0, 2**64 - 1),
)


@examples(200)
@given(
    data=st.one_of(st.binary(max_size=600), st.builds(lambda *parts: b"".join(parts), HEADERS, st.binary(max_size=600)))
)
def test_any_bytes_are_weights_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    for ending in ("weights", "safetensors"):
        path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
        path.write_bytes(data)
        loads(stored_network(), path)


@pytest.mark.parametrize("ending", ["weights", "safetensors"])
def test_a_file_that_is_cut_anywhere_is_refused(ending: str, tmp_path: Path) -> None:
    network, path = stored_network(), tmp_path / f"fuzz.{ending}"
    save_weights(network, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert not loads(network, path), f"{length} of {len(whole)} bytes"
    path.write_bytes(whole)
    assert loads(network, path)


@cache
def safetensors_parts() -> tuple[bytes, bytes]:
    """The header (JSON, sorted: the library writes it in any order) and the tensors of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        save_weights(stored_network(), Path(folder) / "fuzz.safetensors")
        data = (Path(folder) / "fuzz.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True).encode(), data[8 + length :]


@examples(300)
@given(data=st.data())
def test_safetensors_with_wrong_bytes_are_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good, tensors = safetensors_parts()
    header = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(header) - 1))
        header[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789",:{}[]. ')))
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + tensors)
    loads(stored_network(), path)
