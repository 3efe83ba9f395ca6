"""What `python -m darknet_py.convert` does: a model's file in, another one out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from darknet_py.cfg import parse_cfg
from darknet_py.errors import DarknetError
from darknet_py.files import write_file
from darknet_py.inference.deploy import deployed
from darknet_py.inference.reparameterise import reparameterised
from darknet_py.metadata import is_safetensors
from darknet_py.names import read_names
from darknet_py.network import Network, carrier
from darknet_py.rewriting import OPERATIONS, average, backbone, with_header
from darknet_py.weights import load_weights


def run(args: argparse.Namespace) -> int:
    """Converts the file. Returns the exit status."""
    first, out = args.files[0], Path(args.out)
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
