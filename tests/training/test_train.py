"""Training runs from the cfg: what is written, what is said, what stops a run."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from project import python
from small_training import run, write_cfg

from darknet_py.cfg import parse_cfg
from darknet_py.data.dataset import Dataset
from darknet_py.data.shapes import NAMES, draw_scene, write_dataset
from darknet_py.data.truths import DataWarning
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.layers.net import NetOptions
from darknet_py.network import Network, load
from darknet_py.pictures.write import write_image
from darknet_py.train import parser
from darknet_py.training.checkpoint import load_checkpoint, save_checkpoint
from darknet_py.training.ema import Ema
from darknet_py.training.loop import NonFiniteLossError, train
from darknet_py.training.material import open_material
from darknet_py.training.report import read_rows
from darknet_py.training.run import load_start_weights, network_to_train, run_settings
from darknet_py.training.sizes import network_size
from darknet_py.training.step import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("shapes"), train=12, valid=4)


def test_a_drawn_scene_is_the_same_for_the_same_seed_and_its_boxes_are_inside() -> None:
    for seed in range(20):
        image, rows = draw_scene(np.random.default_rng(seed))
        assert np.array_equal(image, draw_scene(np.random.default_rng(seed))[0])
        assert len(rows)
        assert (rows[:, 0] < len(NAMES)).all()
        assert (rows[:, 1:3] - rows[:, 3:] / 2 >= 0).all()
        assert (rows[:, 1:3] + rows[:, 3:] / 2 <= 1).all()


def test_a_run_leaves_darknets_files_and_a_row_for_each_iteration(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    cfg = write_cfg(tmp_path)
    assert run(data, cfg, tmp_path / "out", "--map", "--map-every", "3") == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "tiny_last.weights",
        "tiny_final.weights",
        "tiny_best.weights",
        "tiny_last.checkpoint",
        "metrics.csv",
        "chart.png",
    } <= files
    rows = read_rows(tmp_path / "out" / "metrics.csv")
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["iteration"] for row in rows if row["map"]] == ["3", "6"]
    losses = [float(row["loss"]) for row in rows]
    assert losses[-1] < losses[0]
    assert "mAP" in capsys.readouterr().out
    trained = load(cfg, tmp_path / "out" / "tiny_final.weights")
    assert trained.seen == 6 * 4


def test_darknets_words_train_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darknet_py.__main__ import main as words

    monkeypatch.chdir(tmp_path)
    cfg = write_cfg(tmp_path, iterations=2)
    assert words(["detector", "train", str(data), str(cfg), "-dont_show", "-clear", "-nogpu"]) == 0
    assert (tmp_path / "backup" / "tiny_final.weights").is_file()
    weights = str(tmp_path / "backup" / "tiny_final.weights")
    with pytest.raises(DarknetError, match="already trained for 2 iterations"):
        words(["detector", "train", str(data), str(cfg), weights, "-dont_show", "-nogpu"])
    assert words(["detector", "train", str(data), str(cfg), weights, "-dont_show", "-nogpu", "-clear"]) == 0


def test_a_loss_that_is_no_number_stops_the_run_and_overwrites_nothing(data: Path, tmp_path: Path) -> None:
    good = write_cfg(tmp_path)
    assert run(data, good, tmp_path / "out") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("tiny_*")}
    bad = write_cfg(tmp_path, iterations=50, rate="1000")
    with pytest.raises(
        NonFiniteLossError, match=r"layer 3 \(\[yolo\]\) is not finite in iteration \d+.*rate.*images.train-"
    ):
        run(data, bad, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("tiny_*")} == before


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(Network(parse_cfg(write_cfg(tmp_path))).initialise(0))
    path = tmp_path / "run.checkpoint"
    save_checkpoint(path, trainer, {"first": 1})
    good = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2, limits[1]))
    try:
        with pytest.raises(DarknetError, match="the previous one is untouched"):
            save_checkpoint(path, trainer, {"first": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == good
    assert load_checkpoint(path, trainer) == {"first": 1}
    assert [file.name for file in tmp_path.iterdir() if "checkpoint" in file.name] == ["run.checkpoint"]


def test_wrong_starts_get_one_sentence(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    with pytest.raises(DarknetError, match="no such checkpoint to resume from"):
        run(data, cfg, tmp_path / "out", "--resume")
    (tmp_path / "damaged").mkdir()
    for content in (b"PK\3\4 what is this", b""):
        (tmp_path / "damaged" / "tiny_last.checkpoint").write_bytes(content)
        with pytest.raises(DarknetError, match="not a checkpoint, or damaged"):
            run(data, cfg, tmp_path / "damaged", "--resume")
    with pytest.raises(DarknetError, match="--patience needs --map"):
        run(data, cfg, tmp_path / "out", "--patience", "2")
    seven = tmp_path / "seven.cfg"
    seven.write_text(cfg.read_text().replace("classes=6", "classes=7").replace("filters=33", "filters=36"))
    with pytest.raises(DarknetError, match=r"the head has classes=7, but .* has 6 names"):
        run(data, seven, tmp_path / "out")
    with pytest.raises(DarknetError, match=r"cannot read|No such file|no such"):
        run(tmp_path / "none.data", cfg, tmp_path / "out")
    headless = tmp_path / "headless.cfg"
    headless.write_text(cfg.read_text().split("[yolo]")[0])
    with pytest.raises(DarknetError, match="nothing to train"):
        run(data, headless, tmp_path / "out")


def test_show_batches_writes_images_and_trains_nothing(data: Path, tmp_path: Path) -> None:
    assert run(data, write_cfg(tmp_path), tmp_path / "batches", "--show-batches", "2") == 0
    assert sorted(path.name for path in (tmp_path / "batches").iterdir()) == ["batch-1.png", "batch-2.png"]


def test_patience_ends_a_run_without_progress(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, iterations=40, rate="0")
    assert run(data, cfg, tmp_path / "out", "--map", "--map-every", "2", "--patience", "3") == 0
    rows = read_rows(tmp_path / "out" / "metrics.csv")
    measured = [(float(row["map"]), int(row["iteration"])) for row in rows if row["map"]]
    best = max(measured, key=lambda pair: pair[0])[1]
    assert len(rows) == best + 3 * 2 < 40


def test_what_is_trained_is_saved_before_it_is_evaluated(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from darknet_py.training import measure

    def evaluate(network: Network, dataset: Dataset) -> None:
        raise KeyboardInterrupt  # as if it were killed

    cfg, out = write_cfg(tmp_path, iterations=4), tmp_path / "out"
    with_map = ("--map", "--map-every", "2")
    assert run(data, cfg, tmp_path / "whole", *with_map) == 0
    with monkeypatch.context() as patched:
        patched.setattr(measure, "evaluate", evaluate)
        for iteration, more in ((2, ()), (2, ("--resume",))):
            with pytest.raises(KeyboardInterrupt):
                run(data, cfg, out, *with_map, *more)
            assert load(cfg, out / "tiny_last.weights").seen == iteration * 4
            assert len(read_rows(out / "metrics.csv")) == iteration - 1
    assert run(data, cfg, out, *with_map, "--resume") == 0
    rows, whole = (
        [(row["iteration"], row["loss"], row["map"]) for row in read_rows(folder / "metrics.csv")]
        for folder in (out, tmp_path / "whole")
    )
    assert rows == whole
    for name in ("tiny_best.weights", "tiny_final.weights"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_iteration_that_awaits_its_evaluation_is_never_measured_later(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    """Whatever ended the evaluation; a run that is resumed without one writes the iteration's row without mAP."""
    from darknet_py.training import measure

    def evaluate(network: Network, dataset: Dataset) -> None:
        raise error

    cfg, out = write_cfg(tmp_path, iterations=4), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(measure, "evaluate", evaluate)
        with pytest.raises(error):
            run(data, cfg, out, "--map", "--map-every", "2")
    assert run(data, cfg, out, "--resume") == 0
    assert "continuing after iteration 2\n" in capsys.readouterr().out
    rows = read_rows(out / "metrics.csv")
    assert [(row["iteration"], row["map"]) for row in rows] == [("1", ""), ("2", ""), ("3", ""), ("4", "")]


def test_an_evaluation_that_fails_does_not_end_the_training(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "set", train=4, valid=2)
    cfg = write_cfg(tmp_path, iterations=4)

    network = network_to_train(cfg)
    material = open_material(data, network)
    settings = run_settings(data, network, material, folder=tmp_path / "out", with_map=True, evaluate_every=2)
    next((tmp_path / "set/labels").glob("valid*")).write_text("0 .5 .5\n")  # in the middle of the run
    with pytest.warns(DataWarning, match=r"iteration 2 could not be evaluated, the training goes on: .* has 3 values"):
        train(Trainer(network), material.batches, settings)
    assert [row["map"] for row in read_rows(tmp_path / "out/metrics.csv")] == ["", "", "", ""]


@pytest.mark.parametrize(("extra", "largest"), [("", None), ("max_chart_loss=5", 5.0)])
def test_max_chart_loss_counts_where_the_cfg_writes_it(
    data: Path, tmp_path: Path, extra: str, largest: float | None
) -> None:
    network = network_to_train(write_cfg(tmp_path, extra=extra))
    assert run_settings(data, network, open_material(data, network)).max_chart_loss == largest


def test_a_batch_that_its_subdivisions_do_not_divide_is_named(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    cfg.write_text(cfg.read_text().replace("batch=4\nsubdivisions=2", "batch=8\nsubdivisions=3"))
    with pytest.raises(
        DarknetError, match=r"tiny\.cfg:2: \[net\] batch=8: not a multiple of subdivisions=3; write batch=6"
    ):
        run(data, cfg, tmp_path / "out")


def test_weights_of_other_classes_name_the_cutoff(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    Network(parse_cfg(cfg)).initialise(0).save_weights(tmp_path / "six.weights")
    other = tmp_path / "other.cfg"
    other.write_text(cfg.read_text().replace("classes=6", "classes=1").replace("filters=33", "filters=18"))
    network = network_to_train(other)
    with pytest.raises(DarknetError, match=r"load the layers before the classes: --cutoff 2$"):
        load_start_weights(network, tmp_path / "six.weights")
    load_start_weights(network, tmp_path / "six.weights", cutoff=2)


def test_random_sizes_are_those_of_darknet() -> None:
    net = NetOptions(width=416, height=416, max_batches=1000, resize_step=32)
    assert network_size(net, 0, 5, 1, 0) == (416, 416)
    largest = (round(416 * 1.4 / 32 + 1) * 32,) * 2
    assert network_size(net, 1, 1, 1, 0) == largest == network_size(net, 1, 10, 1, 0)
    sizes = {network_size(net, 1, iteration, 1, 7) for iteration in range(11, 800)}
    assert len(sizes) > 8
    assert all(width == height and width % 32 == 0 and 0.7 * 416 <= width <= largest[0] for width, height in sizes)
    assert all(network_size(net, 1, 21 + step, 1, 7) == network_size(net, 1, 21, 1, 7) for step in range(10))
    assert network_size(net, 1, 950, 1, 7) == largest


def test_the_average_of_the_weights_begins_in_the_middle_and_is_applied_before_the_end(tmp_path: Path) -> None:
    network = Network(parse_cfg(write_cfg(tmp_path))).initialise(0)
    network.set_net(ema_alpha=0.9, max_batches=4000)
    ema = Ema(network)
    weights = network.layers[0].weights
    first = weights.detach().clone()
    ema.update(1999, 1999)
    assert not ema.values
    ema.update(2000, 2000)
    with torch.no_grad():
        weights += 1
    ema.update(2001, 2001)
    with ema.applied() as averaged:
        assert torch.allclose(averaged.layers[0].weights, first + 0.1, atol=1e-6)
    assert torch.equal(weights, first + 1)
    ema.update(3000, 3000)
    assert torch.allclose(weights, first + 0.1, atol=1e-6)


def changed_layers(tmp_path: Path, option: str, updates: int) -> list[set[int]]:
    """The layers whose weights each update changes, with the option in layer 1."""
    path = write_cfg(tmp_path)
    path.write_text(path.read_text().replace("filters=16\n", f"filters=16\n{option}\n"))
    trainer = Trainer(Network(parse_cfg(path)).initialise(0))
    weights = [trainer.network.layers[index].weights for index in range(3)]
    generator = torch.Generator().manual_seed(0)
    result = []
    for _ in range(updates):
        before = [tensor.detach().clone() for tensor in weights]
        for _ in range(2):
            truths = torch.zeros(2, 20, 6)
            truths[:, 0] = torch.tensor([0.5, 0.5, 0.4, 0.4, 1, 0])
            trainer.accumulate(torch.rand(2, 3, 64, 64, generator=generator), truths)
        trainer.update()
        result.append({index for index in range(3) if not torch.equal(before[index], weights[index])})
    return result


def test_layers_whose_updates_start_later(tmp_path: Path) -> None:
    assert changed_layers(tmp_path, "", 2) == [{0, 1, 2}] * 2
    assert changed_layers(tmp_path, "dont_update=2", 4) == [{0, 2}] * 2 + [{0, 1, 2}] * 2
    assert changed_layers(tmp_path, "burnin_update=2", 5) == [{0, 2}] * 3 + [{0, 1, 2}] * 2  # burn_in=2
    assert changed_layers(tmp_path, "train_only_bn=1", 3) == [{2}] * 3
    assert changed_layers(tmp_path, "stopbackward=1", 2) == [{1, 2}] * 2  # the layer itself decays


def test_single_images_are_refused_where_a_layer_normalises_by_them(tmp_path: Path) -> None:
    path = write_cfg(tmp_path)
    text = path.read_text().replace("batch=4\nsubdivisions=2", "batch=1\nsubdivisions=1")
    path.write_text(text)
    with pytest.raises(DarknetError, match=r"batch=1: batch norm needs more than one image"):
        network_to_train(path)
    path.write_text(text.replace("batch_normalize=1", ""))
    assert network_to_train(path).net.batch == 1


def test_an_option_that_is_not_implemented_in_training_is_named(tmp_path: Path) -> None:
    path = write_cfg(tmp_path, extra="adversarial_lr=0.1")
    with pytest.warns(
        CfgWarning, match=r"tiny.cfg:\d+: \[net\] adversarial_lr=0.1: not implemented in training; it has no effect"
    ):
        Trainer(Network(parse_cfg(path)).initialise(0))


def test_help_is_complete() -> None:
    text = parser().format_help()
    for option in ("--resume", "--map", "--patience", "--show-batches", "--precision", "--compile", "--clear"):
        assert option in text


@pytest.mark.parametrize(
    "switch",
    [
        ("--precision", "bf16"),
        ("--precision", "fp16"),
        ("--no-channels-last",),
        pytest.param(("--compile",), marks=pytest.mark.slow),
    ],
)
def test_what_makes_training_faster_keeps_the_losses(data: Path, tmp_path: Path, switch: tuple[str, ...]) -> None:
    """bf16 has 8 bits of precision, fp16 11; the others change the order of sums."""
    cfg = write_cfg(tmp_path, iterations=8)
    curves = []
    for name, arguments in (("plain", ()), ("fast", switch)):
        assert run(data, cfg, tmp_path / name, *arguments) == 0
        curves.append([float(row["loss"]) for row in read_rows(tmp_path / name / "metrics.csv")])
    tolerance = {"bf16": 0.03, "fp16": 0.01}.get(switch[-1], 1e-3)
    assert curves[1] == pytest.approx(curves[0], rel=tolerance)


def test_too_little_memory_names_the_subdivisions_to_write(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accumulate(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "accumulate", accumulate)
    with pytest.raises(
        DarknetError,
        match=r"out of memory with 2 images of 64x64 at once \(batch=4, subdivisions=2\); write subdivisions=4",
    ):
        run(data, write_cfg(tmp_path), tmp_path / "out")


def test_a_backbone_is_known_by_its_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = write_cfg(tmp_path, iterations=1)
    network = Network(parse_cfg(cfg)).initialise(5)
    backbone = tmp_path / "tiny.conv.2"
    network.save_weights(tmp_path / "all.weights")
    head = (16 * 33 + 33) * 4  # weights and biases of layer 2
    backbone.write_bytes((tmp_path / "all.weights").read_bytes()[:-head])
    assert run(data, cfg, tmp_path / "out", str(backbone)) == 0
    assert "layers 0-1  loaded" in capsys.readouterr().out


def test_a_classifier_learns_two_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darknet_py.__main__ import main as words

    monkeypatch.chdir(tmp_path)
    for number in range(8):
        for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
            image = np.random.default_rng(number).normal(colour, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            write_image(tmp_path / f"{number}_{name}.png", image)
    (tmp_path / "list.txt").write_text("".join(f"{path.name}\n" for path in sorted(tmp_path.glob("*.png"))))
    (tmp_path / "labels.txt").write_text("red\nblue\n")
    (tmp_path / "colours.data").write_text("classes=2\ntrain=list.txt\nlabels=labels.txt\nbackup=backup\n")
    (tmp_path / "colours.cfg").write_text(
        "[net]\nbatch=8\nsubdivisions=1\nwidth=32\nheight=32\nchannels=3\nmin_crop=32\nmax_crop=40\nlearning_rate=0.1\nmax_batches=40\n"
        "momentum=0.9\ndecay=0.0005\n\n[convolutional]\nfilters=2\nsize=1\nactivation=linear\n\n[avgpool]\n\n[softmax]\n\n[cost]\n"
    )
    assert words(["classifier", "train", "colours.data", "colours.cfg", "-nogpu", "-dont_show"]) == 0
    losses = [float(row["loss"]) for row in read_rows(tmp_path / "backup" / "metrics.csv")]
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


def test_training_ends_with_an_error_where_no_image_can_be_read(tmp_path: Path) -> None:
    """… and its worker processes end with it."""
    cfg = write_cfg(tmp_path)
    (tmp_path / "list.txt").write_text(str(tmp_path / "missing.jpg"))
    (tmp_path / "missing.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "a.data").write_text("classes=6\ntrain=list.txt\n")
    ended = python("-m", "darknet_py.train", "a.data", cfg, "--out", "out", "--device", "cpu", cwd=tmp_path)
    assert ended.returncode == 2
    assert "50 images in a row cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_schedule_that_does_not_fit_is_named(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, extra="steps=4,9\nscales=.1,.1\n")
    cfg.write_text(cfg.read_text().replace("policy=constant", "policy=steps"))
    with pytest.warns(CfgWarning, match=r"\[net\] steps=4,9: reaches beyond max_batches=3"):
        assert run(data, cfg, tmp_path / "out", "--max-batches", "3") == 0


def test_an_update_of_more_iterations_than_there_are_is_named(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, extra="optimizer=sgd\nnominal_batch=4000\n")
    text = r"\[net\] nominal_batch=4000: an update has the gradients of \d+ iterations, more than max_batches=2"
    with pytest.warns(CfgWarning, match=text):
        assert run(data, cfg, tmp_path / "out", "--max-batches", "2") == 0


def test_a_training_that_is_all_end_is_named(data: Path, tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path, extra="epochs=2\nclose_mosaic=2\n")
    with pytest.warns(CfgWarning, match=r"\[net\] close_mosaic=2: no image of these 2 epochs is blended with others"):
        assert run(data, cfg, tmp_path / "out", "--max-batches", "2") == 0


def test_a_run_over_another_says_so(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = write_cfg(tmp_path, iterations=2)
    for said in (False, True):
        assert run(data, cfg, tmp_path / "out") == 0
        assert ("--resume would continue it" in capsys.readouterr().out) == said


def test_partial_keeps_the_first_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from darknet_py.__main__ import main as words

    cfg = write_cfg(tmp_path)
    whole = Network(parse_cfg(cfg)).initialise(0)
    whole.seen = 64
    whole.save_weights(tmp_path / "whole.weights")
    assert words(["partial", str(cfg), str(tmp_path / "whole.weights"), str(tmp_path / "tiny.conv.2"), "2"]) == 0
    part = load(cfg, tmp_path / "tiny.conv.2", cutoff=2)
    assert part.seen == 0
    assert torch.equal(part.layers[1].weights, whole.layers[1].weights)
    with pytest.raises(DarknetError, match="'x' is not a number of layers"):
        words(["partial", str(cfg), str(tmp_path / "whole.weights"), str(tmp_path / "out"), "x"])


def test_the_benchmark_of_training_measures_steps_and_loading(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from darknet_py.benchmark import main as benchmark

    assert benchmark(["--cfg", str(write_cfg(tmp_path)), "--data", str(data), "--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  step, float32, channels last") for line in lines)
    assert any("loading, 1 workers" in line and line.endswith("images/s") for line in lines)
