"""In words, how images come into a network and what detection, evaluation and training do: what its [net] says, or
leaves to the defaults."""

from __future__ import annotations

from darknet_py.layers import NetOptions
from darknet_py.network import Network
from darknet_py.pictures.fit import fit_of
from darknet_py.pictures.levels import levels_of

LIMITS = ("objectness_thresh", "class_thresh", "max_nms", "max_det", "agnostic")  # of detection, where they are set
COUNTS = ("agnostic", "epochs")  # 0 asks for nothing


def conventions(network: Network) -> list[str]:
    """A line each on images, detection, evaluation and training, as far as the network has them."""
    net, lines = network.net, []
    if network.input_shape.c:
        lines.append(f"images: {fit_of(net.image_fit, net.keeps_aspect)}; {levels_of(net)}")
    if network.heads:
        lines += _detection(network)
    return [*lines, _training(network)]


def _detection(network: Network) -> list[str]:
    net = network.net
    kinds = dict.fromkeys(f"nms_kind={head.nms_kind}" for head in network.head_layers())
    classes = (
        "a box counts for its most probable class" if net.best_class else "a box counts for each class over thresh"
    )
    lines = [
        f"detection: {_words(net, 'thresh', 'nms')} {' '.join(kinds)} {_words(net, *LIMITS)}".rstrip() + f"; {classes}"
    ]
    own = _words(net, "valid_thresh", "valid_nms")
    return [*lines, f"evaluation: {own}"] if own else lines


def _training(network: Network) -> str:
    net = network.net
    losses = dict.fromkeys(f"loss={layer.loss_name}" for layer in network.layers if layer.loss_name)
    length = _words(net, "epochs") or _words(net, "max_batches")
    recipe = _words(net, "optimizer", "learning_rate", "policy")
    return f"training: {' '.join([*losses, recipe, length])}; {net.nominal_batch or net.batch} images an update"


def _words(net: NetOptions, *names: str) -> str:
    """The options as a cfg writes them, without those that ask for nothing."""
    values = {name: getattr(net, name) for name in names}
    asked = {name: value for name, value in values.items() if value is not None and (value or name not in COUNTS)}
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in asked.items()
    )
