"""Losses that no case of the kit shows, beside the C program's loops written out.

Contrastive losses, rejected labels, class maps and class trees.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from losses_of import head_of

from darknet_py import parse_cfg
from darknet_py.cfg import parse_text
from darknet_py.errors import CfgError
from darknet_py.layers.net import NetOptions
from darknet_py.losses import Rejection
from darknet_py.network import Network
from darknet_py.training.step import Trainer

YOLO = """[net]
width=32
height=32
channels=3
batch={batch}
time_steps={steps}
[convolutional]
filters=24
size=1
stride=8
activation=linear
[yolo]
mask=0,1,2
anchors=4,5, 8,8, 16,14
classes=3
num=3
max=12
{yolo}
[route]
layers=-2
[contrastive]
yolo_layer=-2
temperature={temperature}
contrastive_neg_max={maximum}
"""


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def boxes_delta(
    z: np.ndarray, labels: list[int], kinds: list[int], times: list[int], temperature: float, maximum: int
) -> np.ndarray:
    """blas.c: P_constrastive_f_det, grad_contrastive_loss_positive_f and …_negative_f, for boxes with a track id."""
    samples = [i for i, label in enumerate(labels) if label >= 0]
    pairs = {
        (i, j): cosine(z[i], z[j])
        for i in samples
        for j in samples
        if i != j and kinds[i] == kinds[j] and times[i] == times[j]
    }
    powers = {pair: math.exp(sim / temperature) for pair, sim in pairs.items()}
    result = np.zeros_like(z)
    for i in samples:
        count = labels.count(labels[i])
        scale = 1 / ((count - 1) * temperature * np.linalg.norm(z[i])) if count > 1 else 0.0
        counter, full = 0, False

        def probability(pair: tuple[int, int]) -> float:
            others = sum(power for (k, j), power in powers.items() if j == pair[1] and k != pair[0])
            ratio = powers[pair] / others if others else 0.9999
            return 0.9999 if ratio > 1 else ratio

        for j in range(len(z)):
            if j == i or labels[j] != labels[i]:
                continue
            if (i, j) in pairs:
                result[i] -= scale * (pairs[i, j] * z[i] - z[j]) * (1 - probability((i, j)))
            for k in range(len(z)):
                if full or k in (i, j) or labels[k] == labels[i] or kinds[k] != kinds[j]:
                    continue
                counter += 1
                if (i, k) in pairs:
                    result[i] -= scale * (z[k] - pairs[i, k] * z[i]) * probability((i, k))
                    full = counter >= maximum
    return result


@pytest.mark.parametrize(("temperature", "maximum", "steps"), [(0.5, 3, 1), (1.0, 1, 1), (0.2, 100, 2)])
def test_boxes_of_one_track_attract_each_other(temperature: float, maximum: int, steps: int) -> None:
    network = Network(parse_text(YOLO.format(batch=4, steps=steps, yolo="", temperature=temperature, maximum=maximum)))
    layer: Any = network.layers[3]
    rng = np.random.default_rng(7)
    truths = np.zeros((4, 12, 6), np.float32)
    truths[:, :6, :2] = rng.uniform(0.05, 0.95, (4, 6, 2))
    truths[:, :6, 2:4] = rng.uniform(0.1, 0.5, (4, 6, 2))
    truths[:, :6, 4] = rng.integers(0, 3, (4, 6))
    truths[:, :6, 5] = rng.integers(-1, 4, (4, 6))
    truths[:, 5] = truths[:, 4] * np.array([1, 1, 1, 1, 1, 0]) + np.array(
        [0, 0, 0, 0, 0, 2]
    )  # of two truths of a box the last counts
    raw = torch.randn(4, 24, 4, 4, generator=torch.Generator().manual_seed(1))
    loss = head_of(layer, raw, torch.from_numpy(truths), (32, 32))
    z = raw.double().view(4, 3, 8, 16).transpose(2, 3).reshape(-1, 8).numpy()
    labels, kinds = [-1] * len(z), [-1] * len(z)
    anchors = np.array([[4, 5], [8, 8], [16, 14]]) / 32
    for image, rows in enumerate(truths):
        for x, y, w, h, kind, track in rows[rows[:, 0] != 0]:
            inter = np.minimum(anchors, [w, h]).prod(1)
            best = int((inter / (anchors.prod(1) + w * h - inter)).argmax())
            cell = (image * 3 + best) * 16 + int(y * 4) * 4 + int(x * 4)
            labels[cell], kinds[cell] = int(track), int(kind)
    times = [index // (3 * 16) // (4 // steps) for index in range(len(z))]
    expected = boxes_delta(z, labels, kinds, times, temperature, maximum)
    ours = loss.delta.view(4, 3, 8, 16).transpose(2, 3).reshape(-1, 8).numpy()
    assert np.abs(expected).max() > 0.1
    assert ours == pytest.approx(expected, abs=2e-5)
    assert float(loss.cost) == pytest.approx((expected**2).sum(), rel=1e-4)


def test_views_of_one_image_attract_each_other() -> None:
    """blas.c: P_constrastive, grad_contrastive_loss_positive and …_negative.

    Without classes, 2k and 2k+1 are views of the same image.
    """
    text = "[net]\nwidth=1\nheight=1\nchannels=6\nbatch=8\n[contrastive]\nclasses=3\ntemperature=0.5\n"
    text += "cls_normalizer=2\nmax_delta=0.3\n"
    layer: Any = Network(parse_text(text)).layers[0]
    raw = torch.randn(8, 6, 1, 1, generator=torch.Generator().manual_seed(3))
    for truths, labels in (
        (torch.zeros(8, 3), [0, 0, 1, 1, 2, 2, 3, 3]),
        (torch.eye(3)[[0, 0, 1, 1, 0, 2, 2, 2]], [0, 0, 1, 1, 0, 2, 2, 2]),
    ):
        z = raw.double().view(8, 6).numpy()
        expected = np.zeros_like(z)
        sims = np.array([[cosine(a, b) for b in z] for a in z])
        power = np.exp(sims / 0.5)
        np.fill_diagonal(power, 0)
        probability = power / (power.sum(0) - power)
        for i in range(8):
            scale = 1 / ((labels.count(labels[i]) - 1) * 0.5 * np.linalg.norm(z[i]))
            for j in (j for j in range(8) if j != i and labels[i] == labels[j]):
                expected[i] -= scale * (sims[i, j] * z[i] - z[j]) * (1 - probability[i, j])
                for k in (k for k in range(8) if k not in (i, j)):
                    expected[i] -= scale * (z[k] - sims[i, k] * z[i]) * probability[i, k]
        loss = head_of(layer, raw, truths, (1, 1))
        assert loss.delta.view(8, 6).numpy() == pytest.approx((2 * expected).clip(-0.3, 0.3), abs=2e-6)


# Deltas that are left out


def rejected_by_loops(
    state: dict[str, float], net: NetOptions, iteration: int, delta: np.ndarray, entries: int
) -> np.ndarray:
    """yolo_layer.c:forward_yolo_layer, one delta after the other."""
    start = net.max_batches * 3 // 4
    sigmas, percent, point = net.num_sigmas_reject_badlabels, net.badlabels_rejection_percentage, net.equidistant_point
    if not ((percent and start < iteration) or (sigmas and start < iteration) or (point and point < iteration)):
        return delta
    progress = (iteration - point) / (net.max_batches - point)
    minimum = state["average"] * progress * 1.4
    used = [abs(value) for value in delta if value != 0]
    highest, average = max(used), sum(used) / len(used)
    state["highest"] = float(np.float32((state["highest"] or highest) * 0.99 + highest * 0.01))
    state["average"] = float(np.float32(state["average"] * 0.99 + average * 0.01))
    result = delta.copy()
    if sigmas and start < iteration:
        deviation = math.sqrt(sum((value - state["average"]) ** 2 for value in delta if value != 0) / len(used))
        final = state["average"] + state["deviation"] * sigmas
        state["deviation"] = float(np.float32(state["deviation"] * 0.99 + deviation * 0.01))
        maximum = max(final, state["highest"] - (iteration - start) / start * abs(state["highest"] - final))
        result[np.abs(result) > maximum] = 0
        minimum = min(final, state["average"]) * progress
    if percent and start < iteration:
        state["threshold"] = state["threshold"] or state["highest"]
        trained = sum(1 for value in result if value != 0)
        out = [index for index, value in enumerate(result) if abs(value) > state["threshold"]]
        result[out] = 0
        if 100 * len(out) * entries / trained > percent:
            state["threshold"] += 0.01
        elif state["threshold"] > 0.01:
            state["threshold"] -= 0.01
    if point and point < iteration:
        result[np.abs(result) < minimum] = 0
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"badlabels_rejection_percentage": 2.0},
        {"num_sigmas_reject_badlabels": 3.0},
        {"equidistant_point": 5},
        {"badlabels_rejection_percentage": 20.0, "num_sigmas_reject_badlabels": 1.0, "equidistant_point": 14},
    ],
)
def test_deltas_are_left_out_as_in_darknet(options: dict[str, Any]) -> None:
    net = NetOptions(max_batches=20, **options)
    rejection, state = Rejection(), {"highest": 0.0, "average": 0.0, "deviation": 0.0, "threshold": 0.0}
    rng = np.random.default_rng(4)
    changed = 0
    for iteration in range(60):
        delta = (rng.normal(0, 0.3, 800) * (rng.random(800) < 0.2)).astype(np.float32).astype(float)
        expected = rejected_by_loops(state, net, iteration, delta, 8)
        ours = rejection.apply(net, iteration, torch.from_numpy(delta), 8).numpy()
        assert ours == pytest.approx(expected, abs=1e-12)
        assert vars(rejection) == pytest.approx(state, rel=1e-6)
        changed += int((expected != delta).sum())
    assert changed > 20


# Classes


def test_the_option_map_changes_the_labels_classes(tmp_path: Path) -> None:
    (tmp_path / "to.map").write_text("2\n0\n")
    text = YOLO.split("[route]")[0].format(batch=2, steps=1, yolo="map=to.map")
    (tmp_path / "a.cfg").write_text(text)
    layer = Network(parse_cfg(tmp_path / "a.cfg")).layers[1]
    plain = Network(parse_text(text.replace("map=to.map", ""))).layers[1]
    truths = torch.zeros(2, 12, 6)
    truths[:, 0] = torch.tensor([0.4, 0.6, 0.2, 0.3, 1, 0])
    mapped = truths.clone()
    mapped[:, 0, 4] = 0
    raw = torch.randn(2, 24, 4, 4, generator=torch.Generator().manual_seed(0))
    ours, expected = head_of(layer, raw, truths, (32, 32)), head_of(plain, raw, mapped, (32, 32))
    assert torch.equal(ours.delta, expected.delta)
    truths[:, 0, 4] = 2  # not in the map
    nothing = head_of(layer, raw, truths, (32, 32))
    assert nothing.counts["count"] == 0


def test_a_map_that_is_missing_or_wrong_is_an_error_in_training(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    path.write_text(YOLO.split("[route]")[0].format(batch=2, steps=1, yolo="map=to.map"))
    with pytest.raises(CfgError, match=r"a.cfg:18: \[yolo\] map=to.map: no such file, here or beside the cfg"):
        Trainer(Network(parse_cfg(path)).initialise(0))
    (tmp_path / "to.map").write_text("0\n3\n")
    with pytest.raises(CfgError, match="'3' is not a class from 0 to 2"):
        Network(parse_cfg(path))


def test_a_class_tree_leaves_groups_alone_that_the_truth_says_nothing_of(tmp_path: Path) -> None:
    (tmp_path / "a.tree").write_text("animal -1\nthing -1\ncat 0\ndog 0\ncup 1\nbox 1\n")
    (tmp_path / "a.cfg").write_text("[net]\ninputs=6\n[softmax]\ntree=a.tree\n")
    layer: Any = Network(parse_cfg(tmp_path / "a.cfg")).layers[0]
    raw, unsaid = torch.tensor([[0.3, -0.2, 1.0, 0.5, 0.1, 2.0]]), -1234.0
    truth = torch.tensor([[1.0, 0.0, 0.0, 1.0, unsaid, unsaid]])
    loss = head_of(layer, raw, truth, (0, 0))
    probability = torch.cat([pair.softmax(1) for pair in raw.split(2, 1)], 1)
    assert torch.allclose(loss.delta, torch.where(truth == unsaid, 0.0, truth - probability), atol=1e-6)
    assert float(loss.cost) == pytest.approx(-float(probability[0, 0].log() + probability[0, 3].log()))


def test_noloss_smooth_and_thresh() -> None:
    softmax: Any = Network(parse_text("[net]\ninputs=3\n[softmax]\nnoloss=1\n")).layers[0]
    loss = head_of(softmax, torch.tensor([[1.0, 2, 3]]), torch.tensor([[1.0, 0, 0]]), (0, 0))
    assert float(loss.cost) == 0
    assert not loss.delta.any()
    cost: Any = Network(parse_text("[net]\ninputs=4\n[cost]\nsmooth=0.2\nthresh=0.5\n")).layers[0]
    loss = head_of(cost, torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0.2]]), (0, 0))
    assert loss.delta[0].tolist() == pytest.approx([0.85, 0, 0, 0.21])
