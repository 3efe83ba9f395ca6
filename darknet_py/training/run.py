"""What a training run needs before its first iteration (start weights, subdivisions for the processes, settings), and
what it remembers from one iteration to the next.

    network = network_to_train("cfg/yolov3-tiny.cfg")
    load_start_weights(network, "yolov3-tiny.conv.15")
    material = open_material("data/obj.data", network)
    plan_epochs(network, material)
    settings = run_settings("data/obj.data", network, material)
    train(Trainer(network), material.batches, settings)                 # loop.py
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from darknet_py.cfg import parse_cfg
from darknet_py.data.augment.lists import MIXUP, mixup_code
from darknet_py.errors import DarknetError
from darknet_py.layers.batchnorm import Normalised
from darknet_py.layers.rnn import Recurrent
from darknet_py.network import Network
from darknet_py.training.material import Material
from darknet_py.training.measure import Measure, measure_on_valid
from darknet_py.training.schedule import warm_up
from darknet_py.training.start import start_network
from darknet_py.weights import Loaded, load_weights

AWAITED = 9  # values of an `IterationResult` without its map
MAP_EPOCHS = 4  # passes over the training images between two evaluations, by default …
MIN_MAP_ITERATIONS = 100  # … but at least this many iterations
SAVE_LAST = 100  # iterations between two NAME_last, where the .data file has no savelast
MAX_COUNT = 2**63 - 1  # of iterations, images and seeds
MANY_ITERATIONS = 10_000  # a run of this many or more saves NAME_N less often

Value: TypeAlias = str | int | float | bool | None
"""What a checkpoint holds of a run's settings."""


@dataclass(frozen=True)
class RunSettings:
    """How a run proceeds.

    folder, name: of its files. max_batches: iterations in all.
    save_last, save_every: iterations between two NAME_last, and between two NAME_N.
    evaluate: takes a network and returns its mAP or accuracy, 0..1, which `measure` names; None: no evaluation.
    evaluate_every: iterations between two evaluations, which begin after burn_in. patience: evaluations without a
    better one after which training stops; 0: no limit.
    max_chart_loss: the upper end of the chart; None: what shows the curve. unit: of what a batch holds, for messages.
    fixed: options that a resumed run must repeat, by name.
    darknet_lines: where the output is no terminal, print Darknet's lines for every iteration.
    """

    folder: Path
    name: str
    max_batches: int
    save_last: int = SAVE_LAST
    save_every: int = 1000
    evaluate: Callable[[Network], float] | None = None
    evaluate_every: int = 0
    patience: int = 0
    measure: str = "mAP"
    max_chart_loss: float | None = None
    unit: str = "images"
    fixed: Mapping[str, Value] = field(default_factory=dict)
    darknet_lines: bool = False

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}_last.checkpoint"

    def weights(self, suffix: str) -> Path:
        """The path of NAME_SUFFIX.weights."""
        return self.folder / f"{self.name}_{suffix}.weights"


@dataclass
class Progress:
    """What a run remembers besides the trainer's state; part of each checkpoint.

    first: the iteration that the run started with. average: the loss, smoothed as in Darknet; -1 before the first
    iteration. best, best_iteration: the best mAP (-1: none yet) and its iteration. last_map, measured: the same of the
    latest evaluation. awaiting: the values of an iteration that was saved, but not yet evaluated. saved: the iteration
    of the last checkpoint, 0: none yet. settings: `RunSettings.fixed`.
    """

    first: int = 1
    seed: int = 0
    average: float = -1.0
    best: float = -1.0
    best_iteration: int = 0
    evaluations_since_best: int = 0
    stopped_early: bool = False
    last_map: float = -1.0
    measured: int = 0
    awaiting: tuple[float, ...] = ()
    saved: int = 0
    settings: dict[str, Value] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """The fields as plain values, for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def restored(cls, values: Mapping[str, object]) -> Progress:
        """What `plain` gave.

        Raises:
            DarknetError: a value is of another kind, or negative, or of a name that is not known.
        """
        plain = cls().plain()
        for name, value in values.items():
            is_own = name in plain and type(value) is type(plain[name])
            if name == "awaiting" and isinstance(value, tuple):
                is_own = len(value) in (0, AWAITED) and all(type(one) in (int, float) for one in value)
            if not is_own or (isinstance(value, int) and not 0 <= value <= MAX_COUNT):
                raise DarknetError(f"not a checkpoint, or damaged: its progress has {name}={value}"[:200])
        return cls(**values)  # type: ignore[arg-type]


def network_to_train(cfg: str | os.PathLike[str], *, seed: int = 0, max_batches: int | None = None) -> Network:
    """A network with fresh weights, whose cfg is fit for training.

    Args:
        seed: of the weights. max_batches: iterations, instead of the cfg's.

    Raises:
        DarknetError: the cfg has a mistake, asks for no iterations, or for batch norm of a single image.
    """
    network = Network(parse_cfg(cfg))
    if max_batches is not None:
        network.set_net(max_batches=max_batches)
    net = network.net
    if net.max_batches < 1 and not net.epochs:
        raise DarknetError(
            f"{cfg}: [net] max_batches={net.max_batches}: no iterations to train; write how many, e.g. "
            "max_batches=6000 or epochs=100"
        )
    normalises = any(isinstance(part, Normalised) and part.scales is not None for part in network.modules())
    if normalises and net.batch * net.time_steps < 2:
        raise DarknetError(
            f"{cfg}: [net] batch=1: batch norm needs more than one image; write e.g. batch=64 and subdivisions=16"
        )
    return start_network(network.initialise(seed), seed)


def plan_epochs(network: Network, material: Material) -> None:
    """Sets `max_batches`, where it is not written, to the iterations of the cfg's `epochs`; warns of a schedule that
    does not fit into them."""
    net = network.net
    if net.epochs and net.max_batches < 1:
        network.set_net(max_batches=net.epochs * math.ceil(material.count / (net.batch * net.time_steps)))
    _warn_of_schedule(network)


def _warn_of_schedule(network: Network) -> None:
    """Numbers beyond the end of training are usually left over from another cfg."""
    cfg, net = network.cfg, network.net
    section = cfg.sections[0]
    last_step = max(net.steps, default=0) if net.policy in ("steps", "sgdr") else 0
    burn_in = "burn_in" if net.burn_in >= warm_up(net) else "burn_in_epochs"
    for name, iteration in ((burn_in, warm_up(net)), ("steps", last_step)):
        if iteration >= net.max_batches:
            text = f"reaches beyond max_batches={net.max_batches}, so the schedule is cut short; write smaller numbers"
            cfg.warn(section, section.get(name), text)
    if (count := round(net.nominal_batch / net.batch)) > net.max_batches:
        text = f"an update has the gradients of {count} iterations, more than max_batches={net.max_batches}; write a "
        cfg.warn(section, section.get("nominal_batch"), f"{text}smaller number")
    if net.close_mosaic >= (epochs := net.epochs or net.max_batches):
        text = f"no image of these {epochs} epochs is blended with others; write a smaller number"
        cfg.warn(section, section.get("close_mosaic"), text)


def load_start_weights(
    network: Network, weights: str | os.PathLike[str], *, cutoff: int | None = None, clear: bool = False
) -> list[Loaded]:
    """Loads the weights that training starts from.

    Args:
        network: of `network_to_train`; what is not loaded keeps the start that it has there.
        cutoff: only the layers before this one are loaded; None: N for a file called NAME.conv.N, else all layers.
        clear: iterations count from 0, whatever the file says. They do with a cutoff, too.

    Returns:
        For each layer whether it was loaded, see `weights.describe_loaded`.
    """
    if cutoff is None and (backbone := re.search(r"\.conv\.(\d+)$", os.fspath(weights))):
        cutoff = int(backbone[1])
    report = load_weights(network, weights, cutoff=cutoff, fresh=False)
    if clear or cutoff is not None:
        network.seen = 0
    return report


def override_recipe(network: Network, *, loss: str | None = None, mixup_beta: float | None = None) -> None:
    """Replaces options of the cfg that are darknet_py's own: `loss` of all [yolo] heads and `mixup_beta` of [net].

    Raises:
        DarknetError: the network has no [yolo] head; `mixup_beta` is not positive, or images are not blended.
    """
    if loss is not None and not network.set_options("yolo", loss=loss):
        raise DarknetError(f"--loss {loss} is for [yolo] heads; {network.cfg.path} has none")
    if mixup_beta is None:
        return
    if not 0 < mixup_beta < math.inf or mixup_code(network.net) != MIXUP or not network.heads:
        raise DarknetError(
            f"--mixup-beta {mixup_beta:g} sets how a detector's images are blended; it needs a number above 0, and "
            "mixup=1 in [net] (without mosaic)"
        )
    network.set_net(mixup_beta=mixup_beta)


def split_subdivisions(network: Network, processes: int) -> str:
    """Raises `subdivisions` to a multiple of `processes`, so that all of them get the same number of mini-batches.

    Returns:
        What was changed, a sentence; "" if nothing.

    Raises:
        DarknetError: the batch cannot be divided so, or the network must be trained in a single process.
    """
    cfg, net = network.cfg.path, network.net
    if processes > 1 and any(isinstance(layer, Recurrent) for layer in network.layers):
        raise DarknetError(
            f"{cfg}: a recurrent network continues from the state of the previous mini-batch; train it in one process"
        )
    if processes > 1 and (
        net.badlabels_rejection_percentage or net.num_sigmas_reject_badlabels or net.equidistant_point
    ):
        raise DarknetError(
            f"{cfg}: which gradients are left out depends on all previous mini-batches; train it in one process"
        )
    subdivisions = math.lcm(net.subdivisions, processes)
    if processes == 1 and net.batch % subdivisions:
        first = network.cfg.sections[0]
        less = max(net.batch // subdivisions, 1) * subdivisions
        advice = f"write batch={less}, as Darknet takes it, or {less + subdivisions}"
        network.cfg.fail(first, first.get("batch"), f"not a multiple of subdivisions={subdivisions}; {advice}")
    if net.batch % subdivisions:
        raise DarknetError(
            f"{cfg}: [net] batch={net.batch} cannot be split over {processes} processes, {subdivisions} mini-batches "
            f"in all; write a batch that is a multiple of {subdivisions}"
        )
    if subdivisions == net.subdivisions:
        return ""
    network.set_net(subdivisions=subdivisions)
    share = subdivisions // processes
    return f"subdivisions={subdivisions} instead of {net.subdivisions}: {share} for each of the {processes} processes"


def run_settings(
    data: str | os.PathLike[str],
    network: Network,
    material: Material,
    *,
    folder: str | os.PathLike[str] | None = None,
    with_map: bool = False,
    evaluate_every: int | None = None,
    patience: int = 0,
    fixed: Mapping[str, Value] | None = None,
    darknet_lines: bool = False,
) -> RunSettings:
    """The settings of a run, from its .data file and [net].

    Args:
        folder: of the files; None: the .data file's `backup`, else backup.
        with_map: evaluate on the images of the .data file's `valid`.
        evaluate_every: iterations between two evaluations; None: MAP_EPOCHS passes over the training images.
        patience, fixed, darknet_lines: see `RunSettings`; the losses and `mixup_beta` are added to `fixed`.

    Raises:
        DarknetError: the list of `valid` cannot be read, or savelast or saveweights is not a number.
    """
    options, dataset, net = material.options, material.dataset, network.net
    measure: Measure | None = None
    if with_map and dataset is not None:
        measure = measure_on_valid(data, network, dataset, options)
        passes = MAP_EPOCHS * len(dataset) // max(net.batch, 1)
        evaluate_every = evaluate_every or max(passes, MIN_MAP_ITERATIONS)
    save_every = 1000 if net.max_batches < MANY_ITERATIONS else MANY_ITERATIONS
    losses = sorted({layer.loss_name for layer in network.head_layers() if layer.loss_name})
    recipe: dict[str, Value] = {"loss": ",".join(losses), "mixup_beta": net.mixup_beta}
    return RunSettings(
        Path(folder or options.get("backup", "backup")),
        Path(network.cfg.path).stem,
        net.max_batches,
        save_last=options.count("savelast") or SAVE_LAST,
        save_every=options.count("saveweights") or save_every,
        evaluate=measure and measure.of,
        evaluate_every=evaluate_every or 0,
        patience=patience,
        measure=measure.name if measure else "mAP",
        max_chart_loss=net.max_chart_loss if network.cfg.sections[0].get("max_chart_loss") else None,
        unit=material.unit,
        fixed=recipe | dict(fixed or {}),
        darknet_lines=darknet_lines,
    )
