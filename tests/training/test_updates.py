"""How gradients change weights, apart from plain SGD (see the kit): Adam, clipping, freezing, dropout, repair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darknet_py.cfg import parse_text
from darknet_py.errors import CfgError, DarknetError
from darknet_py.layers.net import POLICIES as NAMES
from darknet_py.layers.net import NetOptions
from darknet_py.network import Network
from darknet_py.training.batch_norm import Statistics
from darknet_py.training.derivatives import Training, set_arithmetic
from darknet_py.training.schedule import POLICIES, learning_rate, sequence_length
from darknet_py.training.sizes import classifier_size, mini_batch_of
from darknet_py.training.step import Trainer

LAYERS = """
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
{first}

[convolutional]
filters=3
size=3
stride=2
pad=1
activation=linear
{second}

[avgpool]

[softmax]
"""


def make(net: str = "", first: str = "", second: str = "", layers: str = LAYERS) -> Trainer:
    decay = "" if "decay" in net else "decay=0.01"
    text = f"[net]\nwidth=8\nheight=8\nchannels=2\nbatch=4\nlearning_rate=0.1\nmax_batches=100\n{decay}\n{net}\n"
    return Trainer(Network(parse_text(text + layers.format(first=first, second=second))).initialise(3))


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(4, 2, 8, 8, generator=generator), torch.eye(3)[torch.randint(3, (4,), generator=generator)]


def weights(trainer: Trainer, layer: int = 0, name: str = "weights") -> torch.Tensor:
    tensors = {stored.name: stored.tensor for stored in trainer.network.layers[layer].stored()}
    return tensors[name].detach().clone()


def test_adam_is_darknets() -> None:
    """blas_kernels.cu:adam_update_gpu: gradients are sums over the batch, all parameters decay, t counts updates."""
    trainer = make("adam=1\nB1=0.8\nB2=0.95\neps=0.001")
    names = ("weights", "biases", "scales")
    ours = {name: weights(trainer, 0, name).double().numpy() for name in names}
    m, v = ({name: np.zeros_like(ours[name]) for name in names} for _ in range(2))
    for t in range(1, 5):
        trainer.accumulate(*batch(t))
        for name in names:
            gradient = getattr(trainer.network.layers[0], name).grad
            d = -gradient.double().numpy() - 0.01 * 4 * ours[name]
            m[name] = 0.8 * m[name] + 0.2 * d
            v[name] = 0.95 * v[name] + 0.05 * d * d
            ours[name] = ours[name] + 0.1 * (m[name] / (1 - 0.8**t)) / (np.sqrt(v[name] / (1 - 0.95**t)) + 0.001)
        trainer.update()
        for name in names:
            assert weights(trainer, 0, name).numpy() == pytest.approx(ours[name], abs=2e-5)


@pytest.mark.parametrize("words", ["optimizer=sgd", "optimizer=sgd\nnesterov=1", "optimizer=adamw\neps=1e-8"])
def test_other_optimizers_are_pytorch_s_with_decay_for_weights_alone(words: str) -> None:
    trainer = make(f"{words}\nmomentum=0.9\ndecay=0.1\nclip_norm=0.05\n")
    own = list(trainer.optimizer.parameters())
    theirs = [parameter.detach().clone().requires_grad_() for parameter in own]
    groups = [
        {"params": [one for one in theirs if (one.ndim > 1) == decayed], "weight_decay": 0.1 if decayed else 0.0}
        for decayed in (True, False)
    ]
    if "adamw" in words:
        other: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.1)
    else:
        other = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov="nesterov" in words)
    for seed in range(4):
        trainer.accumulate(*batch(seed))
        for one, parameter in zip(theirs, own, strict=True):
            assert parameter.grad is not None
            one.grad = parameter.grad.clone()
        assert torch.nn.utils.clip_grad_norm_(theirs, 0.05) > 0.05
        other.step()
        trainer.update()
        for one, parameter in zip(theirs, own, strict=True):
            torch.testing.assert_close(parameter, one, rtol=1e-6, atol=1e-7)


def test_gradients_wait_until_the_nominal_batch_is_full() -> None:
    words = "optimizer=sgd\nmomentum=0\ndecay=0\n"
    waiting, at_once = make(f"{words}nominal_batch={8}\n"), make(words)
    before = weights(waiting)
    waiting.accumulate(*batch(0))
    waiting.update()
    assert torch.equal(weights(waiting), before)
    waiting.accumulate(*batch(1))
    waiting.update()
    for seed in range(2):
        at_once.accumulate(*batch(seed))
    at_once.update()
    torch.testing.assert_close(weights(waiting), weights(at_once), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("loss", "share"), [("yolox\nobjectness=1\ncoords=xywh", 0.5), ("yolov8\nreg_max=15", 1.0)])
def test_of_a_loss_that_is_a_mean_each_mini_batch_has_its_share(loss: str, share: float) -> None:
    filters = 6 if share < 1 else 65
    head = f"[convolutional]\nfilters={filters}\nsize=8\nstride=8\n[anchor_free]\nclasses=1\nloss={loss}\n"
    costs = []
    for subdivisions in (1, 2):
        trainer = make(f"optimizer=sgd\nsubdivisions={subdivisions}\n", layers=head)
        truths = torch.tensor([0.5, 0.5, 0.6, 0.6, 0.0, 0.0]).expand(2, 1, 6)
        costs.append(trainer.accumulate(batch()[0][:2], truths).cost)
    assert costs[1] == pytest.approx(share * costs[0], rel=1e-6)


def test_what_pytorch_s_optimizers_alone_do_is_refused_without_them() -> None:
    message = r"\[net\] clip_norm=1: is for PyTorch's optimizers; write optimizer=sgd or optimizer=adamw, or remove"
    with pytest.raises(CfgError, match=message):
        make("clip_norm=1\n")


def test_clip_limits_the_weights_of_convolutions() -> None:
    trainer = make(first="clip=0.05")
    before = weights(trainer, 1)
    trainer.accumulate(*batch())
    trainer.update()
    assert weights(trainer).abs().max() == pytest.approx(0.05)
    assert weights(trainer, 1).abs().max() > 0.05
    assert not torch.equal(weights(trainer, 1), before)
    everywhere = make("clip=0.02")
    everywhere.accumulate(*batch())
    everywhere.update()
    assert max(float(weights(everywhere, layer).abs().max()) for layer in (0, 1)) == pytest.approx(0.02)


def test_grad_centr_subtracts_the_mean_of_each_filters_gradient() -> None:
    trainer = make("decay=0", first="grad_centr=1", second="grad_centr=1")
    before = weights(trainer), weights(trainer, 1)
    trainer.accumulate(*batch())
    trainer.update()
    changes = [(weights(trainer, layer) - before[layer]).mean((1, 2, 3)).abs().max() for layer in (0, 1)]
    assert changes[0] < 1e-8
    assert changes[1] > 1e-5, "the second has no batch norm"


def test_stopbackward_n_freezes_until_iteration_n() -> None:
    """network_kernels.cu:backward_network_gpu; weight decay continues."""
    trainer = make("decay=0\nmomentum=0", first="stopbackward=3")
    changed = []
    for number in range(5):
        before = weights(trainer)
        trainer.accumulate(*batch(number))
        trainer.update()
        changed.append(not torch.equal(weights(trainer), before))
    assert changed == [False, False, False, True, True]


def test_onlyforward_lets_no_gradient_through() -> None:
    """network.c:backward_network skips such a layer: it and those before it are not trained."""
    for where, changes in (("first", [False, True]), ("second", [False, False])):
        trainer = make("decay=0", **{where: "onlyforward=1"})
        before = [weights(trainer, layer) for layer in (0, 1)]
        trainer.accumulate(*batch())
        trainer.update()
        assert [not torch.equal(weights(trainer, layer), before[layer]) for layer in (0, 1)] == changes


def test_dropout_zeroes_values_in_training_and_keeps_their_sum() -> None:
    text = "[net]\nwidth=40\nheight=40\nchannels=3\n[dropout]\nprobability=0.25\n"
    network = Network(parse_text(text))
    images = torch.ones(8, 3, 40, 40, requires_grad=True)
    assert torch.equal(network.eval()(images)[0], images)
    with torch.enable_grad():
        dropped = network.train()(images)[0]
        dropped.sum().backward()
    assert torch.unique(dropped).tolist() == pytest.approx([0, 1 / 0.75])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert images.grad is not None
    assert torch.equal(images.grad, dropped.detach())


def test_dropblock_zeroes_a_square_of_a_channel() -> None:
    """dropout_layer_kernels.cu: one block of a channel at most, more likely and larger until 0.85 of max_batches."""
    text = "[net]\nwidth=20\nheight=16\nchannels=400\n[dropout]\nprobability=0.3\ndropblock=1\ndropblock_size_abs=5\n"
    network = Network(parse_text(text)).train()
    images = torch.ones(2, 400, 16, 20)
    arithmetic = Training(Statistics(), 1)
    set_arithmetic(network, arithmetic)
    arithmetic.progress = 0.9
    result = network(images)[0]
    holes = (result == 0).sum((2, 3))
    assert sorted(torch.unique(holes).tolist()) == [0, 25]
    expected = 1 - (1 - 0.3 / 25) ** (16 * 20)  # that at least one pixel of a channel starts a block
    assert (holes == 25).float().mean() == pytest.approx(expected, abs=0.05)
    rows = (result == 0).any(3).sum(2)
    assert torch.equal(rows[holes > 0], torch.full_like(rows[holes > 0], 5))
    for image in result:
        assert float(image.max()) == pytest.approx(1 / (1 - float((image == 0).float().mean())), rel=1e-5)
    arithmetic.progress = 0.0
    assert torch.equal(network(images)[0], images)
    everything = Network(parse_text("[net]\nwidth=20\nheight=16\nchannels=400\n[dropout]\nprobability=1\n")).train()
    assert not everything(images)[0].any()


def test_try_fix_nan_replaces_what_is_not_finite() -> None:
    for fixes in (0, 1):
        trainer = make(f"try_fix_nan={fixes}")
        with torch.no_grad():
            trainer.network.layers[0].weights[0, 0, 0, 0] = torch.nan
        for number in range(3):
            trainer.accumulate(*batch(number))
            trainer.update()
        tensors = [stored.tensor for layer in trainer.network.layers for stored in layer.stored()]
        finite = all(bool(tensor.isfinite().all()) for tensor in tensors)
        assert finite == bool(fixes)


@pytest.mark.parametrize(
    ("size", "count"),
    # 4 images of 608x608 (416 * 1.4 up to the next multiple of 32, and 32 more), as detector.c computes
    [((608, 608), 4), ((448, 448), 5), ((320, 320), 11), ((576, 448), 5)],
)
def test_dynamic_minibatch_fills_the_memory_of_the_maximum_size(size: tuple[int, int], count: int) -> None:
    net = NetOptions(width=416, height=416, batch=64, subdivisions=16, dynamic_minibatch=1)
    assert mini_batch_of(net, 1.0, size) == count
    assert mini_batch_of(net, 0.0, size) == 4


def test_sequences_grow_with_seq_scales() -> None:
    net = NetOptions(
        batch=64, subdivisions=8, sequential_subdivisions=8, track=1, steps=(100, 200), seq_scales=(0.5, 0.5)
    )
    assert [sequence_length(net, iteration) for iteration in (1, 99, 100, 200, 300)] == [1, 1, 2, 4, 4]
    assert sequence_length(NetOptions(batch=8, subdivisions=8, sequential_subdivisions=2), 5) == 4
    assert sequence_length(NetOptions(batch=8, subdivisions=8), 5) == 1


def test_random_classifiers_change_their_size_every_40_iterations() -> None:
    """pjreddie's classifier.c: 4 to 14 times 32 pixels."""
    assert classifier_size(NetOptions(width=224, height=160), 50, 1, 0) == (224, 160)
    sizes = [
        classifier_size(NetOptions(width=224, height=224, random=1), iteration, 1, 0) for iteration in range(1, 4001)
    ]
    assert all(len(set(sizes[start : start + 40])) == 1 for start in range(0, 4000, 40))
    assert {width for width, _ in sizes} == {32 * side for side in range(4, 15)}
    assert all(width == height for width, height in sizes)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_survives_any_numbers(policy: str) -> None:
    """C's exp and pow give infinity where Python raises an error."""
    for values in ({}, {"gamma": 1e30, "scale": 1e30, "power": -1e30}, {"gamma": -3.5, "scale": 0.0, "power": 1e30}):
        net = NetOptions(policy=policy, burn_in=2, steps=(3,), scales=(1e38,), max_batches=10, step=1, **values)
        for iteration in (0, 1, 2, 5, 10, 711, 100_000):
            assert isinstance(learning_rate(net, iteration), float)


def test_the_schedules_are_those_that_a_cfg_can_name() -> None:
    assert set(POLICIES) == set(NAMES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("loss=gioo", r"loss=gioo: 'gioo' is not known; write one of darknet, grid, giou, focal"),
        ("loss=giou\nassigner=tal", r"assigner=tal: 'tal' is not known; write one of darknet, grid"),
    ],
)
def test_a_loss_and_an_assigner_must_be_known(words: str, message: str) -> None:
    yolo = "[convolutional]\nfilters=18\nsize=1\nactivation=linear\n[yolo]\nclasses=1\nmask=0,1,2\nnum=3\n"
    with pytest.raises(CfgError, match=rf":\d+: \[yolo\] {message}"):
        make(layers=yolo + "anchors=1,2, 3,4, 5,6\n" + words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("loss=yolov9", "loss=yolov9: 'yolov9' is not known; write one of yolox, yolov8, yolov6"),
        ("assigner=simota", "assigner=simota: 'simota' is not known; write one of task_aligned, task_aligned_8.4"),
    ],
)
def test_a_loss_of_heads_without_anchors_has_assigners_of_its_own(words: str, message: str) -> None:
    head = "[convolutional]\nfilters=5\nsize=1\nactivation=linear\n[anchor_free]\nclasses=1\n"
    with pytest.raises(CfgError, match=rf":\d+: \[anchor_free\] {message}"):
        make(layers=head + words)


YOLO = "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[yolo]\nclasses=1\nnum=1\nanchors=1,2\n"


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("[connected]\noutput=11\n[detection]\nclasses=1\ncoords=4\nside=1\nnum=2\n", r"layer 4 \(\[detection\]\)"),
        ("[softmax]\n", r"layer 3 \(\[softmax\]\)"),
        ("[avgpool]\n[cost]\n", r"layer 4 \(\[cost\]\)"),
    ],
)
def test_layers_that_train_together_need_one_form_of_ground_truth(other: str, name: str) -> None:
    with pytest.raises(DarknetError, match=rf"layer 1 \(\[yolo\]\) and {name} need different forms"):
        make(layers=f"{YOLO}[route]\nlayers=0\n{other}")


@pytest.mark.parametrize("anchors", ["0,2", "1,,", "-1,2"])
def test_an_anchor_without_area_cannot_be_trained(anchors: str) -> None:
    with pytest.raises(CfgError, match=rf"\[yolo\] anchors={anchors}: an anchor without width or height"):
        make(layers=YOLO.replace("1,2", anchors))


@pytest.mark.parametrize("loss", ["darknet", "grid", "giou", "focal"])
def test_to_a_head_without_classes_all_is_background(loss: str) -> None:
    """No label has a class that it knows, so it passes over them all, as Darknet does."""
    trainer = make(layers=f"{YOLO}loss={loss}\n".replace("filters=6", "filters=5").replace("classes=1", "classes=0"))
    truths = torch.tensor([0.5, 0.5, 0.3, 0.3, 0, 0]).expand(4, 1, 6)
    costs = []
    for _ in range(20):
        costs.append(trainer.accumulate(batch()[0], truths).cost)
        trainer.update()
    assert costs[-1] < costs[0]


def test_a_refused_state_changes_nothing() -> None:
    trainer, other = make(), make(layers=LAYERS.replace("filters=3", "filters=5"))
    before = [weights(trainer, layer) for layer in (0, 1)]
    with pytest.raises(DarknetError, match=r"layer 1 .* differs"):
        trainer.load_state_dict(other.state_dict())
    assert all(map(torch.equal, [weights(trainer, layer) for layer in (0, 1)], before))
