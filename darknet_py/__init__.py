"""darknet_py: Darknet's .cfg models in PyTorch, with the C program's own numbers.

import darknet_py
network = darknet_py.load("cfg/yolov3.cfg", "yolov3.weights")
detector = darknet_py.Detector(network, names="cfg/coco.names")
for detection in detector("dog.jpg")[0]:
    print(detection.name, detection.confidence, detection.box)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darknet_py.cfg import Cfg, parse_cfg
    from darknet_py.detections import Detection, Detections
    from darknet_py.detector import Detector
    from darknet_py.errors import CfgError, CfgWarning, DarknetError, ImageError, WeightsError
    from darknet_py.inference.deploy import deployed
    from darknet_py.network import Network, load

__all__ = [
    "Cfg",
    "CfgError",
    "CfgWarning",
    "DarknetError",
    "Detection",
    "Detections",
    "Detector",
    "ImageError",
    "Network",
    "WeightsError",
    "deployed",
    "load",
    "parse_cfg",
]
__version__ = "0.1.0"

_HOMES = {
    "Cfg": "cfg",
    "Detection": "detections",
    "Detections": "detections",
    "Detector": "detector",
    "Network": "network",
    "deployed": "inference.deploy",
    "load": "network",
    "parse_cfg": "cfg",
}  # of the public names; the others are errors


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for: what needs no PyTorch does not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module 'darknet_py' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"darknet_py.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
