"""What was read from a cfg, as the C program holds it: by the names of its structs, words as numbers of its enums."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from darknet_py.layers import Layer
from darknet_py.network import Network
from darknet_py.table import describe
from darknet_py.training.schedule import learning_rate

# activations.h, network.h and the others: a word's place is its number.
ACTIVATIONS = [
    "logistic", "relu", "relu6", "relie", "linear", "ramp", "tanh", "plse", "revleaky", "leaky", "elu", "loggy",
    "stair", "hardtan", "lhtan", "selu", "gelu", "swish", "mish", "hard_mish",
    "normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval",
]  # fmt: skip
POLICIES = ["constant", "step", "exp", "poly", "steps", "sigmoid", "random", "sgdr"]
KINDS = {
    "convolutional": 0, "maxpool": 3, "softmax": 5, "dropout": 7, "crop": 8, "route": 9, "cost": 10,
    "normalization": 11, "shortcut": 14, "sam": 16, "region": 27, "yolo": 28, "Gaussian_yolo": 29, "upsample": 33,
}  # fmt: skip
IOU_LOSSES = {"iou": 0, "giou": 1, "mse": 2, "diou": 3, "ciou": 4}
WORDS: dict[str, dict[str, int]] = {
    "activation": {word: number for number, word in enumerate(ACTIVATIONS)},
    "iou_loss": IOU_LOSSES,
    "iou_thresh_kind": IOU_LOSSES,
    "nms_kind": {"default": 0, "greedynms": 1, "diounms": 2, "cornersnms": 3},
    "weights_type": {"none": 0, "per_feature": 1, "per_layer": 1, "per_channel": 2},
    "weights_normalization": {"none": 0, "relu": 1, "avg_relu": 1, "softmax": 2},
    "cost_type": {"sse": 0, "masked": 1, "L1": 2, "seg": 3, "smooth": 4},
}
RATES_AT = (0, 1, 2, 3, 5, 7, 9, 11, 13, 20, 50, 77, 100, 301, 600, 1000, 1001)  # iterations of `rates`


def net_struct(network: Network) -> dict[str, Any]:
    """[net] as `network` of network.h has it after parser.c:parse_net_options."""
    net = network.net
    mini_batch = net.batch // net.subdivisions * net.time_steps
    sequential = net.subdivisions if net.sequential_subdivisions is None else net.sequential_subdivisions
    return asdict(net) | {
        "w": net.width,
        "h": net.height,
        "c": net.channels,
        "inputs": net.input_count,
        "batch": max(mini_batch, 1, net.time_steps),
        "sequential_subdivisions": min(sequential, net.subdivisions),
        "policy": POLICIES.index(net.policy),
        "mixup": 4 if net.mosaic and net.cutmix else 2 if net.cutmix else 3 if net.mosaic else net.mixup,
        "max_crop": 2 * net.width if net.max_crop is None else net.max_crop,
        "min_crop": net.width if net.min_crop is None else net.min_crop,
        "batches_per_cycle": net.max_batches if net.sgdr_cycle is None else net.sgdr_cycle,
        "batches_cycle_mult": net.sgdr_mult,
        "steps": [
            value
            for number, step in enumerate(net.steps)
            for value in (
                step,
                *(factors[number] if number < len(factors) else 1 for factors in (net.scales, net.seq_scales)),
            )
        ],
        "rates": [] if net.policy == "random" else [learning_rate(net, iteration) for iteration in RATES_AT],
    }


def layer_structs(network: Network) -> list[dict[str, Any]]:
    """Every layer as `layer` of darknet.h has it after its parser."""
    return [_layer(layer, row) for layer, row in zip(network.layers, describe(network)["layers"], strict=True)]


def _layer(layer: Layer, row: dict[str, Any]) -> dict[str, Any]:
    values = asdict(layer.options) | row
    out_c, out_h, out_w = row["out"]
    values |= {
        "type": KINDS[layer.kind],
        "outputs": row["outputs_count"],
        "out_c": out_c,
        "out_h": out_h,
        "out_w": out_w,
    }
    values["learning_rate_scale"] = layer.options.learning_rate
    values |= {name: WORDS[name][values[name]] for name in WORDS if name in values}
    if layer.kind == "convolutional":
        values["n"] = layer.options.filters
    if layer.kind in ("route", "shortcut"):
        values["layers"] = row["sources"] if layer.kind == "route" else row["sources"][1:]
    if layer.kind == "sam":
        values |= {"index": row["sources"][1], "scale_wh": 0}
    if layer.kind == "region":
        values["anchors"] = layer.anchors.flatten().tolist()
    if layer.kind in ("yolo", "Gaussian_yolo"):
        counts = [max(count, 1) for count in layer.options.counters_per_class]
        values["multipliers"] = [min(max(counts) / count, layer.options.max_delta) for count in counts]
        values["anchors"] = layer.all_anchors.flatten().tolist()[: 2 * layer.options.num]
        values.setdefault("new_coords", 0)
    return values


def differences(ours: dict[str, Any], theirs: dict[str, Any], names: list[str], tolerance: float) -> list[str]:
    """The values of `names` that differ; one that the C program's record leaves out is 0 (or an empty list)."""
    return [
        f"{name}: {ours.get(name)}, Darknet's {theirs.get(name, 0)}"
        for name in names
        if not _equal(ours.get(name), theirs.get(name, 0), tolerance)
    ]


def _equal(ours: Any, theirs: Any, tolerance: float) -> bool:
    if isinstance(ours, (list, tuple)):
        theirs = theirs or []
        return len(ours) == len(theirs) and all(_equal(*pair, tolerance) for pair in zip(ours, theirs, strict=True))
    return ours is not None and math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=1e-12)
