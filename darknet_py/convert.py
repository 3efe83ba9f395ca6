"""The command that converts a model's file: .weights, .safetensors with cfg and class names in it, state_dict.

python -m darknet_py.convert yolov3.weights --cfg cfg/yolov3.cfg --names cfg/coco.names --out yolov3.safetensors
python -m darknet_py.convert yolov3.safetensors --out yolov3.weights
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darknet_py.cfg import parse_cfg
from darknet_py.command import positive, run_command
from darknet_py.errors import DarknetError
from darknet_py.files import check_writable, write_file
from darknet_py.inference.deploy import deployed
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.metadata import is_safetensors
from darknet_py.names import read_names
from darknet_py.network import Network, carrier
from darknet_py.rewriting import OPERATIONS, average, backbone, with_header
from darknet_py.weights import load_weights

OTHER_FORMATS = {
    ".onnx": "python -m darknet_py.export writes ONNX",
    ".pt2": "docs/CONVERTING.md shows the call of torch.export",
    ".cfg": "--out-cfg writes the cfg",
    ".names": "--out-names writes the class names",
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.convert",
        description="Converts a model's file to .weights, to .safetensors with the cfg and the class names in it (a "
        "model that every command opens alone), or to a PyTorch state_dict (.pt, .pth).",
        epilog="example: python -m darknet_py.convert yolov3.weights --cfg cfg/yolov3.cfg --names cfg/coco.names "
        "--out yolov3.safetensors",
    )
    result.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".weights, .safetensors, .pt or .pth; of several files, the average, as of Darknet's `average`",
    )
    result.add_argument("--cfg", help="the network's .cfg (default: the one in the .safetensors)")
    result.add_argument("--names", help="class names, one per line (default: those in the .safetensors)")
    result.add_argument(
        "--out", required=True, metavar="OUT", help="the file to write; its extension decides the format, else .weights"
    )
    result.add_argument("--out-cfg", metavar="FILE", help="write the cfg of OUT, too")
    result.add_argument("--out-names", metavar="FILE", help="write the class names, too")
    change = result.add_argument_group("changes, in this order")
    change.add_argument(
        "--cutoff", type=positive, metavar="N", help="keep the layers before layer N alone, as Darknet's `partial`"
    )
    change.add_argument("--apply", choices=tuple(OPERATIONS), help="rewrite the weights as this word of Darknet does")
    folding = change.add_mutually_exclusive_group()
    folding.add_argument("--fuse", action="store_true", help="fold all batch norm into the weights")
    folding.add_argument(
        "--deploy",
        action="store_true",
        help="fold batch norm, parallel branches and learned summands and factors into convolutions, and leave out "
        "auxiliary heads: the form for inference, with a cfg of its own (--out-cfg)",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    first, out = args.files[0], Path(args.out)
    if out.suffix in OTHER_FORMATS:
        raise DarknetError(f"--out {out}: {OTHER_FORMATS[out.suffix]}")
    check_writable(out, args.out_cfg, args.out_names)
    cfg = parse_cfg(args.cfg or carrier(first))
    if args.cutoff:
        cfg = backbone(cfg, args.cutoff)

    def loaded(path: str) -> Network:
        network = Network(cfg)
        load_weights(network, path, cutoff=args.cutoff)
        return network.requires_grad_(False).eval()

    network = loaded(first)
    if len(args.files) > 1:
        network = average(network, map(loaded, args.files[1:]))
    if args.apply:
        network = OPERATIONS[args.apply](network)
    if args.cutoff:
        network.seen = 0
    if args.apply or args.cutoff or len(args.files) > 1:
        network = with_header(network)
    if args.fuse:
        network = deployed(network)
    if args.deploy:
        network = reparameterised(network)
    if args.names:
        network.names = read_names(args.names)
    _check_names(args, network)
    network.save_weights(out)
    print(f"{out}: {len(network.layers)} layers, {out.stat().st_size / 1e6:.1f} MB")
    if args.out_cfg:
        write_file(args.out_cfg, network.cfg.text)
    elif network.cfg.text != cfg.text and not is_safetensors(out):
        print(
            f"note: {out} needs another cfg than {cfg.path}; --out-cfg FILE writes it",
            file=sys.stderr,
        )
    if args.out_names:
        write_file(args.out_names, "".join(f"{name}\n" for name in network.names or ()))
    return 0


def _check_names(args: argparse.Namespace, network: Network) -> None:
    names = network.names
    if args.out_names and names is None:
        raise DarknetError(f"--out-names {args.out_names}: {args.files[0]} carries no class names; write --names FILE")
    if args.names and names is not None and network.heads and len(names) != network.classes:
        raise DarknetError(
            f"{args.names}: {len(names)} names, but {network.cfg.path} has {network.classes} classes; names of another "
            "model?"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
