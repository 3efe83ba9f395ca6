"""Around a network: images in, detections out (Darknet: detector.c:test_detector).

detector = Detector(load("cfg/yolov3.cfg", "yolov3.weights"), names="cfg/coco.names")
for detection in detector("dog.jpg", thresh=0.25)[0]:
    print(detection.name, detection.confidence, detection.box)
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darknet_py.arguments import fraction, whole
from darknet_py.choices import AUTO, NMS_KINDS
from darknet_py.detections import Detections
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.inference.engines import engine_runner
from darknet_py.inference.gathered import LEAST, finite_sums, gather, parts_of
from darknet_py.inference.runner import Runner
from darknet_py.layers import Candidates
from darknet_py.layers.rnn import Recurrent
from darknet_py.names import class_names, find_beside, names_file, read_data, read_lines
from darknet_py.network import Network, load
from darknet_py.pictures import on_device
from darknet_py.pictures.fit import DarknetFit, fit_of
from darknet_py.pictures.levels import Levels, levels_of
from darknet_py.pictures.read import Image, as_image, read_image, split_batch
from darknet_py.pictures.resize import Size
from darknet_py.postprocess import Fitted, Suppression, chosen, postprocess
from darknet_py.text import shortened, whole_number

Classes: TypeAlias = str | int | Sequence[str | int] | None
HIDDEN = "dont_show"  # classes whose name begins so are never reported


class Detector:
    """Finds objects with a network.

    Args:
        model: a network with a detection head, which is left untouched, as a runner is derived from it; a runner; or
            the path of an ONNX file that `export_onnx` wrote.
        names: path of a .names file, or the names; None: the model's own, or else the classes' numbers.
        letterbox: keep the images' aspect ratio; None: as the cfg's `letter_box` and `image_fit` say (Darknet's
            default: stretch).
        nms_kind, beta_nms: how the overlap of boxes is measured; None: as the cfg's last head says.
        agnostic: boxes of different classes suppress each other too; None: as the cfg says (default: no).
        precision, batch, fused: see `prepare`; a runner has its own.
        engine: what runs the network: "torch", or "onnxruntime" and "openvino" where they are installed, or "auto" for
            the usually fastest of them; see `engine_runner`.
        class_map: for heads with a class tree (YOLO9000), the tree's classes to report, in the order of `names`; other
            heads ignore it.

    Raises:
        DarknetError: the model is none, has no detection head, heads of different classes, or the number of names is
            not that of its classes.
    """

    def __init__(
        self,
        model: Network | Runner | str | os.PathLike[str],
        names: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        letterbox: bool | None = None,
        nms_kind: str | None = None,
        beta_nms: float | None = None,
        agnostic: bool | None = None,
        precision: str = "fp32",
        batch: int = 8,
        class_map: Sequence[int] | None = None,
        fused: bool = False,
        engine: str = "torch",
    ) -> None:
        if isinstance(model, (str, os.PathLike)) and os.fspath(model).lower().endswith(".onnx"):
            from darknet_py.inference.onnx_runner import OnnxRunner  # onnxruntime is an extra

            _check_own(model, precision=(precision, "fp32"), engine=(engine, "torch", "onnxruntime", AUTO))
            model = OnnxRunner(model, batch=batch)
        if not isinstance(model, Runner):
            model = engine_runner(model, engine, precision=precision, batch=batch, fused=fused)  # type: ignore[arg-type]  # refuses a path
        self.runner = model
        self.network, self.batch, self.dtype = self.runner.network, self.runner.batch, self.runner.dtype
        self.heads = self.network.head_layers()
        if not self.heads:
            raise DarknetError(f"{self.network.cfg.path}: no detection head ([yolo], [region] …); is it a classifier?")
        self.network.check_classes()
        if nms_kind not in (None, *NMS_KINDS):
            raise DarknetError(f"nms_kind '{nms_kind}': unknown; write one of {', '.join(NMS_KINDS)}")
        self.class_map = None
        if class_map is not None and any(head.has_tree for head in self.heads):
            if max(class_map, default=0) >= self.network.classes:
                raise DarknetError(
                    f"class map: there is no class {max(class_map)}; the tree has {self.network.classes}"
                )
            self.class_map = torch.tensor(class_map)
        names = self.network.names if names is None and self.class_map is None else names
        self.names = self._checked(names, self.network.classes if self.class_map is None else len(self.class_map))
        self.letterbox = self.runner.letterbox if letterbox is None else letterbox
        self.nms_kind = nms_kind or self.heads[-1].nms_kind
        self.beta_nms = self.heads[-1].beta_nms if beta_nms is None else beta_nms
        self.net = self.network.net
        self.fit, self.levels = fit_of(self.net.image_fit, self.letterbox), levels_of(self.net)
        self.agnostic = bool(self.net.agnostic) if agnostic is None else agnostic
        self._shown = np.array([not name.startswith(HIDDEN) for name in self.names], dtype=bool)

    def _checked(self, names: str | os.PathLike[str] | Sequence[str] | None, classes: int) -> list[str]:
        result = class_names(names, classes)
        if len(result) != classes:
            source = names if isinstance(names, (str, os.PathLike)) else "the list of names"
            cfg = self.network.cfg.path
            raise DarknetError(
                f"{source}: {len(result)} names, but {cfg} has {classes} classes; names of another model?"
            )
        return result

    def __call__(
        self,
        images: Any,
        thresh: float | None = None,
        nms: float | None = None,
        *,
        classes: Classes = None,
        max_det: int | None = None,
        order: str = "rgb",
    ) -> list[Detections]:
        """Detects in one image or many.

        Args:
            images: a path or http(s) address, an array (height, width, channels), a tensor (channels, height, width), a
                PIL image; a list of these, or a batch (n, …) of arrays or tensors. Arrays and tensors are RGB, and
                uint8, uint16, or float from 0 to 1.
            thresh: minimum confidence, 0..1. nms: the overlap, 0..1, above which the less confident of two boxes is
                suppressed; 0: no suppression. None: as the cfg says (default: .25 and .45).
            classes: names or numbers of the classes to report; None: all.
            max_det: the most objects of an image, the most confident ones; None: as the cfg says (default: all).
            order: "bgr" for arrays and tensors as OpenCV reads them.

        Returns:
            A Detections for each image, the most confident object first.

        Raises:
            ImageError: an image cannot be read. DarknetError: another argument is wrong.
        """
        sources = split_batch(images)
        results: list[Detections] = []
        for start in range(0, len(sources), self.batch):
            batch = [self.read(source, order) for source in sources[start : start + self.batch]]
            results += self.detect(batch, thresh, nms, classes=classes, max_det=max_det)
        return results

    def read(self, source: Any, order: str = "rgb") -> Image:
        """A path, array, tensor or PIL image as an image with the network's channels."""
        channels = self.network.net.channels
        if isinstance(source, (str, os.PathLike)):
            return read_image(source, channels)
        return as_image(source, channels, order)

    @torch.inference_mode()
    def detect(
        self,
        images: Sequence[Image],
        thresh: float | None = None,
        nms: float | None = None,
        *,
        classes: Classes = None,
        max_det: int | None = None,
        continued: bool = False,
        fitted: Sequence[Image] | None = None,
    ) -> list[Detections]:
        """Detects in images that are already read, as one batch.

        fitted: the images of `fitted_image`; None: they are made here.
        continued: they follow the images of the call before, as a video's frames do: recurrent layers keep their
            states.
        """
        if not images:
            return []
        if not continued:
            self.network.reset_state()
        raw = self.runner(self.prepare(images) if fitted is None else self.as_batch(fitted))
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        return self.postprocess(raw, sizes, thresh, nms, classes=classes, max_det=max_det)

    @property
    def recurrent(self) -> bool:
        """Whether a network's layer has states, so that frames of a video must come one by one."""
        return any(isinstance(layer, Recurrent) for layer in self.network.layers)

    def wanted(self, classes: Classes) -> NDArray[np.bool_]:
        """(classes,) bool: which classes are reported.

        Raises:
            DarknetError: there is no such class.
        """
        if classes is None:
            return np.ones(len(self.names), dtype=bool)
        result = np.zeros(len(self.names), dtype=bool)
        for one in [classes] if isinstance(classes, (str, int, Integral)) else classes:
            if one in self.names:
                result[self.names.index(str(one))] = True
            elif (number := whole_number(str(one))) is not None and number < len(result):
                result[number] = True
            else:
                close = difflib.get_close_matches(str(one), self.names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {len(result)}, counted from 0"
                raise DarknetError(f"classes: there is no class {one!r}; {hint}")
        return result

    def prepare(self, images: Sequence[Image]) -> Tensor:
        """Images → (n, channels, height, width), stretched or letterboxed to the network's input, on its device."""
        if self.fits_on_device and all(image.dtype == np.uint8 for image in images):
            assert isinstance(self.fit, DarknetFit)
            return on_device.fitted(images, self.fit, *self.network.size, self.runner.device).to(self.dtype)
        return self.as_batch([self.fitted_image(image) for image in images])

    @property
    def fits_on_device(self) -> bool:
        """Whether a GPU resizes images of bytes, so that there is no need to do it before."""
        return self.runner.device.type == "cuda" and isinstance(self.fit, DarknetFit) and self.levels == Levels()

    def fitted_image(self, image: Image) -> Image:
        """An image of `read`, stretched or letterboxed to (height, width, channels) of the network's input."""
        return self.fit(image, *self.network.size)

    def as_batch(self, fitted: Sequence[Image]) -> Tensor:
        """Images of the network's size → (n, channels, height, width), in the order and the range of its input."""
        batch = np.stack([self.levels.values(image) for image in fitted])
        return torch.from_numpy(batch).to(self.runner.device, self.dtype).permute(0, 3, 1, 2)

    def candidates(self, raw: Sequence[Tensor], thresh: float) -> Candidates:
        """The heads' raw outputs → the boxes of all heads before suppression, relative to the network's input. Those
        that are no numbers come to nothing, with a warning."""
        gathered = gather(self.heads, raw, thresh, self.network.size) if self.gathers(thresh) else None
        sums_are_finite = gathered.finite if gathered else bool(finite_sums(raw))
        if not sums_are_finite and not all(bool(part.isfinite().all()) for part in parts_of(raw)):
            advice = "are its weights those of a training that has failed or hardly begun?"
            if self.dtype != torch.float32:
                advice = "try --precision fp32"
            text = f"{self.network.cfg.path}: the network gives values that are not finite, so objects are missed"
            warnings.warn(f"{text}; {advice}", CfgWarning, stacklevel=3)
        if gathered and gathered.complete:
            return gathered.candidates
        return self.runner.candidates(raw, thresh, self.class_map)

    def gathers(self, thresh: float) -> bool:
        """Whether candidates come from a GPU in one transfer, and the rest is done on the CPU."""
        return self.runner.device.type == "cuda" and thresh >= LEAST and all(head.dense for head in self.heads)

    @property
    def fitted(self) -> Fitted | None:
        """How images lie in the network's input, if boxes must be moved from it to the image."""
        corrected = self.letterbox and all(head.corrected for head in self.heads)
        return Fitted(self.fit, self.network.size) if corrected else None

    def postprocess(
        self,
        raw: Sequence[Tensor],
        sizes: Sequence[Size],
        thresh: float | None,
        nms: float | None,
        *,
        classes: Classes = None,
        max_det: int | None = None,
    ) -> list[Detections]:
        """The heads' raw outputs → detections, the most confident first; `sizes`: (width, height) of each image."""
        net = self.net
        most = net.max_det if max_det is None else whole("max_det", max_det)
        nms = fraction("nms", net.nms if nms is None else nms)
        thresh = fraction("thresh", net.thresh if thresh is None else thresh)
        self.runner.check_limits(thresh, nms)
        suppression = Suppression(nms, self.nms_kind, self.beta_nms, self.agnostic, most=net.max_nms)
        candidates = self.candidates(raw, thresh)
        candidates = chosen(candidates, net, best=bool(net.best_class))
        if classes is not None:
            wanted = torch.from_numpy(self.wanted(classes)).to(candidates.probs.device)
            candidates = candidates._replace(probs=candidates.probs * wanted)
        found = postprocess(candidates, sizes, self.names, suppression, self.fitted)
        return [self._for_users(detections, most) for detections in found]

    def _for_users(self, found: Detections, max_det: int | None) -> Detections:
        order = np.argsort(-found.confidences, kind="stable")
        order = order[self._shown[found.class_ids[order]]][:max_det]
        class_ids, confidences, xywh = (column[order] for column in (found.class_ids, found.confidences, found.xywh))
        return replace(found, class_ids=class_ids, confidences=confidences, xywh=xywh)


def load_detector(
    cfg: str | os.PathLike[str] | None,
    weights: str | os.PathLike[str],
    names: str | os.PathLike[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    device: str | int | torch.device = "auto",
    size: Size | None = None,
    strict: bool = False,
    **options: Any,
) -> Detector:
    """Loads a model from its files.

    Args:
        cfg: None: `weights` is a .safetensors file that carries it, or an ONNX file.
        names: the names file; None: the one that the .data file `data` says, whose `map` is the class map.
        device: "cpu", "cuda", "cuda:1" …; "auto": a GPU where there is one.
        size, strict: see `load`. options: see `Detector`.

    Raises:
        DarknetError: a file is missing or wrong, or the files do not fit together.
    """
    if data is not None:
        content = read_data(data)
        names = names or names_file(content, data)
        if content.get("map"):
            options["class_map"] = read_class_map(find_beside(content["map"], data))
    if cfg is None and os.fspath(weights).lower().endswith(".onnx"):
        _check_own(weights, size=(size, None), device=(str(device), "auto", "cpu"))
        return Detector(weights, names, **options)
    return Detector(load(cfg, weights, device=device, size=size, strict=strict), names, **options)


def _check_own(path: str | os.PathLike[str], **asked: tuple[Any, ...]) -> None:
    """Refuses what an exported model cannot be asked for. asked: by option, its value, then those that are possible."""
    for name, (value, *possible) in asked.items():
        if value not in possible:
            text = "an exported model has its own size and number format, and is run by onnxruntime on the CPU"
            raise DarknetError(f"{os.fspath(path)}: {name} {value}: {text}; leave it out, or detect with the weights")


def read_class_map(path: str | os.PathLike[str]) -> list[int]:
    """The file that `map` of a .data file names: a class of the tree per line, for the names in their order."""
    lines = read_lines(path, "class map")
    numbers = [whole_number(line) for line in lines]
    if None in numbers:
        wrong = shortened(lines[numbers.index(None)])
        raise DarknetError(f"{path}: '{wrong}' is not a class; write its number, one per line")
    return [number for number in numbers if number is not None]
