"""Recurrent layers in training: time_steps inputs at once, gradients through time, states kept between mini-batches."""

from __future__ import annotations

import pytest
import torch

from darknet_py.cfg import parse_text
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network
from darknet_py.training.step import Trainer

FLAT = "[net]\ninputs=5\nbatch=2\ntime_steps=3\n"
IMAGE = "[net]\nwidth=4\nheight=4\nchannels=2\nbatch=2\ntime_steps=3\n"
CONV = "size=3\npad=1\n"
KINDS = {
    "rnn": FLAT + "[rnn]\nhidden=4\noutput=3\nactivation=tanh\nshortcut=1\n",
    "gru": FLAT + "[gru]\noutput=4\n",
    "gru tanh": FLAT + "[gru]\noutput=4\ntanh=1\n",
    "lstm": FLAT + "[lstm]\noutput=4\n",
    "crnn": IMAGE + "[crnn]\nhidden=3\noutput=2\nactivation=tanh\n" + CONV,
    "conv_lstm": IMAGE + "[conv_lstm]\noutput=3\nactivation=linear\npeephole=1\n" + CONV,
    "bottleneck": IMAGE + "[conv_lstm]\noutput=2\nactivation=linear\nbottleneck=1\nshortcut=1\n" + CONV,
}


def make(text: str) -> tuple[Network, torch.Tensor]:
    network = Network(parse_text(text + "[cost]\n")).initialise(1).double()
    Trainer(network)
    generator = torch.Generator().manual_seed(2)
    shape = network.input_shape
    return network, torch.randn(
        6, *(shape[:3] if shape.c else (shape.count,)), generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_propagated_through_time(kind: str) -> None:
    """They are the derivatives of the unrolled network (as Darknet's of [rnn], [gru] and [crnn] without batch norm)."""
    network, x = make(KINDS[kind])
    layer = network.layers[0]
    weights = torch.randn(6, *layer(x).shape[1:], generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def value() -> torch.Tensor:
        network.reset_state()
        return (layer(x) * weights).sum()

    with torch.enable_grad():
        value().backward()
    for stored in layer.stored():
        flat, gradient = stored.tensor.detach().view(-1), stored.tensor.grad
        assert gradient is not None
        for index in range(0, len(flat), max(len(flat) // 6, 1)):
            ends = []
            for step in (1e-5, -1e-5):
                flat[index] += step
                ends.append(float(value().detach()))
                flat[index] -= step
            slope = (ends[0] - ends[1]) / 2e-5
            assert float(gradient.view(-1)[index]) == pytest.approx(slope, rel=1e-5, abs=1e-7), (stored.name, index)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mini_batch_is_its_steps_one_after_the_other(kind: str) -> None:
    network, x = make(KINDS[kind])
    layer = network.layers[0]
    assert isinstance(layer, Recurrent)
    together = layer(x)
    again = layer(x)
    assert not torch.allclose(together, again), "the next mini-batch continues from the state"
    network.reset_state()
    network.eval()
    steps = [layer(part) for part in x.chunk(3)]
    assert torch.allclose(together, torch.cat(steps))
    assert all(not state.requires_grad for state in layer.states.values())


def test_single_lanes_are_reset() -> None:
    network, x = make(KINDS["gru"])
    layer = network.layers[0]
    fresh = layer(x)
    network.reset_state(torch.tensor([False, True]))
    mixed = layer(x)
    assert not torch.allclose(mixed[0], fresh[0])
    assert torch.allclose(mixed[1], fresh[1])


def test_a_sequence_of_images_starts_from_zero_states() -> None:
    """Each mini-batch is a sequence; with sequential_subdivisions=N an iteration has N sequences."""
    for option, continues in (("", False), ("sequential_subdivisions=1\n", True)):
        text = KINDS["crnn"].replace("batch=2\n", f"batch=4\nsubdivisions=2\nmax_batches=9\n{option}")
        network, x = make(text)
        trainer, weights = Trainer(network), {key: value.clone() for key, value in network.state_dict().items()}
        truths = torch.zeros(6, 32, dtype=torch.float64)
        costs = [trainer.accumulate(x, truths).cost for _ in range(2)]
        assert (costs[0] != pytest.approx(costs[1])) == continues
        trainer.update()
        network.load_state_dict(weights)
        assert trainer.accumulate(x, truths).cost == pytest.approx(costs[0])


@pytest.mark.parametrize("kind", ["gru", "crnn"])
def test_half_precision_keeps_states(kind: str) -> None:
    network = Network(parse_text(KINDS[kind] + "[cost]\n")).initialise(1)
    trainer = Trainer(network, precision="bf16")
    shape = network.input_shape
    x = torch.randn(6, *(shape[:3] if shape.c else (shape.count,)), generator=torch.Generator().manual_seed(2))
    low = {index: raw.float() for index, raw in trainer.forward(x).items()}
    network.reset_state()
    trainer.dtype = torch.float32
    for index, raw in trainer.forward(x).items():
        assert torch.allclose(low[index], raw, atol=0.03)
