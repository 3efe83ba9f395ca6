"""Names what a picture shows, with a classifier network (Darknet: classifier.c:predict_classifier).

python -m darknet_py.classify --cfg cfg/darknet19.cfg --weights darknet19.weights --names imagenet.shortnames.list dog.jpg
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from darknet_py.command import add_size, run_command
from darknet_py.detect import UNREADABLE
from darknet_py.errors import DarknetError, ImageError
from darknet_py.inference.runner import pick_device, prepare
from darknet_py.layers.softmax import Softmax
from darknet_py.names import find_beside, read_data, read_names
from darknet_py.network import Network, load
from darknet_py.pictures.images import as_picture, read_image, short_side_crop
from darknet_py.pictures.sources import ImageSource, expand


class Guess(NamedTuple):
    """One class and its probability, 0..1."""

    class_id: int
    name: str
    probability: float


class Classifier:
    """Classifies pictures: the short side becomes the network's width, the middle of that is looked at.

    Args:
        network: without a detection head; it is taken over and fused.
        names: path of a names file, or the names; the first ones count where there are more than classes, as in Darknet.

    Raises:
        DarknetError: too few names.
    """

    def __init__(self, network: Network, names: str | os.PathLike[str] | Sequence[str] | None = None) -> None:
        if network.heads:
            raise DarknetError(f"{network.cfg.path}: this network is a detector; use python -m darknet_py.detect")
        if not network.input_shape.c:
            raise DarknetError(f"{network.cfg.path}: this network reads no pictures")
        classes = self.classes = network.classes
        given = (
            [str(k) for k in range(classes)]
            if names is None
            else read_names(names)
            if isinstance(names, (str, os.PathLike))
            else list(names)
        )
        if len(given) < classes:
            raise DarknetError(
                f"{names}: {len(given)} names, but {network.cfg.path} has {classes} classes; names of another model?"
            )
        self.names = given[:classes]
        self.network = prepare(network).network
        self.tree = next(
            (layer.tree for layer in network.layers if isinstance(layer, Softmax) and layer.tree is not None), None
        )

    @torch.inference_mode()
    def __call__(self, image: Any, top: int = 5) -> list[Guess]:
        """The `top` likeliest classes of one picture (a path, or an array (height, width, channels) in RGB), the likeliest first."""
        channels = self.network.net.channels
        picture = read_image(image, channels) if isinstance(image, (str, os.PathLike)) else as_picture(image, channels)
        values = torch.from_numpy(short_side_crop(picture, *self.network.size))
        device = next(self.network.parameters()).device
        output = self.network(values.permute(2, 0, 1)[None].to(device))[0].flatten().float().cpu()
        if self.tree is not None:
            output = self.tree.to("cpu").along_paths(output)
        best = output.topk(min(top, self.classes))
        return [Guess(int(k), self.names[int(k)], float(p)) for p, k in zip(best.values, best.indices, strict=True)]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.classify",
        description="Names what pictures show, with a classifier network.",
        epilog="example: python -m darknet_py.classify --cfg cfg/darknet19.cfg --weights weights/darknet19.weights dog.jpg --top 5",
    )
    result.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="picture, folder, glob, list file (.txt), - (paths on standard input)",
    )
    result.add_argument("--cfg", required=True, help="the network's .cfg")
    result.add_argument("--weights", required=True, help="its .weights or .safetensors")
    result.add_argument("--names", help="class names, one per line")
    result.add_argument("--data", help="a .data file that says where the names are")
    result.add_argument("--top", type=int, help="so many classes (default: the .data file's top, or 5)")
    result.add_argument("--device", default="auto", help="cpu, cuda … (default: cuda where there is one)")
    add_size(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    names, top = given.names, given.top
    if given.data:
        data = read_data(given.data)
        if not names and (found := data.get("names") or data.get("labels")):
            names = find_beside(found, given.data)
        if top is None and data.get("top", "").isdigit():
            top = int(data["top"])
    classifier = Classifier(load(given.cfg, given.weights, device=pick_device(given.device), size=given.size), names)
    unreadable = 0
    for source in expand(given.sources):
        if not isinstance(source, ImageSource):
            raise DarknetError(f"{source.address}: a classifier reads pictures, not videos")
        start = time.perf_counter()
        try:
            guesses = classifier(source.path, top or 5)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        print(f"{source.path}: Predicted in {(time.perf_counter() - start) * 1000:.3f} milli-seconds.")
        for guess in guesses:
            print(f"{guess.name}: {guess.probability:.6f}")
    return UNREADABLE if unreadable else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
