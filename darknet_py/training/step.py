"""One training step as Darknet takes it: forward with the layers in training, deltas of every loss layer, gradients, the update.

trainer = Trainer(network)
for mini_batch in mini_batches:                   # `subdivisions` of them
    trainer.accumulate(images, truths)
trainer.update()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from darknet_py.errors import DarknetError
from darknet_py.inference.runner import PRECISIONS
from darknet_py.layers import Head, Layer, Stored
from darknet_py.losses import Loss, Output, Rejection, State, Value, loss_of, unread_options
from darknet_py.network import Network, raw_of
from darknet_py.options import untrained
from darknet_py.training.batch_norm import Statistics
from darknet_py.training.derivatives import DarknetTraining, Training, overwritten, set_arithmetic
from darknet_py.training.ema import AVERAGES
from darknet_py.training.optimizer import Updates
from darknet_py.training.repair import repair_convolutions
from darknet_py.training.schedule import learning_rate, sequence
from darknet_py.training.world import World


@dataclass
class Step:
    """What a mini-batch gave. cost: the loss that was differentiated, summed over the images. parts, counts: see `losses.Value`.
    raws: the raw outputs of the layers with a loss, by their numbers."""

    cost: float
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    raws: dict[int, Any] = field(default_factory=dict)


class Trainer:
    """Trains a network by its own [net]: optimizer, schedule, running average and losses are those that the cfg names.

    Attributes:
        iteration: updates so far. seen: images so far; Darknet counts a mini-batch's images before its forward pass.
        mini_batch: images at once. batch: images of one update, of all processes.
        groups: the layers that each loss sees together.
    """

    def __init__(
        self,
        network: Network,
        *,
        exact: bool = False,
        precision: str = "fp32",
        compiled: bool = False,
        world: World | None = None,
        synchronised: bool = False,
        freeze: int = 0,
    ) -> None:
        """
        Args:
            exact: the true derivatives in place of Darknet's own where they differ (derivatives.py).
            precision: of the forward pass (weights, losses and updates stay float32).
            compiled: the forward pass goes through torch.compile.
            world: the processes that train together; `synchronised`: batch norm is that of all of them.
            freeze: the layers before this one are not trained.
        """
        self.network, self.net, self.exact = network, network.net, exact
        self.world = world or World()
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(enabled=precision == "fp16" and network.device.type == "cuda")
        self.groups = _groups(network)
        self.loss_layers = [layer for layers in self.groups.values() for layer in layers]
        self._check_options()
        self.mini_batch = max(self.net.batch // self.net.subdivisions, 1)
        self.batch = self.mini_batch * self.net.subdivisions * self.net.time_steps
        self.seen = network.seen
        self.iteration = self.seen // (self.mini_batch * self.net.subdivisions)
        self.rejection = Rejection()
        self.images, self.mini_batches = 0, 0  # of this iteration so far, this process's share
        self.overwritten = {} if exact else overwritten(network)
        network.train()
        size, rank = self.world.size, self.world.rank
        statistics = Statistics(exact, size, rank, synchronised and size > 1)
        self.arithmetic = (Training if exact else DarknetTraining)(statistics, self.net.time_steps)
        set_arithmetic(network, self.arithmetic)
        if not 0 <= freeze < len(network.layers):
            last = f"there are {len(network.layers)}"
            raise DarknetError(f"{network.cfg.path}: there is no layer {freeze} to freeze up to; {last}")
        self.frozen = max((layer.index for layer in network.layers if layer.options.stopbackward == 1), default=-1)
        self.freeze = max(freeze, self.frozen)
        self.stopped = self._stopped()
        if self.net.try_fix_nan:
            repair_convolutions(network)
        self.optimizer = Updates(network, self._trainable())
        self.ema = AVERAGES["darknet"](network)
        self._forward = torch.compile(self._raws) if compiled else self._raws

    def _stopped(self) -> frozenset[int]:
        """The layers through which no gradient passes in the next iteration."""
        return frozenset(
            layer.index
            for layer in self.network.layers
            if layer.options.onlyforward
            or layer.index == self.frozen
            or layer.options.stopbackward > max(self.iteration, 1)
        )

    def _trainable(self) -> Iterator[tuple[Layer, str, nn.Parameter]]:
        seen: set[int] = set()
        for layer in self.network.layers:
            for stored in layer.stored():
                tensor = stored.tensor
                if not isinstance(tensor, nn.Parameter):
                    continue
                tensor.requires_grad_(layer.index >= self.freeze)
                if tensor.requires_grad and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield layer, stored.name.rsplit(".", 1)[-1], tensor

    def _check_options(self) -> None:
        """Errors and warnings about options of the cfg that training meets first."""
        cfg, network = self.network.cfg, self.network
        for head in (layer for layer in network.layers if isinstance(layer, Head)):
            section = cfg.sections[head.index + 1]
            if (option := section.get("map")) is not None and option.value and head.class_map is None:
                cfg.fail(section, option, "there is no such file, here or beside the cfg; training needs it")
        for section, options in zip(
            cfg.sections, (self.net, *(layer.options for layer in network.layers)), strict=True
        ):
            for option in untrained(section, options):
                cfg.warn(section, option, "this part of training is not built; training goes on without it")
        for layer in self.loss_layers:
            for section in (cfg.sections[0], cfg.sections[layer.index + 1]):
                for name in sorted(unread_options(layer)):
                    if (option := section.get(name)) is not None:
                        cfg.warn(section, option, f"loss={layer.loss_name} has no use for it; remove it")

    def forward(self, images: Tensor) -> dict[int, Any]:
        """The raw output of every layer with a loss, by its number; gradients stop at layers that the cfg freezes."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._forward(images)

    def _raws(self, images: Tensor) -> dict[int, Any]:
        wanted = dict.fromkeys(index for layer in self.loss_layers for index in layer.source_indices)
        outputs = self.network.run(images, list(wanted), read=self._read)
        return {
            layer.index: raw_of(layer, {k: self._read(layer, k, outputs[k]) for k in layer.source_indices})
            for layer in self.loss_layers
        }

    def _read(self, reader: Layer, source: int, output: Tensor) -> Tensor:
        if source < 0:
            return output
        stopped = source in self.stopped or reader.index > self.overwritten.get(source, reader.index)
        return output.detach() if stopped else output

    def loss(self, raws: dict[int, Any], truths: Tensor, size: tuple[int, int], seen: int) -> Value:
        """The loss of the whole network: of each group its own, added up.

        Args:
            raws: what `forward` gives. truths: of the mini-batch, in the form that the network's needs name.
            size: (width, height) of the input, pixels. seen: images so far, this mini-batch included.
        """
        state = State(size, self.net, seen, self.iteration, len(self.loss_layers), self.rejection)
        values = [
            loss.function([Output(layer, raws[layer.index]) for layer in layers], truths, state)
            for loss, layers in self.groups.items()
        ]
        parts = {name: part for value in values for name, part in value.parts.items()}
        counts = {index: count for value in values for index, count in value.counts.items()}
        return Value(torch.stack([value.total for value in values]).sum(), parts, counts)

    def accumulate(self, images: Tensor, truths: Tensor) -> Step:
        """A mini-batch: its gradients are added to those of the ones before. With several processes each has one of its own at a
        time."""
        count = len(images) // self.net.time_steps
        seen = self.seen + count * (self.world.rank + 1)
        self.seen += count * self.world.size
        if not self.mini_batches:
            self._begin()
        if self.network.input_shape.c and self.mini_batches % sequence(self.net, self.iteration + 1) == 0:
            self.network.reset_state()  # a sequence of images begins; texts go on, and say where they do not
        self.mini_batches += 1
        self.images += len(images)
        size = (images.shape[3], images.shape[2]) if images.ndim == 4 else (0, 0)
        with torch.enable_grad():
            raws = self.forward(images)
            value = self.loss(raws, truths, size, seen)
            if value.total.requires_grad:
                self.scaler.scale(value.total).backward()
        return Step(float(value.total.detach()), value.parts, value.counts, raws)

    def _begin(self) -> None:
        """An iteration begins: what it adds to is the first process's, the others begin with nothing."""
        self.arithmetic.progress = self.iteration / max(self.net.max_batches, 1)
        if not self.world.first:
            for rolling in self._rolling():
                rolling.zero_()

    def _add_up(self) -> None:
        """From here on every process has the gradients and the rolling statistics of all of them."""
        gradients: list[Tensor] = []
        for parameter in self.optimizer.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.world.add_up([*gradients, *self._rolling()])

    def _rolling(self) -> list[Tensor]:
        """The rolling statistics of batch norm."""
        return [
            one.tensor
            for layer in self.network.layers
            for one in layer.stored()
            if not isinstance(one.tensor, nn.Parameter)
        ]

    def _stored(self) -> Iterator[Stored]:
        for layer in self.network.layers:
            yield from layer.stored()

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def number(self) -> int:
        """Of the update that comes next, as Darknet counts by the images seen."""
        if self.exact:
            return self.iteration + 1
        images = self.images * self.world.size // self.net.time_steps or self.mini_batch * self.net.subdivisions
        return self.seen // images

    @property
    def rate(self) -> float:
        """The learning rate of the update that comes next."""
        return learning_rate(self.net, self.number)

    def update(self) -> float:
        """Changes the weights by the accumulated gradients; returns the rate."""
        optimizer = self.optimizer
        if self.world.size > 1:
            self._add_up()
        optimizer.rate, optimizer.number = self.rate, self.number
        optimizer.batch = (self.images * self.world.size or self.batch) * sequence(self.net, optimizer.number)
        self.scaler.unscale_(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        self.images = self.mini_batches = 0
        self.iteration += 1
        self.stopped = self._stopped()
        self.network.seen = self.seen
        self.ema.update(self.iteration)
        return optimizer.rate

    def state_dict(self) -> dict[str, Any]:
        """All that this trainer needs to go on as if it had never stopped, but the random numbers: tensors and plain values."""
        return {
            "weights": {f"layers.{index}.{name}": tensor.detach().cpu() for index, name, tensor in self._named()},
            "optimizer": self.optimizer.state_dict(),
            "ema": {name: value.cpu() for name, value in self.ema.values.items()},
            "scaler": self.scaler.state_dict(),
            "states": self.network.states(),
            "rejection": vars(self.rejection),
            "iteration": self.iteration,
            "seen": self.seen,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Brings a fresh trainer of the same cfg to where `state_dict` was taken.

        Raises:
            DarknetError: it is of another network, or other layers were trained.
        """
        weights = dict(state["weights"])
        for index, name, tensor in self._named():
            value = weights.pop(f"layers.{index}.{name}", None)
            if value is None or value.shape != tensor.shape:
                where = f"layer {index} ({self.network.layers[index].kind}, {name})"
                raise DarknetError(f"of another network than {self.network.cfg.path}: {where} differs")
            tensor.copy_(value)
        if weights:
            raise DarknetError(f"of another network than {self.network.cfg.path}: it has {next(iter(weights))}")
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError:
            text = "the layers that are trained, or their options, are not those that this run began with"
            raise DarknetError(text) from None
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.ema.values = {name: value.to(self.device) for name, value in state["ema"].items()}
        self.network.set_states(state["states"])
        self.rejection = Rejection(**state["rejection"])
        self.iteration, self.seen = state["iteration"], state["seen"]
        self.network.seen = self.seen

    def _named(self) -> Iterator[tuple[int, str, Tensor]]:
        for layer in self.network.layers:
            for stored in layer.stored():
                yield layer.index, stored.name, stored.tensor


def _groups(network: Network) -> dict[Loss, list[Layer]]:
    """The layers with a loss, in their order, by the loss that sees them together."""
    groups: dict[Loss, list[Layer]] = {}
    for layer in network.layers:
        if (loss := loss_of(layer)) is not None:
            groups.setdefault(loss, []).append(layer)
    if not groups:
        raise DarknetError(f"{network.cfg.path}: nothing to train: no layer has a loss ([yolo], [softmax], [cost] …)")
    return groups
