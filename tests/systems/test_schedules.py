"""Learning rates, momentum, accumulation and moving averages, iteration by iteration, as the newer systems' own
programs set them (`schedule.json`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from project import CFGS
from yolos import content, needs_yolos

from darknet_py.cfg import parse_cfg, parse_text
from darknet_py.layers.net import NetOptions
from darknet_py.network import Network
from darknet_py.options import read_options
from darknet_py.training.ema import moving_average
from darknet_py.training.schedule import (
    accumulated,
    bias_rate,
    ends_update,
    learning_rate,
    momentum,
    scaled_decay,
)
from darknet_py.training.step import Trainer

pytestmark = needs_yolos

CFGS_OF = {
    "hyp.scratch.p5.yaml": "yolov7-ota",
    "hyp.scratch.p6.yaml": "yolov7-w6",
    "hyp.scratch.tiny.yaml": "yolov7-tiny-ota",
    "yolov5": "yolov5n",
    "yolov6": "yolov6n",
    "yolov8": "yolov8n",
    "yolox": "yolox-nano",
}
"""A system, or the settings of a table, → the cfg whose recipe it is."""


def recipe(name: str) -> NetOptions:
    """The [net] of a cfg."""
    cfg = parse_cfg(CFGS / f"{CFGS_OF[name]}.cfg")
    return read_options(NetOptions, cfg, cfg.sections[0])


def tables(system: str) -> Iterator[tuple[NetOptions, dict[str, Any]]]:
    """[net] for each table of YOLOv5, v6 and v7, and the table: the cfg's, with what the table has of its own."""
    for table in content(f"{system}/schedule.json").get("tables", []):
        net, epochs = recipe(table.get("hyp", system)), table["epochs"]
        linear, last = table.get("linear_lr", not table.get("cos_lr", True)), net.learning_rate_min
        if system == "yolov7" and linear:  # it arrives an epoch earlier
            last = net.learning_rate - (net.learning_rate - last) * epochs / (epochs - 1)
        yield (
            replace(
                net,
                policy="linear" if linear else "cosine",
                learning_rate_min=last,
                epochs=epochs,
                max_batches=epochs * table["batches_per_epoch"],
                burn_in=table["warmup_iterations"],
                burn_in_epochs=0,
                batch=table["batch"],
            ),
            table,
        )


TABLES = [
    pytest.param(*one, id=f"{system}-{k}")
    for system in ("yolov5", "yolov6", "yolov7")
    for k, one in enumerate(tables(system))
]


def trainer_of(net: NetOptions, names: str) -> Trainer:
    """Of a small network with these options of [net]."""
    lines = [f"{name}={getattr(net, name)}" for name in names.split()]
    sections = "[connected]\noutput=2\nactivation=linear\n[softmax]\n"
    return Trainer(Network(parse_text("[net]\ninputs=2\nbatch=2\n" + "\n".join(lines) + "\n" + sections)).initialise(0))


def updates(net: NetOptions, iterations: int) -> list[bool]:
    """Whether each iteration of a training changes the weights."""
    done: list[bool] = []
    waiting = 0
    for number in range(1, iterations + 1):
        done.append(ends_update(net, number, waiting))
        waiting = 0 if done[-1] else waiting + 1
    return done


@pytest.mark.parametrize(("net", "table"), TABLES)
def test_each_iteration_has_the_rates_and_the_momentum_of_the_original(net: NetOptions, table: dict[str, Any]) -> None:
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert scaled_decay(net) == pytest.approx(table["weight_decay"], rel=1e-12)
    for number, row in enumerate(rows, start=1):
        rate = learning_rate(net, number)
        assert [rate, rate] == pytest.approx([row["lr_weight"], row["lr_bn"]], rel=1e-12, abs=1e-15)
        assert bias_rate(net, number) == pytest.approx(row["lr_bias"], rel=1e-12)
        assert momentum(net, number) == pytest.approx(row["momentum"], rel=1e-12)
        assert accumulated(net, number) == row["accumulate"]
    assert updates(net, len(rows)) == [bool(row["optimizer_step"]) for row in rows]


@pytest.mark.parametrize("kind", content("yolov8/schedule.json"))
def test_a_real_run_of_yolov8_has_these_rates_and_updates(kind: str) -> None:
    run = content("yolov8/schedule.json")[kind]
    epochs = run["epochs"]
    net = replace(
        recipe("yolov8"),
        policy="cosine" if run["args"]["cos_lr"] else "linear",
        epochs=epochs,
        max_batches=epochs * run["iterations_per_epoch"],
        batch=run["batch"],
    )
    rows = [dict(zip(run["columns"], row, strict=True)) for row in run["rows"]]
    for number, row in enumerate(rows, start=1):
        rate = learning_rate(net, number)
        assert [rate, rate] == pytest.approx([row["lr_conv"], row["lr_bn"]], rel=1e-12, abs=1e-15)
        assert bias_rate(net, number) == pytest.approx(row["lr_bias"], rel=1e-12)
        assert momentum(net, number) == pytest.approx(row["momentum"], rel=1e-12)
        assert accumulated(net, number) == row["accumulate"]
    assert list(itertools.accumulate(updates(net, len(rows)))) == [row["ema_updates"] for row in rows]


@pytest.mark.parametrize("name", content("yolox/schedule_ema.json").get("schedules", {}))
def test_the_rate_of_yolox_rises_by_squares_falls_along_a_cosine_and_stays(name: str) -> None:
    schedule = content("yolox/schedule_ema.json")["schedules"][name]
    about = schedule["args"]
    net = replace(
        recipe("yolox"),
        learning_rate=about["lr"],
        learning_rate_min=about["lr"] * about["min_lr_ratio"],
        epochs=about["total_epochs"],
        max_batches=about["total_epochs"] * about["iters_per_epoch"],
        burn_in_epochs=about["warmup_epochs"],
        close_mosaic=about["no_aug_epochs"],
    )
    rates = [learning_rate(net, number + 1) for number in schedule["iters"]]
    assert rates == pytest.approx(schedule["lr"], rel=1e-12)


DECAYS = [
    pytest.param(0.9999, content(f"{system}/schedule.json").get("ema_decay_after_update", {}), id=system)
    for system in ("yolov5", "yolov6", "yolov7")
] + [
    pytest.param(about["decay"], dict(enumerate(about["d_by_update"])), id=system)
    for system, name in (("yolov8", "yolov8/toy_train.json"), ("yolox", "yolox/schedule_ema.json"))
    if (about := content(name).get("ema"))
]


@pytest.mark.parametrize(("alpha", "decays"), DECAYS)
def test_the_decay_of_the_average_rises_with_the_updates(alpha: float, decays: dict[str, float]) -> None:
    net = f"[net]\ninputs=2\nema_alpha={alpha}\nema_ramp=2000\n"
    network = Network(parse_text(net + "[connected]\noutput=1\nactivation=linear\n"))
    (weights,) = (stored.tensor for stored in network.layers[0].stored() if stored.name == "weights")
    average = moving_average(network)
    for updates, decay in decays.items():
        average.values["layers.0.weights"].fill_(1)
        weights.data.zero_()
        average.update(0, int(updates))
        assert float(average.values["layers.0.weights"].mean()) == pytest.approx(decay, rel=1e-6, abs=1e-12)
    assert decays


def test_without_epochs_each_iteration_is_one() -> None:
    net = NetOptions(policy="cosine", learning_rate=1.0, learning_rate_min=0.0, max_batches=4)
    rates = [learning_rate(net, number) for number in range(1, 5)]
    assert rates == pytest.approx([(1 + math.cos(k / 4 * math.pi)) / 2 for k in range(4)])


def test_biases_alone_have_the_bias_rate() -> None:
    trainer = trainer_of(
        NetOptions(policy="cosine", learning_rate=0.5, burn_in=10, burn_in_bias_rate=0.1, max_batches=20),
        "policy learning_rate burn_in burn_in_bias_rate max_batches",
    )
    before = {stored.name: stored.tensor.detach().clone() for stored in trainer.network.layers[0].stored()}
    trainer.accumulate(torch.ones(2, 1, 1, 2), torch.tensor([[1.0, 0.0]] * 2))
    trainer.update()
    changed = {s.name for s in trainer.network.layers[0].stored() if not torch.equal(s.tensor, before[s.name])}
    assert changed == {"biases"}, "the first rate of all others is 0"
