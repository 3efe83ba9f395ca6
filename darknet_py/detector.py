"""Around a network: pictures in, detections out; device, precision and batches are its business (Darknet: detector.c:test_detector).

detector = Detector(load("cfg/yolov3.cfg", "yolov3.weights"), names="cfg/coco.names")
for detection in detector("dog.jpg", thresh=0.25)[0]:
    print(detection.name, detection.confidence, detection.box)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darknet_py.boxes import nms as suppress
from darknet_py.detections import Detections
from darknet_py.errors import DarknetError
from darknet_py.inference.runner import Runner, prepare
from darknet_py.layers import Candidates
from darknet_py.layers.head import NMS_KINDS
from darknet_py.names import read_names
from darknet_py.network import Network
from darknet_py.pictures.images import Picture, as_picture, letterbox, read_image, resize, to_picture

HIDDEN = "dont_show"  # classes whose name begins so are never reported


class Detector:
    """Finds objects with a network.

    Args:
        model: a network with a detection head, which is not touched: what runs is derived from it (`prepare`). Or a runner.
        names: path of a .names file, or the names; None: the classes' numbers.
        letterbox: keep the pictures' proportions; None: as the cfg's `letter_box` says (Darknet's default is to stretch).
        nms_kind, beta_nms: how overlapping boxes are suppressed; None: as the cfg's last head says.
        agnostic: an object has one class only: boxes of different classes suppress each other.
        precision, batch: see `prepare`; a runner has its own.
        class_map: for heads with a class tree (YOLO9000): the tree's classes to report, in the order of `names`.

    Raises:
        DarknetError: the network has no detection head, or the names are not as many as its classes.
    """

    def __init__(
        self,
        model: Network | Runner,
        names: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        letterbox: bool | None = None,
        nms_kind: str | None = None,
        beta_nms: float | None = None,
        agnostic: bool = False,
        precision: str = "fp32",
        batch: int = 8,
        class_map: Sequence[int] | None = None,
    ) -> None:
        runner = model if isinstance(model, Runner) else prepare(model, precision=precision, batch=batch)
        network = runner.network
        cfg = network.cfg.path
        if not network.heads:
            raise DarknetError(
                f"{cfg}: this network has no detection head ([yolo], [Gaussian_yolo], [region], [detection]); is it a classifier?"
            )
        if nms_kind not in (None, *NMS_KINDS):
            raise DarknetError(f"nms_kind '{nms_kind}' is not known; write one of {', '.join(NMS_KINDS)}")
        self.class_map = None if class_map is None else torch.tensor(class_map)
        classes = network.classes if class_map is None else len(class_map)
        self.names = _names(names, classes, cfg)
        self.letterbox = bool(network.net.letter_box) if letterbox is None else letterbox
        last = network.head_layers()[-1]
        self.nms_kind = nms_kind or last.nms_kind
        self.beta_nms = last.beta_nms if beta_nms is None else beta_nms
        self.agnostic = agnostic
        self.runner, self.network = runner, network
        self.batch, self.dtype = runner.batch, runner.dtype
        self._shown = np.array([not name.startswith(HIDDEN) for name in self.names])

    def __call__(self, images: Any, thresh: float = 0.25, nms: float = 0.45) -> list[Detections]:
        """Detects in one picture or many.

        Args:
            images: a path, an array (height, width, channels) in RGB, a tensor (channels, height, width), or a list of those.
            thresh: the least confidence, 0..1. nms: the overlap from which the less sure of two boxes goes; 0: none goes.

        Returns:
            A Detections for each picture.

        Raises:
            ImageError: a picture cannot be read.
        """
        many = list(images) if isinstance(images, (list, tuple)) else [images]
        results: list[Detections] = []
        for start in range(0, len(many), self.batch):
            pictures = [self.read(image) for image in many[start : start + self.batch]]
            results += self.detect(pictures, thresh, nms)
        return results

    def read(self, image: Any) -> Picture:
        """A path or array as a picture with the network's channels."""
        channels = self.network.net.channels
        if isinstance(image, (str, os.PathLike)):
            return read_image(image, channels)
        return as_picture(image, channels)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Picture], thresh: float = 0.25, nms: float = 0.45) -> list[Detections]:
        """Detects in pictures that are read already, as one batch."""
        heads = self.runner(self.prepare(pictures))
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        return self.postprocess(heads, sizes, thresh, nms)

    def prepare(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures → (n, channels, height, width), stretched or letterboxed to the network's input, on its device."""
        width, height = self.network.size
        fit = letterbox if self.letterbox else resize
        batch = np.stack([fit(picture, width, height) for picture in pictures])
        return torch.from_numpy(batch).to(self.runner.device, self.dtype).permute(0, 3, 1, 2)

    def candidates(self, heads: Sequence[Tensor], thresh: float) -> Candidates:
        """The boxes of all heads, before suppression; relative to the network's input."""
        size = self.network.size
        layers = self.network.head_layers()
        every = [
            layer.decode(raw, thresh, size, class_map=self.class_map) for layer, raw in zip(layers, heads, strict=True)
        ]
        return every[0] if len(every) == 1 else Candidates(*map(torch.cat, zip(*every, strict=True)))

    def postprocess(
        self, heads: Sequence[Tensor], sizes: Sequence[tuple[int, int]], thresh: float, nms: float
    ) -> list[Detections]:
        """Heads' raw outputs → detections; `sizes`: (width, height) of each picture.

        Boxes are suppressed relative to the picture, as in `detector test`: Darknet's DIoU depends on the proportions.
        """
        candidates = self.candidates(heads, thresh)
        row, label = (candidates.probs > 0).nonzero(as_tuple=True)
        image, xywh, score = candidates.image[row], candidates.xywh[row], candidates.probs[row, label]
        if self.letterbox and all(layer.corrected for layer in self.network.head_layers()):
            corrected = [to_picture(xywh[image == k], size, self.network.size, True) for k, size in enumerate(sizes)]
            order = torch.cat([(image == k).nonzero().squeeze(1) for k in range(len(sizes))])
            xywh = torch.empty_like(xywh).index_copy_(0, order, torch.cat(corrected))
        if nms:
            group = image if self.agnostic else image * len(self.names) + label
            kept = suppress(xywh, score, group, nms, self.nms_kind, self.beta_nms)
            image, xywh, score, label = image[kept], xywh[kept], score[kept], label[kept]
        return self._per_picture(image, xywh, score, label, sizes)

    def _per_picture(
        self, image: Tensor, xywh: Tensor, score: Tensor, label: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        order = score.argsort(descending=True, stable=True)
        images, boxes, scores, labels = (t[order].cpu().numpy() for t in (image, xywh, score, label))
        shown = self._shown[labels]
        masks = [(images == k) & shown for k in range(len(sizes))]
        return [
            Detections(labels[m], scores[m], boxes[m], size, self.names) for m, size in zip(masks, sizes, strict=True)
        ]


def _names(names: str | os.PathLike[str] | Sequence[str] | None, classes: int, cfg: str) -> list[str]:
    if names is None:
        return [str(index) for index in range(classes)]
    given = read_names(names) if isinstance(names, (str, os.PathLike)) else list(names)
    if len(given) != classes:
        source = names if isinstance(names, (str, os.PathLike)) else "the list of names"
        raise DarknetError(f"{source}: {len(given)} names, but {cfg} has {classes} classes; names of another model?")
    return given
