"""One training step as Darknet takes it: forward with the layers in training, deltas of every loss layer, gradients, the update.

trainer = Trainer(network)
for mini_batch in mini_batches:                   # `subdivisions` of them
    trainer.accumulate(images, truths)
trainer.update()
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from darknet_py.errors import DarknetError
from darknet_py.layers import Layer
from darknet_py.losses import LOSSES, Context, Loss, inject
from darknet_py.network import Network
from darknet_py.options import untrained
from darknet_py.training.schedule import learning_rate

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DECAYED = ("weights",)  # biases and scales are not decayed


@dataclass
class Step:
    """What a mini-batch gave. cost: the network's, the mean over its loss layers (network.c:get_network_cost). losses: by layer."""

    cost: float
    losses: dict[int, Loss] = field(default_factory=dict)
    raws: dict[int, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains a network by its own [net]: SGD with Darknet's momentum, decay and division by the batch.

    Attributes:
        iteration: updates so far. seen: images so far; Darknet counts a mini-batch's images before its forward pass.
        batch: images of one update.
    """

    def __init__(self, network: Network, *, exact: bool = False, precision: str = "fp32", compiled: bool = False) -> None:
        """`exact`: the true derivatives in place of Darknet's own where they differ (see Layer.exact). `precision`: of the forward pass
        (weights, losses and updates stay float32). `compiled`: the forward pass goes through torch.compile."""
        self.network, self.net = network, network.net
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(enabled=precision == "fp16" and next(network.parameters()).is_cuda)
        self._warn_of_what_is_not_built()
        self.loss_layers = [layer for layer in network.layers if layer.kind in LOSSES]
        if not self.loss_layers:
            raise DarknetError(f"{network.cfg.path}: nothing to train: no layer has a loss ([yolo], [softmax], [cost] …)")
        self.mini_batch = max(self.net.batch // self.net.subdivisions, 1)
        self.batch = self.mini_batch * self.net.subdivisions * self.net.time_steps
        self.seen = network.seen
        self.iteration = self.seen // (self.mini_batch * self.net.subdivisions)
        self.frozen = max((layer.index for layer in network.layers if layer.options.stopbackward), default=-1)
        # Darknet's back-propagation overwrites some layers' deltas: what later readers of such a layer had added is lost
        self.overwritten: dict[int, int] = {}
        for layer in network.layers:
            if layer.overwrites is not None and not exact:
                self.overwritten.setdefault(layer.source_indices[layer.overwrites], layer.index)
        network.train()
        for module in network.modules():
            if isinstance(module, Layer):
                module.exact = exact
        self.optimizer = self._optimizer()
        self._forward = torch.compile(self._raws) if compiled else self._raws

    def _trained(self) -> Iterator[tuple[Layer, str, nn.Parameter]]:
        seen: set[int] = set()
        for layer in self.network.layers:
            for one in layer.stored():
                tensor = one.tensor
                if not isinstance(tensor, nn.Parameter):
                    continue
                tensor.requires_grad_(layer.index >= self.frozen)
                if tensor.requires_grad and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield layer, one.name.rsplit(".", 1)[-1], tensor

    def _warn_of_what_is_not_built(self) -> None:
        cfg = self.network.cfg
        for section, options in zip(cfg.sections, (self.net, *(layer.options for layer in self.network.layers)), strict=True):
            for given in untrained(section, options):
                cfg.warn(section, given, "this part of training is not built; training goes on without it")

    def _first_update(self, layer: Layer) -> float:
        """The number of the first update that changes a layer, counted from 1 (Darknet: network_kernels.cu:update_network_gpu)."""
        later = self.network.layers[layer.index :]
        if any(one.options.train_only_bn for one in later):
            return math.inf  # only the rolling statistics move
        return max(layer.options.burnin_update * self.net.burn_in, layer.options.dont_update + 1)

    def _optimizer(self) -> torch.optim.Optimizer:
        groups: dict[tuple[float, bool, float], list[Tensor]] = {}
        for layer, name, parameter in self._trained():
            key = (layer.options.learning_rate, name in DECAYED, self._first_update(layer))
            groups.setdefault(key, []).append(parameter)
        settings = [
            {"params": parameters, "scale": scale, "weight_decay": self.net.decay if decayed else 0.0, "first_update": first}
            for (scale, decayed, first), parameters in groups.items()
        ]
        if self.net.adam:
            return torch.optim.Adam(settings, lr=0.0, betas=(self.net.B1, self.net.B2), eps=self.net.eps)
        return torch.optim.SGD(settings, lr=0.0, momentum=self.net.momentum)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """The input of every loss layer, by the layer's number; gradients stop at layers that the cfg freezes."""
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._forward(images)

    def _raws(self, images: Tensor) -> dict[int, Tensor]:
        wanted = {layer.index: layer.source_indices[0] for layer in self.loss_layers}
        outputs = self.network.run(images, list(wanted.values()), read=self._read)
        return {index: self._read(self.network.layers[index], source, outputs[source]) for index, source in wanted.items()}

    def _read(self, reader: Layer, source: int, output: Tensor) -> Tensor:
        if source < 0:
            return output
        layer = self.network.layers[source]
        stopped = source == self.frozen or layer.options.onlyforward or reader.index > self.overwritten.get(source, reader.index)
        return output.detach() if stopped else output

    def accumulate(self, images: Tensor, truths: Tensor) -> Step:
        """A mini-batch: its gradients are added to those of the ones before."""
        self.seen += len(images) // self.net.time_steps
        height, width = (images.shape[2], images.shape[3]) if images.ndim == 4 else (0, 0)
        context = Context((width, height), self.seen)
        with torch.enable_grad():
            raws = self.forward(images)
            losses = {layer.index: LOSSES[layer.kind](layer, raws[layer.index], truths, context) for layer in self.loss_layers}
            total = torch.stack([inject(raws[index], loss.delta) for index, loss in losses.items()]).sum()
            if total.requires_grad:
                self.scaler.scale(total).backward()
        cost = float(torch.stack([loss.cost for loss in losses.values()]).mean())
        return Step(cost, losses, {index: raw.detach() for index, raw in raws.items()})

    @property
    def rate(self) -> float:
        """The learning rate of the update that comes next."""
        return learning_rate(self.net, self.seen // (self.mini_batch * self.net.subdivisions))

    def update(self) -> float:
        """Changes the weights by the accumulated gradients; returns the rate."""
        rate = self.rate
        number = self.seen // (self.mini_batch * self.net.subdivisions)
        waiting: list[tuple[Tensor, Tensor | None]] = []
        self.scaler.unscale_(self.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
            if number < group["first_update"]:  # Darknet leaves the gradients of these where they are; they add up until then
                for parameter in group["params"]:
                    waiting.append((parameter, parameter.grad if math.isfinite(group["first_update"]) else None))
                    parameter.grad = None
                continue
            for parameter in group["params"]:
                if parameter.grad is None:  # nothing reached it; decay and momentum act all the same
                    parameter.grad = torch.zeros_like(parameter)
                elif not self.net.adam:
                    parameter.grad /= self.batch
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        for parameter, gradient in waiting:
            parameter.grad = gradient
        self.iteration += 1
        self.network.seen = self.seen
        return rate
