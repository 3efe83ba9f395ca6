"""One training step as Darknet takes it: forward with the layers in training, deltas of every loss layer, gradients, the update.

trainer = Trainer(network)
for mini_batch in mini_batches:                   # `subdivisions` of them
    trainer.accumulate(images, truths)
trainer.update()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from darknet_py.errors import DarknetError
from darknet_py.inference.runner import PRECISIONS
from darknet_py.layers import Layer, Mode
from darknet_py.losses import LOSSES, Context, Loss, LossFunction, Rejection, inject
from darknet_py.network import Network
from darknet_py.options import untrained
from darknet_py.training.optimizer import Updates
from darknet_py.training.repair import repair_convolutions
from darknet_py.training.schedule import learning_rate, sequence
from darknet_py.training.world import World


@dataclass
class Step:
    """What a mini-batch gave. cost: the network's, the mean over its loss layers (network.c:get_network_cost). losses: by layer."""

    cost: float
    losses: dict[int, Loss] = field(default_factory=dict)
    raws: dict[int, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains a network by its own [net]: SGD or Adam as Darknet has them.

    Attributes:
        iteration: updates so far. seen: images so far; Darknet counts a mini-batch's images before its forward pass.
        mini_batch: images at once. batch: images of one update, of all processes.
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
        losses: Mapping[str, LossFunction] = LOSSES,
    ) -> None:
        """`exact`: the true derivatives in place of Darknet's own where they differ (see layers.Mode). `precision`: of the forward pass
        (weights, losses and updates stay float32). `compiled`: the forward pass goes through torch.compile. `world`: the processes that
        train together; `synchronised`: batch norm is that of all of them. `freeze`: the layers before this one are not trained.
        `losses`: of each kind of loss layer."""
        self.network, self.net, self.losses = network, network.net, losses
        self.world = world or World()
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(enabled=precision == "fp16" and next(network.parameters()).is_cuda)
        self._check_what_is_asked_for()
        self.loss_layers = [layer for layer in network.layers if layer.kind in losses]
        if not self.loss_layers:
            raise DarknetError(
                f"{network.cfg.path}: nothing to train: no layer has a loss ([yolo], [softmax], [cost] …)"
            )
        self.mini_batch = max(self.net.batch // self.net.subdivisions, 1)
        self.batch = self.mini_batch * self.net.subdivisions * self.net.time_steps
        self.seen = network.seen
        self.iteration = self.seen // (self.mini_batch * self.net.subdivisions)
        self.rejection = Rejection()
        self.images, self.mini_batches = 0, 0  # of this iteration so far, this process's share
        # Darknet's back-propagation overwrites some layers' deltas: what later readers of such a layer had added is lost
        self.overwritten: dict[int, int] = {}
        for layer in network.layers:
            if layer.overwrites is not None and not exact:
                self.overwritten.setdefault(layer.source_indices[layer.overwrites], layer.index)
        network.train()
        size, rank = self.world.size, self.world.rank
        self.mode = Mode(exact, size, rank, synchronised and size > 1, time_steps=self.net.time_steps)
        for module in network.modules():
            if isinstance(module, Layer):
                module.mode = self.mode
        if not 0 <= freeze < len(network.layers):
            raise DarknetError(
                f"{network.cfg.path}: there is no layer {freeze} to freeze up to; there are {len(network.layers)}"
            )
        self.frozen = max((layer.index for layer in network.layers if layer.options.stopbackward == 1), default=-1)
        self.freeze = max(freeze, self.frozen)
        self.stopped = self._stopped()
        if self.net.try_fix_nan:
            repair_convolutions(network)
        self.optimizer = Updates(network, self._trained())
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

    def _trained(self) -> Iterator[tuple[Layer, str, nn.Parameter]]:
        seen: set[int] = set()
        for layer in self.network.layers:
            for one in layer.stored():
                tensor = one.tensor
                if not isinstance(tensor, nn.Parameter):
                    continue
                tensor.requires_grad_(layer.index >= self.freeze)
                if tensor.requires_grad and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield layer, one.name.rsplit(".", 1)[-1], tensor

    def _check_what_is_asked_for(self) -> None:
        cfg = self.network.cfg
        for head in self.network.head_layers():
            if getattr(head.options, "map", "") and head.class_map is None:
                section = cfg.sections[head.index + 1]
                cfg.fail(
                    section, section.get("map"), "there is no such file, here or beside the cfg; training needs it"
                )
        for section, options in zip(
            cfg.sections, (self.net, *(layer.options for layer in self.network.layers)), strict=True
        ):
            for given in untrained(section, options):
                cfg.warn(section, given, "this part of training is not built; training goes on without it")

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """The input of every loss layer, by the layer's number; gradients stop at layers that the cfg freezes."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._forward(images)

    def _raws(self, images: Tensor) -> dict[int, Tensor]:
        wanted = {layer.index: layer.source_indices[0] for layer in self.loss_layers}
        outputs = self.network.run(images, list(wanted.values()), read=self._read)
        return {
            index: self._read(self.network.layers[index], source, outputs[source]) for index, source in wanted.items()
        }

    def _read(self, reader: Layer, source: int, output: Tensor) -> Tensor:
        if source < 0:
            return output
        stopped = source in self.stopped or reader.index > self.overwritten.get(source, reader.index)
        return output.detach() if stopped else output

    def accumulate(self, images: Tensor, truths: Tensor) -> Step:
        """A mini-batch: its gradients are added to those of the ones before. With several processes each has one of its own at a time."""
        count = len(images) // self.net.time_steps
        seen = self.seen + count * (self.world.rank + 1)
        self.seen += count * self.world.size
        if not self.mini_batches:
            self._begin()
        if self.network.input_shape.c and self.mini_batches % sequence(self.net, self.iteration + 1) == 0:
            self.network.reset_state()  # a sequence of pictures begins; texts go on, and say where they do not
        self.mini_batches += 1
        self.images += len(images)
        height, width = (images.shape[2], images.shape[3]) if images.ndim == 4 else (0, 0)
        with torch.enable_grad():
            raws = self.forward(images)
            heads = [
                (layer, (raws[layer.index].shape[3], raws[layer.index].shape[2]))
                for layer in self.loss_layers
                if layer.kind == "yolo"
            ]
            context = Context((width, height), seen, heads, self._reject)
            losses = {
                layer.index: self.losses[layer.kind](layer, raws[layer.index], truths, context)
                for layer in self.loss_layers
            }
            total = torch.stack([inject(raws[index], loss.delta) for index, loss in losses.items()]).sum()
            if total.requires_grad:
                self.scaler.scale(total).backward()
        cost = float(torch.stack([loss.cost for loss in losses.values()]).mean())
        return Step(cost, losses, {index: raw.detach() for index, raw in raws.items()})

    def _reject(self, delta: Tensor, entries: int) -> Tensor:
        return self.rejection.apply(self.net, self.iteration, delta, entries)

    def _begin(self) -> None:
        """An iteration begins: what it adds to is the first process's, the others begin with nothing."""
        self.mode.progress = self.iteration / max(self.net.max_batches, 1)
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

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def number(self) -> int:
        """Of the update that comes next, as Darknet counts by the images seen."""
        if self.mode.exact:
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
        return optimizer.rate
