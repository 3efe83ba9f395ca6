"""Networks as cfg texts, .weights files with known numbers, and a network's tensors by name."""

from __future__ import annotations

import struct
import textwrap
from pathlib import Path

import numpy as np
import torch

from darknet_py.cfg import parse_text
from darknet_py.network import Network
from darknet_py.weights import Loaded

NET = "[net]\nwidth=4\nheight=4\nchannels=3\n"
FLAT = "[net]\ninputs=5\n"
SEEN = 123_456_789
BACKBONE = NET + textwrap.dedent("""\
    [convolutional]
    filters=2
    batch_normalize=1
    [maxpool]
    [convolutional]
    filters=3
    {}
    [convolutional]
    filters=4
    """)


def network(cfg: str) -> Network:
    return Network(parse_text(cfg, "my.cfg"))


def header(version: tuple[int, int, int] = (0, 2, 5), seen: int = SEEN) -> bytes:
    """Version, and images seen: 64 bits from version 0.2 on, 32 before."""
    wide = version[0] * 10 + version[1] >= 2
    return struct.pack("<3iQ" if wide else "<3iI", *version, seen)


def count(model: Network) -> int:
    """Floats of the network's file."""
    return sum(stored.tensor.numel() for layer in model.layers for stored in layer.loaded())


def numbered(path: Path, floats: int, version: tuple[int, int, int] = (0, 2, 5)) -> Path:
    """A file whose floats are 0, 1, 2, …: each value says where it stood."""
    path.write_bytes(header(version) + np.arange(floats, dtype="<f4").tobytes())
    return path


def random_file(path: Path, floats: int, version: tuple[int, int, int] = (0, 2, 5), seed: int = 1) -> bytes:
    """A file of random bits, among them infinities and all kinds of NaN."""
    data = header(version) + np.random.default_rng(seed).bytes(4 * floats)
    path.write_bytes(data)
    return data


def value(model: Network, name: str) -> torch.Tensor:
    """`0.input_layer.biases` → that tensor of layer 0."""
    index, *attributes = name.split(".")
    found = model.layers[int(index)]
    for attribute in attributes:
        found = getattr(found, attribute)
    assert isinstance(found, torch.Tensor)
    return found.detach()


def states(report: list[Loaded]) -> list[tuple[int, str]]:
    return [(layer.index, layer.state) for layer in report]


def parts(names: str, fields: str) -> str:
    """The fields of each layer inside a recurrent layer."""
    return " ".join(f"0.{part}.{field}" for part in names.split() for field in fields.split())


PLAIN, CONV_BN, CONNECTED_BN = (
    "biases weights",
    "biases scales rolling_mean rolling_variance weights",
    "biases weights scales rolling_mean rolling_variance",
)
ORDER = {  # a network, and its tensors in the order of Darknet's parser.c:load_weights_upto
    "convolutional": (NET + "[convolutional]\nfilters=2\nsize=3\n", "0.biases 0.weights"),
    "convolutional, batch norm": (
        NET + "[convolutional]\nfilters=2\nsize=3\nbatch_normalize=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "convolutional, cbn": (
        NET + "[convolutional]\nfilters=2\ncbn=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "convolutional, groups": (NET + "[convolutional]\nfilters=6\ngroups=3\nsize=2\n", "0.biases 0.weights"),
    "convolutional, xnor": (NET + "[convolutional]\nfilters=2\nsize=3\nxnor=1\n", "0.biases 0.weights"),
    "convolutional, antialiasing": (
        NET + "[convolutional]\nfilters=2\nstride=2\nantialiasing=1\n",
        "0.biases 0.weights",
    ),
    "convolutional, shared": (
        NET
        + "[convolutional]\nfilters=3\nbatch_normalize=1\n"
        + "[convolutional]\nfilters=3\nbatch_normalize=1\nshare_index=0\n[connected]\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights 2.biases 2.weights",
    ),
    "deconvolutional": (NET + "[deconvolutional]\nfilters=2\nsize=2\n", "0.biases 0.weights"),
    "deconvolutional, batch norm": (
        NET + "[deconvolutional]\nfilters=2\nsize=2\nbatch_normalize=1\n",
        "0.biases 0.scales 0.rolling_mean 0.rolling_variance 0.weights",
    ),
    "connected": (FLAT + "[connected]\noutput=3\n", "0.biases 0.weights"),
    "connected, batch norm": (
        FLAT + "[connected]\noutput=3\nbatch_normalize=1\n",
        "0.biases 0.weights 0.scales 0.rolling_mean 0.rolling_variance",
    ),
    "batchnorm": (NET + "[batchnorm]\n", "0.biases 0.scales 0.rolling_mean 0.rolling_variance"),
    "local": (NET + "[local]\nfilters=2\nsize=3\n", "0.biases 0.weights"),
    "shortcut, one weight per source": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\nweights_type=per_feature\n",
        "0.biases 0.weights 1.biases 1.weights 2.weights",
    ),
    "shortcut, one weight per source and channel": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\nweights_type=per_channel\n",
        "0.biases 0.weights 1.biases 1.weights 2.weights",
    ),
    "shortcut without weights": (
        NET + "[convolutional]\nfilters=3\n[convolutional]\nfilters=3\n[shortcut]\nfrom=-2\n",
        "0.biases 0.weights 1.biases 1.weights",
    ),
    "implicit": (NET + "[implicit]\nfilters=4\natoms=2\n", "0.weights"),
    "rnn": (FLAT + "[rnn]\nhidden=3\noutput=2\n", parts("input_layer self_layer output_layer", PLAIN)),
    "rnn, batch norm": (
        FLAT + "[rnn]\nhidden=3\noutput=2\nbatch_normalize=1\n",
        parts("input_layer self_layer output_layer", CONNECTED_BN),
    ),
    "gru": (FLAT + "[gru]\noutput=3\n", parts("input_z input_r input_h state_z state_r state_h", PLAIN)),
    "gru, batch norm": (
        FLAT + "[gru]\noutput=3\nbatch_normalize=1\n",
        parts("input_z input_r input_h state_z state_r state_h", CONNECTED_BN),
    ),
    "lstm": (FLAT + "[lstm]\noutput=3\n", parts("wf wi wg wo uf ui ug uo", PLAIN)),
    "lstm, batch norm": (
        FLAT + "[lstm]\noutput=3\nbatch_normalize=1\n",
        parts("wf wi wg wo uf ui ug uo", CONNECTED_BN),
    ),
    "crnn": (NET + "[crnn]\nhidden=4\noutput=2\npad=1\n", parts("input_layer self_layer output_layer", PLAIN)),
    "crnn, batch norm": (
        NET + "[crnn]\nhidden=4\noutput=2\npad=1\nbatch_normalize=1\n",
        parts("input_layer self_layer output_layer", CONV_BN),
    ),
    "conv_lstm": (NET + "[conv_lstm]\noutput=2\npad=1\n", parts("wf wi wg wo uf ui ug uo", PLAIN)),
    "conv_lstm, peephole and batch norm": (
        NET + "[conv_lstm]\noutput=2\npad=1\npeephole=1\nbatch_normalize=1\n",
        parts("vf vi vo wf wi wg wo uf ui ug uo", CONV_BN),
    ),
    "conv_lstm, bottleneck": (NET + "[conv_lstm]\noutput=3\npad=1\nbottleneck=1\n", parts("wf uf ui ug uo", PLAIN)),
    "conv_lstm, peephole and bottleneck": (
        NET + "[conv_lstm]\noutput=3\npad=1\npeephole=1\nbottleneck=1\n",
        parts("vf vi vo wf uf ui ug uo", PLAIN),
    ),
}

ERRORS = (
    NET + "[convolutional]\nfilters=2\nbatch_normalize=1\n[maxpool]\n[convolutional]\nfilters=3\n"
)  # 14 and 9 floats
NEEDED = 20 + 4 * 23
GOOD = header() + np.arange(23, dtype="<f4").tobytes()
