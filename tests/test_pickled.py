"""Checkpoints of other programs: whole modules in a pickle are read without these programs, and nothing runs."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from darknet_py.errors import WeightsError
from darknet_py.pickled import read_pickled

BLOCK = {"0.conv.weight", "0.bn.weight", "0.bn.bias", "0.bn.running_mean", "0.bn.running_var"}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module of the class Block while it is pickled, which cannot be imported afterwards: another program."""
    module = types.ModuleType("another_program")
    module.Block = Block  # type: ignore[attr-defined]
    monkeypatch.setattr(Block, "__module__", "another_program")
    monkeypatch.setitem(sys.modules, "another_program", module)
    return module


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)
        self.forward_hook: Any = print  # a function, which a usual unpickler imports


def block(value: float) -> nn.Module:
    """A sequence of a block, whose tensors all have this value, in half precision."""
    made = nn.Sequential(Block()).half()
    for tensor in made.state_dict().values():
        tensor.fill_(value)
    return made


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (lambda model: {"epoch": 3, "model": model(1), "ema": model(2), "optimizer": None}, 2),
        (lambda model: {"epoch": -1, "model": model(1), "ema": None}, 1),
        (lambda model: {"epoch": 3, "loss": torch.tensor(0.5), "model": model(1)}, 1),
        (lambda model: {"model": model(1).state_dict(), "amp": {}}, 1),
        (lambda model: {"meta": {"CLASSES": ("a", "b")}, "state_dict": model(1).state_dict()}, 1),
        (lambda model: model(1), 1),
        (lambda model: model(1).state_dict(), 1),
    ],
    ids=[
        "averaged first",
        "no average",
        "a tensor beside",
        "state_dict as model",
        "state_dict by its name",
        "module",
        "state_dict",
    ],
)
def test_the_model_is_found_in_a_checkpoint(
    content: Any, value: float, elsewhere: types.ModuleType, tmp_path: Path
) -> None:
    torch.save(content(block), tmp_path / "a.pt")
    del sys.modules[elsewhere.__name__]
    tensors = read_pickled(tmp_path / "a.pt")
    assert tensors.keys() - {"0.bn.num_batches_tracked"} == BLOCK
    assert tensors["0.conv.weight"].dtype == torch.float16
    assert tensors["0.conv.weight"].flatten().tolist() == [value] * 6


class Makes:
    """A value whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


def test_what_a_pickle_calls_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = [Makes(os.system, "touch was-run"), Makes(eval, "open('was-run', 'w')"), Makes(os.mkdir, "was-run")]
    torch.save({"model": {"a": torch.ones(2)}, "hooks": hostile, "more": {"x": Makes(exec, "1/0")}}, "a.pt")
    assert read_pickled("a.pt")["a"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def archive(path: Path, content: bytes, storage: bytes = bytes(16)) -> None:
    """A file as torch.save writes it, of this pickle and one storage, "0"."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", content)
        file.writestr("a/data/0", storage)


def tensor_of(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The pickle of {"a": a tensor of these sizes in the storage "0"}."""

    storage = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if value is storage else None

    written = io.BytesIO()
    rebuild = torch._utils._rebuild_tensor_v2
    Pickler(written, 2).dump({"a": Makes(rebuild, storage, offset, size, stride, False, None)})
    return written.getvalue()


def deep() -> bytes:
    """Tuples in tuples, as the key of a dictionary: its hash would overflow the stack of an unpickler."""
    return b"\x80\x02}" + b"K\x01" + b"\x85" * 1_000_000 + b"K\x01s."


def in_itself() -> bytes:
    """A module that is a part of itself."""
    module = b"c__main__\nModule\n)\x81q\x00"
    parts = b"}(X\x08\x00\x00\x00_modulesccollections\nOrderedDict\n)R(X\x01\x00\x00\x00xh\x00uu"
    return b"\x80\x02" + module + parts + b"b."


def shared_modules() -> bytes:
    """Modules of which each has the next one 1,000 times: a billion names."""
    inner: nn.Module = nn.Linear(1, 1)
    for _ in range(3):
        outer = nn.Module()
        for number in range(1000):
            outer.add_module(f"m{number}", inner)
        inner = outer
    written = io.BytesIO()
    torch.save(inner, written)
    with zipfile.ZipFile(written) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def doubled() -> bytes:
    """The name of a class that is a tuple of two tuples of two tuples …, all of them the same ones."""
    return b"\x80\x04)\x94" + b"h\x00h\x00\x86q\x00" * 60 + b"h\x00h\x00\x93."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tensor_of((3,), (3,)), "a tensor of (3,) lies outside its data"),
        (tensor_of((2,), (-1,), 3), "its pickle is damaged"),
        (tensor_of((1 << 8_000_000,), (0,)), "its pickle is damaged"),
        (tensor_of((1,) * 65, (1,) * 65), "its pickle is damaged"),
        (tensor_of((1 << 40, 1 << 40), (0, 0)), "lies outside its data"),
        (tensor_of((2,), (1, 1)), "its pickle is damaged"),
        (deep(), "it holds no tensors by names"),
        (in_itself(), "its modules are nested without end"),
        (shared_modules(), "its modules are nested without end"),
        (doubled(), "its pickle is damaged"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "it holds no tensors by names"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.", "its pickle is damaged"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "its pickle is damaged"),
        (b"\x80\x02h\x07.", "its pickle is damaged"),
        (b"\x80\x02R.", "its pickle is damaged"),
        (b"\x80\x02cos\nsystem\n(S'touch was-run'\ntR.", "its pickle has the operation STRING"),
        (b"cos\nsystem\n(X\x0d\x00\x00\x00touch was-runtR.", "it holds no tensors by names"),
        (b"\x80\x02", "its pickle is damaged"),
        (b"", "its pickle is damaged"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_a_damaged_or_hostile_pickle_is_refused_in_a_sentence(
    content: bytes, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive(Path("a.pt"), content)
    with pytest.raises(WeightsError) as caught:
        read_pickled("a.pt")
    text = str(caught.value)
    assert text.startswith("a.pt: not a PyTorch state_dict: ")
    assert says in text
    assert "\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_storages_that_are_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    """Entries that lie over each other: a bomb of zeros that needs no compression."""
    path = tmp_path / "a.pt"
    archive(path, tensor_of((4,), (1,)), bytes(100_000))
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")  # the directory's line of the storage, which is repeated
    end = data.index(b"PK\x05\x06")
    line = data[start:end]
    copies = [line.replace(b"a/data/0", b"a/data/%d" % k) for k in range(1, 9)]
    rest = bytearray(data[end:])
    rest[8:10] = rest[10:12] = (2 + len(copies)).to_bytes(2, "little")
    rest[12:16] = (int.from_bytes(rest[12:16], "little") + len(line) * len(copies)).to_bytes(4, "little")
    path.write_bytes(bytes(data[:end]) + b"".join(copies) + bytes(rest))
    assert len(zipfile.ZipFile(path).infolist()) == 10
    with pytest.raises(WeightsError, match=r"its parts overlap; not read$"):
        read_pickled(path)


def test_every_damaged_byte_of_the_archive_is_a_sentence(tmp_path: Path) -> None:
    """The library that reads archives gives whatever strange bytes lead to."""
    path = tmp_path / "a.pt"
    archive(path, tensor_of((4,), (1,)))
    data = path.read_bytes()
    for position in range(len(data)):
        for value in (0x00, 0xFF, data[position] ^ 0x80):
            path.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            with contextlib.suppress(WeightsError):
                read_pickled(path)
