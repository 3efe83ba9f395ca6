"""Trains a network from its cfg, step for step like Darknet.

python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg yolov3-tiny.conv.15 --cutoff 15
python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg --resume
torchrun --nproc-per-node 4 -m darknet_py.train data/obj.data cfg/yolov3.cfg darknet53.conv.74
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from darknet_py.bundled import bundled
from darknet_py.cfg import parse_cfg
from darknet_py.command import run_command
from darknet_py.data.augment.lists import MIXUP, mixup_code
from darknet_py.data.dataset import open_dataset
from darknet_py.data.preview import preview
from darknet_py.data.shapes import write_dataset
from darknet_py.errors import DarknetError
from darknet_py.files import fresh_folder
from darknet_py.inference.runner import PRECISIONS, pick_device
from darknet_py.layers.rnn import Recurrent
from darknet_py.losses import LOSSES
from darknet_py.measuring.evaluation import evaluate
from darknet_py.measuring.plots import draw_chart
from darknet_py.network import Network
from darknet_py.pictures.write import write_image
from darknet_py.training.loop import Plan, Progress, checkpoint_path, read_rows, train
from darknet_py.training.material import Material, open_material
from darknet_py.training.step import Trainer
from darknet_py.training.world import World, joined
from darknet_py.weights import describe_loaded, load_weights

MAP_EPOCHS = 4  # rounds through the pictures between two evaluations …
MAP_LEAST = 100  # … but at least so many iterations
CHART_EVERY = 100  # iterations
SETTINGS = (
    "loss",
    "mixup_beta",
    "freeze",
    "exact",
    "precision",
    "sync_bn",
    "tokenized",
)  # options that a resumed run needs again


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.train",
        description="Trains a network as its cfg says: batch, subdivisions, burn_in, steps, jitter, mosaic, losses; without arguments, the bundled model.",
        epilog="example: python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg yolov3-tiny.conv.15 --map",
    )
    result.add_argument(
        "data", help="the .data file: classes, train, valid, names, backup; for a character network, a text"
    )
    result.add_argument("cfg", help="the network's .cfg")
    result.add_argument("weights", nargs="?", help="weights to start from; without them, fresh ones")
    start = result.add_argument_group("start")
    start.add_argument(
        "--cutoff",
        type=int,
        help="only the layers before this one are read from the weights file (default: the N of a file called NAME.conv.N)",
    )
    start.add_argument("--clear", action="store_true", help="count iterations from 0, whatever the weights file says")
    start.add_argument(
        "--resume", action="store_true", help="go on from NAME_last.checkpoint, as if the run had never stopped"
    )
    start.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the same seed gives the same batches; a resumed run keeps its own (default: %(default)s)",
    )
    how = result.add_argument_group("training")
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … (default: cuda where there is one)")
    how.add_argument(
        "--precision", choices=tuple(PRECISIONS), default="fp32", help="of the forward pass (default: %(default)s)"
    )
    how.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="layout of maps and weights (default: on)",
    )
    how.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    how.add_argument(
        "--loss",
        choices=tuple(LOSSES["yolo"]),
        help="of [yolo] heads, in place of the cfg's loss=: darknet: the C program's; grid: grid assigner, cross-entropy; "
        "giou: GIoU, objectness balanced over the scales; focal: focal objectness, GIoU, weights of mixup",
    )
    how.add_argument(
        "--mixup-beta",
        type=float,
        metavar="B",
        help="mixup=1 blends by Beta(B, B), e.g. 1.5 (default: as the cfg's mixup_beta says)",
    )
    how.add_argument(
        "--freeze",
        type=int,
        default=0,
        metavar="N",
        help="the layers before this one are not trained (their rolling statistics move)",
    )
    how.add_argument(
        "--exact", action="store_true", help="true derivatives in place of Darknet's own where they differ"
    )
    how.add_argument(
        "--sync-bn",
        action="store_true",
        help="with torchrun: batch norm takes the mini-batches that are worked through at the same time for one",
    )
    how.add_argument("--max-batches", type=int, help="iterations, in place of the cfg's max_batches")
    how.add_argument(
        "--workers", type=int, default=2, help="processes that read and augment pictures (default: %(default)s)"
    )
    how.add_argument(
        "--tokenized", action="store_true", help="the text of a character network is numbers, one for each symbol"
    )
    look = result.add_argument_group("results")
    look.add_argument("--out", help="folder of weights, metrics.csv and chart.png (default: the .data file's backup)")
    look.add_argument(
        "--map", action="store_true", help="evaluate on the valid pictures now and then, keep NAME_best.weights"
    )
    look.add_argument(
        "--map-every", type=int, help="iterations between evaluations (default: four rounds through the pictures)"
    )
    look.add_argument(
        "--patience",
        type=int,
        default=0,
        help="stop after so many evaluations without a better mAP; 0: never (default)",
    )
    look.add_argument(
        "--show-batches",
        type=int,
        default=0,
        metavar="N",
        help="write N augmented mini-batches with their boxes as pictures, and stop",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return start(parser().parse_intermixed_args(given or _first_look()))


def _first_look() -> list[str]:
    """Without arguments: the bundled model is trained again, on pictures drawn for it."""
    cfg, folder = bundled("cfg"), fresh_folder(Path("runs"), "train")
    print(f"no arguments (see --help), so the bundled model is trained again, in {folder}", flush=True)
    return [str(write_dataset(folder / "pictures")), str(cfg), "--out", str(folder), "--map"]


def start(given: argparse.Namespace) -> int:
    with joined(given.device) as (world, device):
        return _start(given, world, device)


def _start(given: argparse.Namespace, world: World, device: str) -> int:
    if given.patience and not given.map:
        raise DarknetError("--patience needs --map: it counts evaluations")
    network = make_network(given)
    if given.mixup_beta is not None:
        if given.mixup_beta <= 0 or mixup_code(network.net) != MIXUP or not network.heads:
            raise DarknetError(
                f"--mixup-beta {given.mixup_beta:g} says how images of a detector are blended; it needs a number over 0, and "
                "mixup=1 in [net] (without mosaic)"
            )
        network.set_net(mixup_beta=given.mixup_beta)
    if given.map and not network.heads:
        raise DarknetError(f"{given.cfg}: --map measures detections, and this network has no detection head")
    if given.workers < 0:
        raise DarknetError(f"--workers {given.workers}: write 0 or more")
    if given.resume and (given.weights or given.clear):
        raise DarknetError("--resume goes on from the checkpoint; leave the weights file and --clear out")
    if given.loss and not network.set_options("yolo", loss=given.loss):
        raise DarknetError(f"--loss {given.loss} is for [yolo] heads; {given.cfg} has none")
    material = open_material(given.data, network, workers=given.workers, tokenized=given.tokenized)
    if material.dataset is None and given.show_batches:
        raise DarknetError(f"{given.cfg}: a character network has no pictures; leave --show-batches out")
    if given.show_batches:
        return show_batches(given, network, material)
    if given.sync_bn and world.size == 1:
        raise DarknetError("--sync-bn is for several processes; start them with torchrun")
    deal_out(network, world)
    network.to(pick_device(device))
    if given.channels_last:
        network.channels_last()
    trainer = Trainer(
        network,
        exact=given.exact,
        precision=given.precision,
        compiled=given.compile,
        world=world,
        synchronised=given.sync_bn,
        freeze=given.freeze,
    )
    plan = make_plan(given, network, material, world.size)
    if world.first and not given.resume and checkpoint_path(plan).is_file():
        print(f"an earlier run in {plan.folder} is overwritten; --resume would go on from it")
    outputs = _Outputs(plan) if world.first else None
    plan.on_row = outputs
    together = f" in {world.size} processes" if world.size > 1 else ""
    amount = (
        f"{material.count} {material.unit}, {plan.max_batches} iterations of {trainer.batch} {material.unit}{together}"
    )
    print(f"{plan.name}: {amount}, weights in {plan.folder}", flush=True)

    def batches_from(progress: Progress) -> Callable[[int], Iterator[Any]]:
        return lambda mini_batch: material.batches(progress.seed, progress.first, mini_batch, world)

    progress = train(trainer, batches_from, plan, seed=given.seed, resume=given.resume)
    if outputs:
        outputs.chart()
    best = f", best mAP {progress.best:.4f} in iteration {progress.best_iteration}" if progress.best >= 0 else ""
    print(f"{trainer.iteration} iterations, average loss {progress.average:.4f}{best}; weights in {plan.folder}")
    return 0


def deal_out(network: Network, world: World) -> None:
    """Makes the subdivisions of a batch so many that each of the processes gets as many of them."""
    net = network.net
    if world.size > 1 and any(isinstance(layer, Recurrent) for layer in network.layers):
        raise DarknetError(
            f"{network.cfg.path}: a recurrent network goes on from its last state; train it in one process"
        )
    rejecting = net.badlabels_rejection_percentage or net.num_sigmas_reject_badlabels or net.equidistant_point
    if world.size > 1 and rejecting:
        raise DarknetError(
            f"{network.cfg.path}: which deltas are left out depends on all before; train it in one process"
        )
    parts = math.lcm(net.subdivisions, world.size)
    if net.batch % parts:
        raise DarknetError(
            f"{network.cfg.path}: [net] batch={net.batch} cannot be dealt out to {world.size} processes in {parts} parts; "
            f"write a batch that {parts} divides"
        )
    if parts != net.subdivisions:
        print(
            f"subdivisions={parts} in place of {net.subdivisions}: each of the {world.size} processes gets {parts // world.size}"
        )
        network.set_net(subdivisions=parts)


def make_network(given: argparse.Namespace) -> Network:
    """The network with its start weights."""
    network = Network(parse_cfg(given.cfg))
    if given.max_batches is not None:
        network.set_net(max_batches=given.max_batches)
    if network.net.max_batches < 1:
        raise DarknetError(
            f"{given.cfg}: [net] max_batches={network.net.max_batches}: nothing to do; write the number of iterations"
        )
    if network.net.batch * network.net.time_steps < 2:
        raise DarknetError(
            f"{given.cfg}: [net] batch=1: batch norm needs more pictures; write e.g. batch=64 and subdivisions=16"
        )
    _check_schedule(network)
    network.initialise(given.seed)
    cutoff = given.cutoff
    if given.weights:
        if cutoff is None and (backbone := re.search(r"\.conv\.(\d+)$", given.weights)):
            cutoff = int(backbone[1])
        print(describe_loaded(load_weights(network, given.weights, cutoff=cutoff)))
    if given.clear or cutoff is not None:
        network.seen = 0
    return network


def _check_schedule(network: Network) -> None:
    """Steps that are never reached are usually another run's."""
    cfg, net = network.cfg, network.net
    section = cfg.sections[0]
    for name, last in (
        ("burn_in", net.burn_in),
        ("steps", max(net.steps, default=0) if net.policy in ("steps", "sgdr") else 0),
    ):
        if last >= net.max_batches:
            text = f"reaches beyond max_batches={net.max_batches}, the rate will not get where it should; write smaller ones"
            cfg.warn(section, section.get(name), text)


def make_plan(given: argparse.Namespace, network: Network, material: Material, processes: int) -> Plan:
    data, dataset = material.options, material.dataset
    folder = Path(given.out or data.get("backup", "backup"))
    net = network.net
    save_every = _whole(data.get("saveweights"), 1000 if net.max_batches < 10_000 else 10_000)
    plan = Plan(
        folder,
        Path(given.cfg).stem,
        net.max_batches,
        save_last=_whole(data.get("savelast"), 100),
        save_every=save_every,
    )
    if given.map and dataset is not None:
        valid = open_dataset(given.data, "valid")
        every = max(MAP_EPOCHS * len(dataset) // max(net.batch, 1), MAP_LEAST)
        plan.evaluate = lambda model: float(evaluate(model, valid).mAP)
        plan.evaluate_every = given.map_every or every
        plan.patience = given.patience
    plan.unit = "images" if dataset else material.unit
    plan.settings = {name: getattr(given, name) for name in SETTINGS} | {"processes": processes}
    return plan


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else otherwise


class _Outputs:
    """After each iteration: the chart now and then, and TensorBoard, each where it is installed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.has_plots = importlib.util.find_spec("matplotlib") is not None
        if not self.has_plots:
            print("chart.png needs matplotlib: pip install matplotlib")
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined, unused-ignore]
        except ImportError:
            return
        self.board = SummaryWriter(str(plan.folder / "tensorboard"))

    def __call__(self, row: dict[str, Any]) -> None:
        iteration = int(row["iteration"])
        if self.board is not None:
            for key in ("loss", "average", "rate", "map"):
                if row[key] != "":
                    self.board.add_scalar(key, float(row[key]), iteration)
        if iteration % CHART_EVERY == 0:
            self.chart()

    def chart(self) -> None:
        rows = read_rows(self.plan.folder / "metrics.csv")
        if rows and self.has_plots:
            draw_chart(self.plan.folder / "chart.png", rows, self.plan.max_batches, self.plan.name)


def show_batches(given: argparse.Namespace, network: Network, material: Material) -> int:
    folder = Path(given.out) if given.out else fresh_folder(Path("runs"), "batches")
    folder.mkdir(parents=True, exist_ok=True)
    batches = material.batches(given.seed, 1, 0, World())
    names = material.dataset.names if material.dataset else []
    for number, batch in zip(range(given.show_batches), batches, strict=False):
        write_image(folder / f"batch-{number + 1}.png", preview(batch, names))
    print(f"augmented batches in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
