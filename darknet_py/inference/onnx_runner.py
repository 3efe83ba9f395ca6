"""A runner of an exported ONNX file, through onnxruntime: the file says all that it needs.

detector = Detector("yolov3.onnx")
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from darknet_py.cfg import parse_text
from darknet_py.choices import EXPORTED_OUTPUTS, NMS_KINDS
from darknet_py.errors import CfgWarning, DarknetError
from darknet_py.inference.runner import Runner
from darknet_py.layers import Candidates
from darknet_py.network import Network
from darknet_py.pictures.levels import levels_of

METADATA = "darknet_py"  # the key of the model's metadata in which `export_onnx` describes it


class OnnxRunner(Runner):
    """Images → outputs of an exported model.

    Attributes:
        outputs: what the model gives, see `exporting.Form`. network: the cfg that it was made from, without weights.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: str = "cpu", batch: int = 8) -> None:
        """Opens the file.

        Raises:
            DarknetError: it cannot be opened, or was not written by this program.
        """
        self.path, self.session = os.fspath(path), open_session(path, device)
        about = _read_about(self.session, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CfgWarning)  # they were given when the model was exported
            width, height = about["size"]
            network = Network(parse_text(about["cfg"], os.fspath(path)), size=(width, height) if width else None)
        network.names = about["names"] or None
        for head in network.head_layers():
            head.nms_kind = about["nms_kind"] or head.nms_kind
        super().__init__(network.requires_grad_(False).eval(), "fp32", batch)
        self.letterbox = about["letterbox"]
        self.outputs, self.uint8 = about["outputs"] if network.heads else "raw", about["uint8"]
        _check_graph(self, path)
        network.net = net = replace(network.net, thresh=about["thresh"], nms=about["nms"])
        if self.outputs != "raw":  # objectness and classes are multiplied already
            network.net = replace(net, objectness_thresh=None, class_thresh=None)
        limits = [name for name in ("objectness_thresh", "class_thresh") if getattr(net, name)]
        if limits and self.outputs == "boxes":
            text = f"the cfg's {' and '.join(limits)} cannot be applied to the product of objectness and class"
            warnings.warn(f"{path}: {text}; export with --outputs detections or raw", CfgWarning, stacklevel=2)
        self.states = [entry.name for entry in self.session.get_inputs()][1:]
        if self.states:
            raise DarknetError(f"{path}: a recurrent network; run it with onnxruntime, its states are inputs")

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The model's outputs. images: (n, channels, height, width) float, as the network reads them."""
        self.check(images)
        if self.uint8:
            images = levels_of(self.network.net).bytes_of_values(images)
        outputs = self.session.run(None, {"images": images.contiguous().numpy()})
        return [torch.from_numpy(output) for output in outputs]

    def check_limits(self, thresh: float, nms: float) -> None:
        net = self.network.net
        if self.outputs == "detections" and (thresh < net.thresh or nms != net.nms):
            raise DarknetError(
                f"{self.path}: its detections were made with thresh={net.thresh:g} and nms={net.nms:g}, and no others "
                f"can be had of them (thresh={thresh:g}, nms={nms:g}); export with --outputs boxes"
            )

    def candidates(self, raw: Sequence[Tensor], thresh: float, class_map: Tensor | None = None) -> Candidates:
        if self.outputs == "raw":
            return super().candidates(raw, thresh, class_map)
        if self.outputs == "detections":
            rows = raw[0][raw[0][:, 2] > thresh]
            probs = torch.zeros(len(rows), self.network.classes).scatter_(1, rows[:, 1:2].long(), rows[:, 2:3])
            return Candidates(rows[:, 0].long(), rows[:, 3:], rows[:, 2], probs)
        boxes, scores = raw
        image, box = (scores > thresh).any(-1).nonzero(as_tuple=True)
        probs = scores[image, box]
        return Candidates(image, boxes[image, box], probs.amax(-1), probs * (probs > thresh))


def _check_graph(runner: OnnxRunner, path: str | os.PathLike[str]) -> None:
    """Refuses a file whose graph is not the one that its metadata describe."""
    network, first = runner.network, runner.session.get_inputs()[0]
    outputs = {entry.name: entry.shape for entry in runner.session.get_outputs()}
    named = f"head_{network.heads[0]}" if network.heads else "output"
    is_there = (named if runner.outputs == "raw" else runner.outputs) in outputs
    classes = outputs["scores"][-1] if "scores" in outputs else network.classes
    is_same = is_there and ("uint8" in first.type) == runner.uint8 and classes == network.classes
    sides = [side for side in (first.shape[1:3] if runner.uint8 else first.shape[2:]) if isinstance(side, int)]
    if not is_same or (len(sides) == 2 and sides != [network.size[1], network.size[0]]):
        raise DarknetError(f"{path}: its metadata '{METADATA}' are those of another model; export it again")


def _read_about(session: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `export_onnx` wrote about the model."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise DarknetError(f"{path}: this model was not exported by darknet_py, so its outputs are not known")
    try:
        about = json.loads(text)
        width, height = map(int, about["size"])
        if about["outputs"] not in EXPORTED_OUTPUTS or about["nms_kind"] not in (None, *NMS_KINDS):
            raise ValueError
        return {
            "cfg": str(about["cfg"]), "size": (width, height), "names": [str(name) for name in about["names"]],
            "letterbox": bool(about["letterbox"]), "outputs": str(about["outputs"]), "uint8": bool(about["uint8"]),
            "nms_kind": str(about["nms_kind"] or ""), "thresh": float(about["thresh"]), "nms": float(about["nms"]),
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise DarknetError(f"{path}: its metadata '{METADATA}' are damaged; export the model again") from None


def open_session(path: str | os.PathLike[str], device: str = "cpu", *, fast: bool = True) -> Any:
    """An onnxruntime session. fast: with the weights in another order too, for which it takes twice their memory more.

    Raises:
        DarknetError: the file is no ONNX model, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DarknetError("onnxruntime is not installed; pip install 'darknet-cfg[onnx]'") from None
    providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    if not fast:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class
        raise DarknetError(f"{path}: onnxruntime cannot open this model: {str(error).splitlines()[0][:200]}") from None
