"""The command that trains a network as its cfg says, step for step like Darknet.

python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg yolov3-tiny.conv.15 --cutoff 15
python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg --resume
torchrun --nproc-per-node 4 -m darknet_py.train data/obj.data cfg/yolov3.cfg darknet53.conv.74
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.bundled import bundled, or_bundled
from darknet_py.choices import PRECISIONS, YOLO_LOSSES
from darknet_py.command import add_device, check_files, lasting, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import fresh_folder


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.train",
        description="Trains a network as its cfg says: batch, subdivisions, learning rate, augmentation, losses. "
        "Without arguments, trains the bundled model.",
        epilog="example: python -m darknet_py.train data/obj.data cfg/yolov3-tiny.cfg yolov3-tiny.conv.15 --map",
    )
    result.add_argument(
        "data", help="the .data file: classes, train, valid, names, backup; for a character network, a text file"
    )
    result.add_argument("cfg", help="the network's .cfg, or a .safetensors that carries it")
    result.add_argument(
        "weights", nargs="?", help="weights to start from (default: those of the .safetensors, or random weights)"
    )
    _add_start(result.add_argument_group("start"))
    _add_training(result.add_argument_group("training"))
    _add_results(result.add_argument_group("results"))
    return result


def _add_start(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cutoff",
        type=int,
        metavar="N",
        help="load only the layers before layer N (default: N if the weights file is called NAME.conv.N, else all)",
    )
    group.add_argument(
        "--clear", action="store_true", help="count iterations from 0, even if the weights were trained before"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run from NAME_last.checkpoint, with the results of an uninterrupted one",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        help="random seed; the same seed gives the same batches; a resumed run keeps its own (default: %(default)s)",
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    add_device(group)
    group.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="number format of the forward pass (default: %(default)s)",
    )
    group.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="memory layout of images and weights (default: on)",
    )
    group.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    group.add_argument(
        "--loss",
        choices=YOLO_LOSSES,
        help="loss of all [yolo] heads, instead of the cfg's loss=; darknet: the C program's; grid: grid assigner and "
        "cross-entropy; giou: GIoU, with an objectness weight for each scale; focal: focal loss of the objectness, "
        "GIoU, truths of blended images weighted",
    )
    group.add_argument(
        "--mixup-beta",
        type=float,
        metavar="B",
        help="with mixup=1, blend images by a fraction drawn from Beta(B, B), e.g. 1.5 (default: the cfg's mixup_beta)",
    )
    group.add_argument(
        "--freeze",
        type=int,
        default=0,
        metavar="N",
        help="do not train the layers before layer N (their batch norm statistics are still updated)",
    )
    group.add_argument("--exact", action="store_true", help="use true derivatives where Darknet's own differ from them")
    group.add_argument(
        "--sync-bn", action="store_true", help="with torchrun: batch norm over the mini-batches of all processes"
    )
    group.add_argument(
        "--max-batches",
        type=int,
        metavar="N",
        help="iterations, instead of the cfg's max_batches; its epochs share them",
    )
    group.add_argument(
        "--workers", type=int, default=2, help="processes that read and augment images (default: %(default)s)"
    )
    group.add_argument(
        "--tokenized", action="store_true", help="the text of a character network is numbers, one for each symbol"
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--out",
        metavar="DIR",
        help="folder for weights, metrics.csv and chart.png (default: backup in the .data file, else backup)",
    )
    group.add_argument(
        "--map",
        action="store_true",
        help="evaluate on the valid images during training (mAP, or a classifier's accuracy in its .data file's top "
        "classes), and keep the best weights as NAME_best.weights",
    )
    group.add_argument(
        "--map-every",
        type=int,
        metavar="N",
        help="iterations between evaluations, from burn_in on (default: four passes over the images, at least 100)",
    )
    group.add_argument(
        "--patience",
        type=int,
        default=0,
        metavar="N",
        help="stop after N evaluations without a better mAP; 0: never (default: %(default)s)",
    )
    group.add_argument(
        "--darknet-lines",
        action="store_true",
        help="where the output is no terminal: Darknet's lines for every iteration, not one line every 10 seconds",
    )
    group.add_argument(
        "--show-batches",
        type=int,
        default=0,
        metavar="N",
        help="write the first N mini-batches, augmented and with their boxes, as images, and do not train",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = parser().parse_intermixed_args(words or _default_arguments())
    _check(args)
    with lasting():
        from darknet_py.work.train import run

    return run(args)


def _default_arguments() -> list[str]:
    """Without arguments: the bundled model is trained again, on images drawn for it."""
    with lasting():
        from darknet_py.data.shapes import write_dataset

    cfg, folder = bundled("cfg"), fresh_folder(Path("runs"), "train")
    print(f"no arguments (see --help): training the bundled model in {folder}", flush=True)
    return [str(write_dataset(folder / "pictures")), str(cfg), "--out", str(folder), "--map"]


def _check(args: argparse.Namespace) -> None:
    """Options that do not go together, and files that cannot be read."""
    if args.patience and not args.map:
        raise DarknetError("--patience needs --map: it counts evaluations")
    if args.resume and (args.weights or args.clear):
        raise DarknetError("--resume continues from the checkpoint; leave the weights file and --clear out")
    may_be_text = Path(or_bundled(args.data)).is_file()
    check_files(args.cfg, args.weights, data=None if may_be_text else args.data)


if __name__ == "__main__":
    sys.exit(run_command(main))
