"""PyTorch's pickled files (.pt, .pth) as tensors by their names; nothing that a file asks for is called.

A pickle is a program for a stack machine, which may import and call anything. `_Machine` follows it with values that do
nothing: what would be a call gives a description of a tensor, or else an empty object. So the checkpoints of programs
that pickle whole modules can be read without these programs, and whoever made them.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from dataclasses import dataclass, field
from pickletools import genops
from typing import NamedTuple

import torch
from torch import Tensor

from darknet_py.errors import WeightsError
from darknet_py.files import open_file
from darknet_py.text import shortened

DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
MODELS = ("ema", "model", "state_dict")
"""Where checkpoints have their model; averaged weights come first, as they are what the original programs test."""
VALUES = frozenset((
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
))  # fmt: skip
"""The operations that push what is written in the pickle."""
MAX_PICKLE = 1 << 24  # bytes; the names and shapes of a model need less than 1 MB
MAX_NAMES = 100_000  # modules and tensors in a model, and how deep they are nested: a module may be part of itself
MAX_DIMENSIONS = 64  # of a tensor; PyTorch's own limit
DAMAGED = "its pickle is damaged"


class ContentError(Exception):
    """What is wrong with the content of a file, as words for the user."""


class Global(NamedTuple):
    """Something that a pickle imports: "module name"."""

    name: str


class View(NamedTuple):
    """A tensor: a part of the storage `key`; offset, size and stride in values."""

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class Thing:
    """Any other object: its items, if it is a dictionary, and its attributes. Other contents are not kept."""

    items: dict[str, object] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)

    def held(self, name: str) -> dict[str, object]:
        """The items of the dictionary that is the attribute `name`."""
        return held.items if isinstance(held := self.attributes.get(name), Thing) else {}


def read_pickled(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a state_dict, or of the model in a checkpoint (`MODELS`), by their names; modules as their
    state_dict names them.

    Raises:
        WeightsError: it cannot be read, is no PyTorch file, is damaged, or holds no tensors by names.
    """
    try:
        open_file(path).close()
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read this file: {error.strerror or error}") from None
    except WeightsError:
        raise
    except (zipfile.BadZipFile, EOFError, LookupError, ValueError, OverflowError, RuntimeError, struct.error):
        raise WeightsError(
            f"{path}: not a file as torch.save writes it since PyTorch 1.6; is it cut off? (an older one: load it with "
            "PyTorch and save it again)"
        ) from None


def _read(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type or entry.file_size != entry.compress_size for entry in entries.values()):
        raise WeightsError(f"{path}: a compressed archive, which torch.save does not write; not read")
    if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
        raise WeightsError(f"{path}: not a PyTorch file: its parts overlap; not read")
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"{path}: not a PyTorch state_dict: the archive has {len(pickles)} files data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise WeightsError(f"{path}: written on a machine with another byte order; save it again on this one")
    try:
        if entries[pickles[0]].file_size > MAX_PICKLE:
            raise ContentError("its pickle is too large")
        views = _model(_Machine().run(archive.read(pickles[0])))
        storages = {view.key: f"{folder}data/{view.key}" for view in views.values()}
        data = {key: bytearray(archive.read(name)) for key, name in storages.items()}
        return {name: _tensor(view, data[view.key]) for name, view in views.items()}
    except (ContentError, LookupError, TypeError, ValueError, OverflowError, RuntimeError, struct.error) as error:
        reason = str(error) if isinstance(error, ContentError) else DAMAGED
        raise WeightsError(f"{path}: not a PyTorch state_dict: {reason}; save network.state_dict() alone") from None


def _tensor(view: View, data: bytearray) -> Tensor:
    """Raises ContentError if the storage has less than the view needs."""
    count = len(data) // view.dtype.itemsize
    reach = 1 + view.offset + sum((n - 1) * step for n, step in zip(view.size, view.stride, strict=True))
    if 0 in view.size:
        return torch.empty(view.size, dtype=view.dtype)
    if reach > count or math.prod(view.size) >= 2**31:
        raise ContentError(f"a tensor of {shortened(str(view.size))} lies outside its data")
    return torch.frombuffer(data, dtype=view.dtype).as_strided(view.size, view.stride, view.offset)


def _model(content: object) -> dict[str, View]:
    """The tensors of a state_dict, of a module, or of the model in a checkpoint."""
    if not isinstance(content, Thing):
        raise ContentError("it holds a single tensor" if isinstance(content, View) else "it holds no tensors by names")
    tensors = _views(content.items)
    if tensors and len(tensors) == len(content.items):
        return tensors
    models = (content.items.get(name) for name in MODELS)
    for model in (content, *models) if not tensors else models:
        if isinstance(model, Thing) and (found := _views(model.items) or _module_tensors(model)):
            return found
    if tensors:
        name = next(name for name in content.items if name not in tensors)
        raise ContentError(f"'{shortened(name)}' is no tensor")
    keys = f" (keys {shortened(', '.join(content.items))})" if content.items else ""
    raise ContentError(f"it holds no tensors by names{keys}")


def _views(items: dict[str, object]) -> dict[str, View]:
    return {name: value for name, value in items.items() if isinstance(value, View)}


def _module_tensors(module: Thing) -> dict[str, View]:
    """Parameters and buffers of a module and the modules in it, named as its state_dict names them."""
    found: dict[str, View] = {}
    rest, seen = [("", module)], 0
    while rest:
        prefix, part = rest.pop()
        own, modules = part.held("_parameters") | part.held("_buffers"), part.held("_modules")
        seen += 1 + len(own) + len(modules)
        if seen + prefix.count(".") > MAX_NAMES or len(prefix) > 1000:
            raise ContentError("its modules are nested without end")
        found |= {f"{prefix}{name}": view for name, view in _views(own).items()}
        rest += [(f"{prefix}{name}.", inner) for name, inner in reversed(modules.items()) if isinstance(inner, Thing)]
    return found


class _Machine:
    """The pickle machine with values that do nothing. A bad pickle raises ContentError, LookupError, TypeError or
    ValueError."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self, data: bytes) -> object:
        for operation, argument, _ in genops(data):
            if operation.name == "STOP":
                break
            self.step(operation.name, argument)
        return self.stack.pop()

    def step(self, name: str, argument: object) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_SET":
                stack.append(Thing())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.popped(int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self.marked()))
            case "FROZENSET":
                self.marked()
                stack.append(Thing())
            case "APPEND":
                stack.pop()
            case "APPENDS" | "ADDITEMS":
                self.marked()
            case "SETITEM":
                self.set_items(self.popped(2))
            case "SETITEMS":
                self.set_items(self.marked())
            case "GLOBAL":
                stack.append(Global(str(argument)))
            case "STACK_GLOBAL":
                stack.append(Global(" ".join(map(_word, self.popped(2)))))
            case "REDUCE" | "NEWOBJ":
                called, arguments = self.popped(2)
                stack.append(_made(called, arguments))
            case "NEWOBJ_EX":
                self.popped(3)
                stack.append(Thing())
            case "BUILD":
                self.build(stack.pop(), stack[-1])
            case "BINPERSID":
                stack.append(stack.pop())  # the description of a storage, a tuple; see `_made`
            case "BINPUT" | "LONG_BINPUT":
                self.memo[_whole(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[_whole(argument)])
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.marked()
            case _ if name in VALUES:
                stack.append(argument)
            case _:
                raise ContentError(f"its pickle has the operation {name}, which torch.save does not write")

    def popped(self, count: int) -> list[object]:
        if len(self.stack) < count:
            raise ContentError(DAMAGED)
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def marked(self) -> list[object]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def set_items(self, pairs: list[object]) -> None:
        """Keeps the items whose keys are words, as those of state_dicts are."""
        if isinstance(target := self.stack[-1], Thing):
            items = zip(pairs[::2], pairs[1::2], strict=True)
            target.items |= {key: value for key, value in items if isinstance(key, str)}

    def build(self, state: object, target: object) -> None:
        if isinstance(state, tuple) and state:  # the attributes, and those in slots
            state = state[0]
        if isinstance(target, Thing) and isinstance(state, Thing):
            target.attributes |= state.items


def _whole(value: object) -> int:
    """A number as tensors have it: up to 2^63."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ContentError(DAMAGED)
    return value


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise ContentError(DAMAGED)
    return value


def _wholes(values: tuple[object, ...]) -> tuple[int, ...]:
    if len(values) > MAX_DIMENSIONS:
        raise ContentError(DAMAGED)
    return tuple(map(_whole, values))


def _made(called: object, arguments: object) -> object:
    """What a call gives: a tensor if it builds one, else an object without contents."""
    name = called.name if isinstance(called, Global) else ""
    if not isinstance(arguments, tuple):
        return Thing()
    match name, arguments:
        case "torch._utils _rebuild_tensor_v2", (
            ("storage", Global(kind), str(key), _, int()), int(offset), tuple(size), tuple(stride), *_
        ) if kind in DTYPES:  # fmt: skip
            return View(key, DTYPES[kind], _whole(offset), _wholes(size), _wholes(stride))
        case (("torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state"), (View() as view, *_)):
            return view
        case "torch._tensor _rebuild_from_type_v2", (function, _, tuple(inner), *_):
            return _made(function, inner)
        case "torch Size", (tuple(size),):
            return size
    return Thing()
