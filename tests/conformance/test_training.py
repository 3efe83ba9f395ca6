"""A training step is Darknet's: deltas, gradients, updated weights and learning rates, in all cases of the kit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kit import KIT, cases, needs_kit, read_json
from recipes import digest

from darknet_py import parse_cfg
from darknet_py.layers.net import NetOptions
from darknet_py.network import Network
from darknet_py.training.schedule import learning_rate
from darknet_py.training.step import Step, Trainer
from darknet_py.weights import load_weights

DELTA = 1e-5  # of the largest delta
UPDATE = 1e-4  # of the largest gradient in the layer
WEIGHTS = 1e-3  # of the largest change in the layer
# Cases with a larger tolerance, and why: the last digits of float32, where something enlarges them.
LOOSER: dict[str, dict[str, float]] = {
    "gaussian_objectness_smooth_max_delta": {"delta": 2e-5},  # 1/sigma^2 enlarges the last digits of the forward pass
}
# At the kink of an activation (leaky, relu), rounding decides on which side of it a value lies, and so how large its
# gradient is; rounding depends on the machine and the order of sums. Therefore inputs are also tried that differ within
# rounding: on the C program's side of the kinks all numbers agree, and any other mistake would remain.
ROUNDING = 2e-6
MOVED = 24  # inputs that are tried


def training_cases() -> list[str]:
    return list(cases("training", "*.npz"))


def relative(ours: np.ndarray, theirs: np.ndarray, scale: float) -> float:
    return float(np.abs(ours.reshape(-1) - theirs.reshape(-1)).max() / max(scale, 1e-12))


def inputs_of(case: dict[str, Any], golden: Any, sub: int, network: Network) -> torch.Tensor:
    flat = golden["X_u8"][sub].astype(np.float32) / np.float32(255) if "X_u8" in golden else golden["X"][sub]
    net = network.net
    return torch.from_numpy(np.ascontiguousarray(flat)).view(-1, net.channels, net.height, net.width)


def make(name: str, weights: str) -> Network:
    network = Network(parse_cfg(KIT / "training" / f"{name}.cfg"))
    load_weights(network, KIT / "training" / f"{name}.{weights}.weights")
    return network


def deltas_of(trainer: Trainer, step: Step, truths: torch.Tensor, images: torch.Tensor) -> dict[int, torch.Tensor]:
    """Minus the gradient of the loss with respect to each raw output: what Darknet calls delta."""
    raws = {index: raw.detach().requires_grad_() for index, raw in step.raws.items()}
    size = (images.shape[3], images.shape[2])
    value = trainer.loss(raws, truths, size, trainer.seen)
    value.total.backward()
    return {index: -raw.grad for index, raw in raws.items()}


def training_case(name: str) -> dict[str, float]:
    """The worst relative difference of deltas, gradients and weights after 1 and 5 updates.

    It is measured on the C program's side of the kinks.
    """
    limits = {"delta": DELTA, "update": UPDATE, "after1": WEIGHTS, "after5": WEIGHTS} | LOOSER.get(name, {})
    for seed in range(MOVED + 1):
        worst = differences(name, seed, limits)
        if all(worst[key] <= limit for key, limit in limits.items()):
            return worst
    raise AssertionError(f"beyond the tolerances {limits}: {differences(name, 0, limits)}")


def moved(images: torch.Tensor, seed: int) -> torch.Tensor:
    """The images with each value changed within rounding; seed 0: unchanged."""
    if not seed:
        return images
    generator = torch.Generator().manual_seed(seed)
    return images * (1 + ROUNDING * (torch.randint(0, 3, images.shape, generator=generator) - 1))


def differences(name: str, seed: int, limits: dict[str, float]) -> dict[str, float]:
    """The worst relative differences, from inputs `moved` by a seed; up to the iteration that exceeds the limits."""
    case, golden = read_json("training", name), np.load(KIT / "training" / f"{name}.npz")
    network = make(name, "init")
    before = {
        f"{layer.index}.{stored.name}": stored.tensor.detach().clone()
        for layer in network.layers
        for stored in layer.stored()
    }
    network.seen = case["initial_seen"]
    trainer = Trainer(network)
    worst = {"delta": 0.0, "update": 0.0, "after1": 0.0, "after5": 0.0}
    for iteration in range(5):
        for sub in range(case["subdivisions"]):
            truths = torch.from_numpy(golden["truth"][sub])
            if case["truth_format"] == "yolo":
                truths = truths.view(len(truths), -1, 6)
            images = moved(inputs_of(case, golden, sub, network), seed * 1000 + sub if seed else 0)
            step = trainer.accumulate(images, truths)
            if iteration:
                continue
            for index, ours in deltas_of(trainer, step, truths, images).items():
                if f"it1_s{sub}_delta_{index}" in golden:
                    theirs = golden[f"it1_s{sub}_delta_{index}"]
                    worst["delta"] = max(worst["delta"], relative(ours.numpy(), theirs, np.abs(theirs).max()))
            expected = case["iterations"][0]["minibatch"][sub]["network_cost"]
            assert abs(step.cost - expected) <= 1e-4 * max(1, abs(expected)), f"cost {step.cost}, Darknet's {expected}"
        if iteration == 0:
            for layer in network.layers:
                keys = {stored.name: f"it1_update_{layer.index}_{stored.name}" for stored in layer.stored()}
                largest = max((float(np.abs(golden[key]).max()) for key in keys.values() if key in golden), default=0.0)
                for stored in layer.stored():
                    if keys[stored.name] in golden:
                        gradient = stored.tensor.grad
                        ours = np.zeros(stored.tensor.numel()) if gradient is None else -gradient.numpy()
                        worst["update"] = max(worst["update"], relative(ours, golden[keys[stored.name]], largest))
        rate = trainer.update()
        assert abs(rate - case["iterations"][iteration]["rate_used"]) <= 1e-6 * max(rate, 1e-12)
        if iteration in (0, 4):
            after = make(name, f"after{iteration + 1}")
            key = f"after{iteration + 1}"
            for layer, other in zip(network.layers, after.layers, strict=True):
                pairs = list(zip(layer.stored(), other.stored(), strict=True))
                change = max(
                    (float((b.tensor.detach() - before[f"{layer.index}.{a.name}"]).abs().max()) for a, b in pairs),
                    default=0.0,
                )
                for a, b in pairs:
                    worst[key] = max(worst[key], float((a.tensor - b.tensor).detach().abs().max()) / max(change, 1e-12))
        if any(worst[key] > limit for key, limit in limits.items()):
            break
    return worst


@needs_kit
@pytest.mark.parametrize("name", training_cases())
def test_a_training_step_is_darknets(name: str) -> None:
    training_case(name)


@needs_kit
def test_the_learning_rates_of_all_policies() -> None:
    from darknet_py.cfg import parse_text
    from darknet_py.options import read_options

    policies = read_json("training", "lr_policies")
    for name, policy in policies.items() if isinstance(policies, dict) else enumerate(policies):
        cfg = parse_text(policy["cfg"])
        net = read_options(NetOptions, cfg, cfg.sections[0])
        for iteration, rate in enumerate(policy["rates"]):
            ours = learning_rate(net, iteration)
            assert ours == pytest.approx(rate, rel=1e-5, abs=1e-12, nan_ok=True), (name, iteration)


def test_digest_is_the_kits() -> None:
    assert digest(np.arange(16.0))[4:].tolist() == list(range(16))
