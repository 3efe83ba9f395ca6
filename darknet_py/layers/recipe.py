"""This project's own options of [net] for the training recipes of other programs: optimizer, warm-up, epochs, averages.

Darknet's own words do the rest: `burn_in` and `power` are the warm-up, `learning_rate_min` is the last rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from darknet_py.options import option

OPTIMIZERS = ("darknet", "sgd", "adamw")
POLICIES = ("cosine", "linear", "warmcos")
NOT_DARKNETS = ("nesterov", "clip_norm", "nominal_batch", "accumulate_modulo")
"""Options that optimizer=darknet has no use for."""
READ_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    "nesterov": ("optimizer", ("sgd",)),
    "burn_in_momentum": ("optimizer", ("darknet", "sgd")),
    "burn_in_bias_rate": ("policy", POLICIES),
    "policy_delay": ("policy", POLICIES[:2]),
    "accumulate_modulo": ("nominal_batch", ()),
    "ema_ramp": ("ema_alpha", ()),
}
"""Options that are read with some values of another one alone; (): with any but 0."""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    optimizer: str = option(
        "darknet",
        "darknet: Darknet's SGD or Adam, of the gradient divided by batch; sgd, adamw: PyTorch's, of the whole "
        "gradient, with true derivatives and PyTorch's batch norm; decay is for the weights of convolutions and "
        "connected layers only",
        choices=OPTIMIZERS,
        use="training",
        own=True,
    )
    nesterov: int = option(
        0, "of optimizer=sgd, 1: Nesterov's momentum", minimum=0, maximum=1, use="training", own=True
    )
    clip_norm: float = option(
        0.0,
        "of sgd and adamw: the gradient of all weights together is scaled down to this norm; 0: it is not",
        minimum=0,
        maximum=1e6,
        use="training",
        own=True,
    )
    epochs: int | None = option(
        None,
        "passes through the training images in all, each in a new order; max_batches follows from them, or where it is "
        "written is divided into as many; default: each iteration counts as an epoch, and images are drawn",
        minimum=1,
        maximum=1_000_000,
        use="training",
        own=True,
    )
    close_mosaic: int = option(
        0,
        "number of the last epochs in which images are not blended with others (mosaic, mixup), and losses that change "
        "at the end have changed",
        minimum=0,
        maximum=1_000_000,
        use="training",
        own=True,
    )
    burn_in_epochs: float = option(
        0.0, "epochs of warm-up, if that is longer than burn_in", minimum=0, maximum=1e6, use="training", own=True
    )
    burn_in_bias_rate: float | None = option(
        None,
        "of cosine, linear and warmcos: learning rate of biases at the start of the warm-up; default: 0, as all others",
        minimum=0,
        maximum=1000,
        use="training",
        own=True,
    )
    burn_in_momentum: float | None = option(
        None, "momentum at the start of the warm-up; default: momentum", minimum=0, maximum=1, use="training", own=True
    )
    policy_delay: int = option(
        0,
        "of cosine and linear: epochs by which the learning rate is late after the warm-up (YOLOv5 to v7: 1)",
        minimum=0,
        maximum=1_000_000,
        use="training",
        own=True,
    )
    nominal_batch: int = option(
        0,
        "images per update of sgd and adamw: gradients of nominal_batch/batch iterations are added up (in the warm-up "
        "fewer), and decay is scaled to match; 0: each iteration updates the weights",
        minimum=0,
        maximum=1_000_000,
        use="training",
        own=True,
    )
    accumulate_modulo: int = option(
        0,
        "of nominal_batch, 1: updates are at multiples of that number of iterations (YOLOv7); 0: that many iterations "
        "after the update before",
        minimum=0,
        maximum=1,
        use="training",
        own=True,
    )
    ema_ramp: float = option(
        0.0,
        "updates over which the decay of the moving average rises to ema_alpha; the average then has all weights and "
        "rolling statistics, and is what is evaluated and what the final weights are; 0: Darknet's average",
        minimum=0,
        maximum=1e9,
        use="training",
        own=True,
    )
    bn_momentum: float | None = option(
        None,
        "fraction by which a mini-batch renews the rolling statistics of batch norm; default: 0.1, in [connected] 0.05",
        minimum=0,
        maximum=1,
        use="training",
        own=True,
    )
