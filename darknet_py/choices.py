"""The words among which a user chooses, in commands and in Python calls, and the numbers that stand where nothing is
written.

They are apart from what they stand for: a command's `--help` and its usage errors need no PyTorch.
"""

from __future__ import annotations

PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Number formats of a network: our name → PyTorch's. tf32: float32, but NVIDIA's GPUs round factors to 11 bits."""
ENGINES = ("openvino", "onnxruntime", "compile", "torch")
"""What can run a network, the usually faster ones first: two for a CPU, torch.compile for a GPU, and PyTorch."""
AUTO = "auto"  # of engines: the first one that is installed
EXPORTED_TYPES = ("fp32", "fp16", "int8")
CALIBRATED = 100  # example images for 8-bit numbers
EXPORTED_OUTPUTS = ("boxes", "raw", "detections")
NMS_KINDS = ("default", "greedynms", "diounms", "cornersnms")
IOU_KINDS = ("default", "cornersnms")  # of these: they measure by IoU, the others by DIoU
YOLO_LOSSES = ("darknet", "grid", "giou", "focal", "yolov5", "yolov7")  # of [yolo] heads; the first is the default
REWRITES = ("rescale", "rgbgr", "reset", "denormalize", "normalize")  # Darknet's words that rewrite weights
SPLITS = ("train", "valid")  # the lists of a .data file
ANCHOR_METHODS = ("darknet", "notes", "yolov5")
CLUSTERS = 9  # anchors, where no cfg says how many
TOP = 5  # classes among which the right one may be
