"""Around a classifier network: images in, the most probable classes out (Darknet: classifier.c:predict_classifier).

classifier = Classifier(load("cfg/darknet19.cfg", "darknet19.weights"), names="imagenet.shortnames.list")
for guess in classifier("dog.jpg"):
    print(guess.name, guess.probability)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from darknet_py.arguments import whole
from darknet_py.errors import DarknetError
from darknet_py.inference.runner import Runner, prepare
from darknet_py.layers.softmax import Softmax
from darknet_py.names import class_names
from darknet_py.network import Network
from darknet_py.pictures.levels import levels_of
from darknet_py.pictures.read import Image, as_image, read_image
from darknet_py.pictures.resize import short_side_crop


class Guess(NamedTuple):
    """One class and its probability, 0..1."""

    class_id: int
    name: str
    probability: float


class Classifier:
    """Classifies images: the short side is resized to the network's width, and the middle is classified.

    Args:
        model: a network without a detection head, which is left untouched, as a runner is derived from it; or a runner.
        names: path of a names file, or the names; None: the model's own, or else the classes' numbers. Names beyond the
            network's classes are not used, as in Darknet.

    Raises:
        DarknetError: the network is a detector or reads no images, or there are too few names.
    """

    def __init__(self, model: Network | Runner, names: str | os.PathLike[str] | Sequence[str] | None = None) -> None:
        self.runner = model if isinstance(model, Runner) else prepare(model, batch=1)
        network = self.runner.network
        cfg, classes = network.cfg.path, network.classes
        if network.heads:
            raise DarknetError(f"{cfg}: this network is a detector; use python -m darknet_py.detect")
        if not network.input_shape.c:
            raise DarknetError(f"{cfg}: the input of this network is not an image")
        known = class_names(network.names if names is None else names, classes)
        if len(known) < classes:
            source = names if isinstance(names, (str, os.PathLike)) else "the list of names"
            raise DarknetError(
                f"{source}: {len(known)} names, but {cfg} has {classes} classes; names of another model?"
            )
        self.names = known[:classes]
        self.network = network
        trees = (layer.tree for layer in self.network.layers if isinstance(layer, Softmax))
        self.tree = next((tree for tree in trees if tree is not None), None)

    @torch.inference_mode()
    def __call__(self, image: Any, top: int = 5, *, order: str = "rgb") -> list[Guess]:
        """The `top` most probable classes of one image, the most probable first.

        Args:
            image: a path or http(s) address, an array (height, width, channels), a tensor (channels, height, width),
                or a PIL image; see `as_image`.
            order: "bgr" for arrays and tensors as OpenCV reads them.

        Raises:
            ImageError: the image cannot be read.
        """
        best = self.probabilities([self.read(image, order)])[0].cpu().topk(min(whole("top", top), len(self.names)))
        return [Guess(int(k), self.names[int(k)], float(p)) for p, k in zip(best.values, best.indices, strict=True)]

    def read(self, image: Any, order: str = "rgb") -> Image:
        """An image, see `__call__`, as the network gets it: (height, width, channels), the middle of the image."""
        channels = self.network.net.channels
        pixels = (
            read_image(image, channels) if isinstance(image, (str, os.PathLike)) else as_image(image, channels, order)
        )
        return short_side_crop(pixels, *self.network.size)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Image]) -> Tensor:
        """(n, classes) float32 of n images from `read`."""
        self.network.reset_state()
        levels = levels_of(self.network.net)
        batch = (
            torch.from_numpy(np.stack([levels.values(image) for image in images]))
            .to(self.runner.device, self.runner.dtype)
            .permute(0, 3, 1, 2)
        )
        probabilities = self.runner(batch)[0].flatten(1).float()
        return probabilities if self.tree is None else self.tree.along_paths(probabilities)
