"""Mini-batches for character networks: streams that read a text, each from a place of its own (Darknet:
rnn.c:get_rnn_data).

text = read_symbols("shakespeare.txt", 256)
for batch in text_batches(text, network.net, 256, seed=1):
    batch.images, batch.truths, batch.fresh     # (steps*streams, 256) each, one-hot; (streams,) streams that begin anew
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.errors import DarknetError
from darknet_py.files import read_file
from darknet_py.layers import NetOptions
from darknet_py.names import read_text
from darknet_py.text import whole_number

JUMP = 1 / 64  # probability that a stream goes on elsewhere after a mini-batch (pjreddie; 1/10 in AlexeyAB)


class TextBatch(NamedTuple):
    """A mini-batch of all streams.

    images: (steps*streams, symbols) float32, one-hot, all streams' first symbols first. truths: the same, of the
    symbols that follow. fresh: (streams,) bool, streams that have jumped and know nothing of what was before. paths: of
    the text.
    """

    images: Tensor
    truths: Tensor
    fresh: Tensor
    paths: list[str]


def read_symbols(path: str | os.PathLike[str], symbols: int, *, tokenized: bool = False) -> NDArray[np.integer[Any]]:
    """(n,) the bytes of a text, or the numbers of a tokenized one, each under `symbols`.

    Raises:
        DarknetError: it cannot be read, is too short, or holds a symbol that the network does not know.
    """
    text: NDArray[np.integer[Any]]
    if tokenized:
        words = read_text(path, "tokenized text").split()
        wrong = next((word for word in words if whole_number(word) is None), None)
        if wrong is not None:
            raise DarknetError(
                f"{path}: '{wrong[:20]}' is not a number; a tokenized text is numbers with spaces between"
            )
        text = np.array(words, np.int32)
    else:
        try:
            text = np.frombuffer(read_file(path), np.uint8)
        except OSError as error:
            raise DarknetError(f"{path}: cannot read this text: {error.strerror or error}") from None
    if len(text) < 2:
        raise DarknetError(f"{path}: a text of {len(text)} symbols; there is nothing to learn")
    if int(text.max()) >= symbols:
        place = int(text.argmax())
        raise DarknetError(f"{path}: symbol {text[place]} at place {place}, but the network knows 0 to {symbols - 1}")
    return text


def text_batches(
    text: NDArray[np.integer[Any]], net: NetOptions, symbols: int, *, seed: int, start: int = 0, path: str = ""
) -> Iterator[TextBatch]:
    """Mini-batches without end, from number `start` on; the same seed gives the same ones, wherever one starts."""
    streams, steps = max(net.batch // net.subdivisions, 1), net.time_steps
    place = np.zeros(streams, np.int64)
    for number in itertools.count():
        rng = np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, 0x7E87, number])
        jumped, elsewhere = rng.random(streams) < (JUMP if number else 1), rng.integers(len(text), size=streams)
        place = np.where(jumped, elsewhere, place) % len(text)
        if number >= start:
            numbers = text[(place + np.arange(steps + 1)[:, None]) % len(text)]  # (steps + 1, streams)
            one_hot = F.one_hot(torch.from_numpy(numbers.astype(np.int64)), symbols).float()
            yield TextBatch(one_hot[:-1].flatten(0, 1), one_hot[1:].flatten(0, 1), torch.from_numpy(jumped), [path])
        place += steps
