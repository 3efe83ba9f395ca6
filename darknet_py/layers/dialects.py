"""Sections of other programs' cfgs, which a user may have: whose they are, and what Darknet has instead."""

_YOLOR = "of the PyTorch programs YOLOR and PyTorch_YOLOv4"
_FORK = "of a fork of Darknet"
_DEPTHWISE = f"{_FORK}; write [convolutional] with filters and groups equal to the channels that it reads"
_CHANNELS = "apply its values to the layer before with"

OTHER_PROGRAMS = {
    "route2": f"{_YOLOR}; write [route]",
    "route3": f"{_YOLOR}; write [route]",
    "route_lhalf": f"{_YOLOR}; write [route] with groups=2 and group_id=0",
    "implicit_cat": f"{_YOLOR}; write [implicit] with mean=0",
    "shift_channels": f"{_YOLOR}; {_CHANNELS} [implicit_add] instead",
    "control_channels": f"{_YOLOR}; {_CHANNELS} [implicit_mul] instead",
    "alternate_channels": f"{_YOLOR}; Darknet has no such layer",
    "select_channels": f"{_YOLOR}; Darknet has no such layer",
    "silence": f"{_YOLOR}; write [empty]",
    "depthwise": _DEPTHWISE,
    "depthwise_convolutional": _DEPTHWISE,
    "mix_convolutional": f"{_FORK}; write a [convolutional] for each size, and [route] behind them",
    "yolo4": f"{_FORK} for OpenCL; write [yolo]",
    "select": f"{_FORK}; Darknet has no such layer",
}
"""Name of a section → the rest of the sentence `this section is …`."""
