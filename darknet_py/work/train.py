"""What `python -m darknet_py.train` does: a training run."""

from __future__ import annotations

import argparse
from pathlib import Path

from darknet_py.devices import pick_device
from darknet_py.errors import DarknetError
from darknet_py.files import fresh_folder
from darknet_py.metadata import is_safetensors
from darknet_py.network import Network
from darknet_py.training.loop import train
from darknet_py.training.material import open_material, write_previews
from darknet_py.training.run import (
    load_start_weights,
    network_to_train,
    override_recipe,
    plan_epochs,
    run_settings,
    split_subdivisions,
)
from darknet_py.training.step import Trainer
from darknet_py.training.world import World, join_processes
from darknet_py.weights import describe_loaded

FIXED = ("freeze", "exact", "precision", "sync_bn", "tokenized")  # options that a resumed run must repeat


def run(args: argparse.Namespace) -> int:
    """Trains, as one of the processes if there are several. Returns the exit status."""
    with join_processes(args.device) as (world, device):
        return _run(args, world, device)


def _run(args: argparse.Namespace, world: World, device: str) -> int:
    if args.sync_bn and world.size == 1 and not args.show_batches:
        raise DarknetError("--sync-bn is for several processes; start them with torchrun")
    network = _network(args)
    material = open_material(args.data, network, workers=args.workers, tokenized=args.tokenized)
    plan_epochs(network, material)
    if args.show_batches:
        folder = Path(args.out) if args.out else fresh_folder(Path("runs"), "batches")
        write_previews(material, folder, args.show_batches, seed=args.seed)
        print(f"augmented mini-batches in {folder}")
        return 0
    if change := split_subdivisions(network, world.size):
        print(change)
    network.to(pick_device(device))
    if args.channels_last:
        network.channels_last()
    trainer = Trainer(
        network,
        exact=args.exact,
        precision=args.precision,
        compiled=args.compile,
        world=world,
        synchronised=args.sync_bn,
        freeze=args.freeze,
    )
    settings = run_settings(
        args.data,
        network,
        material,
        folder=args.out,
        with_map=args.map,
        evaluate_every=args.map_every,
        patience=args.patience,
        darknet_lines=args.darknet_lines,
        fixed={name: getattr(args, name) for name in FIXED} | {"processes": world.size},
    )
    if world.first and not args.resume and settings.checkpoint.is_file():
        print(f"overwriting an earlier run in {settings.folder}; --resume would continue it")
    if material.summary and world.first:
        print(material.summary)
    processes = f" in {world.size} processes" if world.size > 1 else ""
    print(
        f"{settings.name}: {material.count} {material.unit}, {settings.max_batches} iterations of {trainer.batch} "
        f"{material.unit}{processes}, weights in {settings.folder}",
        flush=True,
    )
    progress = train(trainer, material.batches, settings, seed=args.seed, resume=args.resume)
    best = (
        f", best {settings.measure} {progress.best:.4f} in iteration {progress.best_iteration}"
        if progress.best >= 0
        else ""
    )
    print(f"{trainer.iteration} iterations, average loss {progress.average:.4f}{best}; weights in {settings.folder}")
    return 0


def _network(args: argparse.Namespace) -> Network:
    """The network with its start weights and its recipe."""
    network = network_to_train(args.cfg, seed=args.seed, max_batches=args.max_batches)
    override_recipe(network, loss=args.loss, mixup_beta=args.mixup_beta)
    if args.map and not network.input_shape.c:
        raise DarknetError(f"{args.cfg}: --map evaluates what is seen in images, and this network reads none")
    start = args.weights or (args.cfg if is_safetensors(args.cfg) and not args.resume else None)
    if start:
        print(describe_loaded(load_start_weights(network, start, cutoff=args.cutoff, clear=args.clear)))
    return network
