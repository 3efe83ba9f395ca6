"""A training step, as Darknet's: forward pass, losses, gradients, update of the weights.

trainer = Trainer(network)
for images, truths in mini_batches:               # `subdivisions` of them
    trainer.accumulate(images, truths)
trainer.update()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from darknet_py.data.augment.lists import unread_words
from darknet_py.devices import multiplying
from darknet_py.errors import CfgError, DarknetError
from darknet_py.inference.runner import DTYPES
from darknet_py.layers import Head, Layer
from darknet_py.layers.needs import BoxNeeds, Needs
from darknet_py.layers.recipe import NOT_DARKNETS, READ_WITH
from darknet_py.losses import LOSSES, Loss, Output, Rejection, State, Value, loss_of, unread_options
from darknet_py.losses.assign import ASSIGNERS, SQUARE
from darknet_py.network import Network, raw_of
from darknet_py.options import untrained
from darknet_py.training.batch_norm import Statistics
from darknet_py.training.derivatives import DarknetTraining, Training, overwritten, set_arithmetic
from darknet_py.training.ema import moving_average
from darknet_py.training.optimizer import Updates
from darknet_py.training.repair import repair_convolutions
from darknet_py.training.schedule import (
    bias_rate,
    ends_update,
    epoch_of,
    is_plain,
    learning_rate,
    momentum,
    sequence_length,
)
from darknet_py.training.world import World

Raws: TypeAlias = dict[int, Tensor | tuple[Tensor, ...]]
"""Layer index → raw output; of a layer with several sources, a tuple."""


@dataclass
class Step:
    """The results of a mini-batch.

    cost: the loss that was differentiated, summed over the images. parts, counts: see `losses.Value`.
    raws: the raw outputs of the layers with a loss.
    """

    cost: float
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    raws: Raws = field(default_factory=dict)


class Trainer:
    """Trains a network with the optimizer, schedule, moving average and losses that its cfg names.

    Attributes:
        iteration: calls of `update` so far, which with `nominal_batch` do not all change the weights. waiting: those
            since the last one that did. seen: images so far; as in Darknet, those of a mini-batch are counted before
            its forward pass.
        mini_batch: images per forward pass. batch: images per update, of all processes.
        groups: each loss → the layers that it takes together. loss_layers: all of these.
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
        """Prepares a network for training: layers in training mode, parameters that are trained, optimizer state.

        Args:
            exact: true derivatives where Darknet's own differ from them (derivatives.py). An `optimizer` of [net] other
                than Darknet's has them anyway.
            precision: number format of the forward pass: "fp32", "tf32", "bf16" or "fp16", see `prepare`. Weights,
                losses and updates are float32.
            compiled: compile the forward pass with torch.compile.
            world: this process among those that train together; None: it trains alone.
            synchronised: batch norm over the mini-batches of all processes.
            freeze: the layers before this one are not trained.

        Raises:
            DarknetError: no layer has a loss, or none is left to train; an option of a head is wrong.
        """
        self.network, self.net = network, network.net
        self.exact = exact = exact or self.net.optimizer != "darknet"
        self.world = world or World()
        self.precision, self.dtype = precision, DTYPES[precision]
        self.scaler = torch.amp.GradScaler(enabled=precision == "fp16" and network.device.type == "cuda")
        self.groups = _groups(network)
        self.loss_layers = [layer for layers in self.groups.values() for layer in layers]
        self._check_options()
        self.memory: dict[str, Tensor] = {}  # what losses remember, see `losses.State`
        self.mini_batch = max(self.net.batch // self.net.subdivisions, 1)
        self.batch = self.mini_batch * self.net.subdivisions * self.net.time_steps
        self.seen = network.seen
        self.iteration = self.seen // (self.mini_batch * self.net.subdivisions)
        self.waiting = 0
        self.rejection = Rejection()
        self._before: dict[str, Any] | None = None  # what `accumulate` changes, as it was before this iteration
        self.images, self.mini_batches = 0, 0  # in this iteration so far, of this process
        self.overwritten = {} if exact else overwritten(network)
        network.train()
        size, rank = self.world.size, self.world.rank
        statistics = Statistics(exact, size, rank, synchronised and size > 1)
        self.arithmetic = (Training if exact else DarknetTraining)(statistics, self.net.time_steps)
        set_arithmetic(network, self.arithmetic)
        if not 0 <= freeze < len(network.layers):
            last = len(network.layers) - 1
            raise DarknetError(f"{network.cfg.path}: there is no layer {freeze} to freeze up to; write 0 to {last}")
        self.frozen = max((layer.index for layer in network.layers if layer.options.stopbackward == 1), default=-1)
        self.freeze = max(freeze, self.frozen)
        self.stopped = self._stopped()
        if self.net.try_fix_nan:
            repair_convolutions(network)
        self.optimizer = Updates(network, self._trainable())
        self.ema = moving_average(network)
        self._forward = self._raws
        if compiled:
            network.check_graph("cannot be compiled; train without --compile")
            # the sizes of dropped blocks change during training. Not a decorator: it imports the compiler, for seconds
            self.arithmetic.drop_blocks = torch.compiler.disable(self.arithmetic.drop_blocks)  # type: ignore[method-assign]
            self._forward = torch.compile(self._raws)

    def _stopped(self) -> frozenset[int]:
        """Indices of the layers through which no gradient passes in the next iteration."""
        return frozenset(
            layer.index
            for layer in self.network.layers
            if layer.options.onlyforward
            or layer.index == self.frozen
            or layer.options.stopbackward > max(self.iteration, 1)
        )

    def _trainable(self) -> Iterator[tuple[Layer, str, nn.Parameter]]:
        """The parameters that are trained, with their layers and names; the others stop asking for gradients."""
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
        """Reports options of the cfg that matter in training only: what is wrong, not implemented or without effect."""
        cfg, network = self.network.cfg, self.network
        if cfg.stops:
            raise CfgError(cfg.stops[0])
        for head in (layer for layer in network.layers if isinstance(layer, Head)):
            section = cfg.sections[head.index + 1]
            if (option := section.get("map")) is not None and option.value and head.class_map is None:
                cfg.fail(section, option, "no such file, here or beside the cfg; training needs it")
            anchors = getattr(head, "anchors", None)
            if isinstance(anchors, Tensor) and not (anchors > 0).all():
                text = "an anchor without width or height cannot be trained; write positive numbers"
                cfg.fail(section, section.get("anchors"), text)
        for section, options in zip(
            cfg.sections, (self.net, *(layer.options for layer in network.layers)), strict=True
        ):
            for option in untrained(section, options):
                cfg.warn(section, option, "not implemented in training; it has no effect")
        for name in NOT_DARKNETS if self.net.optimizer == "darknet" else ():
            if getattr(self.net, name):
                text = "is for PyTorch's optimizers; write optimizer=sgd or optimizer=adamw, or remove this"
                cfg.fail(cfg.sections[0], cfg.sections[0].get(name), text)
        forms = {_truth_form(needs): layer for layer in self.loss_layers if (needs := layer.needs()) is not None}
        if len(forms) > 1:
            layers = " and ".join(f"layer {layer.index} ([{layer.kind}])" for layer in forms.values())
            raise DarknetError(
                f"{cfg.path}: {layers} need different forms of ground truth; train them in networks of their own"
            )
        for loss, heads in self.groups.items():
            if (refusal := loss.refusal(heads)) is not None:
                section = cfg.sections[refusal.layer.index + 1]
                cfg.fail(section, section.get(refusal.option), refusal.text)
            assigner = getattr(heads[0].options, "assigner", None) or loss.assigner
            if assigner in SQUARE and self.net.width != self.net.height:
                text = f"assigner={assigner} places truths wrongly where the input is not square, as its own program "
                text += f"does, and hardly learns small objects; write height={self.net.width}"
                cfg.warn(cfg.sections[0], cfg.sections[0].get("height"), text)
        self._check_auxiliary()
        self._warn_of_unread_options()

    def _check_auxiliary(self) -> None:
        """An auxiliary head has the map and the loss of the head that it helps to train."""
        for head in (layer for layer in self.loss_layers if isinstance(layer, Head)):
            if head.lead is None:
                continue
            lead = self.network.layers[head.lead]
            text = ""
            if loss_of(head) is not loss_of(lead):
                text = f"layer {lead.index} has another loss; write loss={head.loss_name} there"
            elif head.shape[1:3] != lead.shape[1:3]:
                text = f"its map is {head.shape.w} x {head.shape.h}, that of layer {lead.index}, which it helps to "
                text += f"train, {lead.shape.w} x {lead.shape.h}; make them equal"
            if text:
                section = self.network.cfg.sections[head.index + 1]
                self.network.cfg.fail(section, section.get("aux_of"), text)

    def _warn_of_unread_options(self) -> None:
        """Of what is written for another loss, augmentation, optimizer or schedule."""
        cfg, needs = self.network.cfg, self.network.needs()
        unmoved = frozenset() if needs is None else unread_words(self.net, needs)
        unread = {
            (section.line, name): (section, choice)
            for layer in self.loss_layers
            for section in (cfg.sections[0], cfg.sections[layer.index + 1])
            for choice, names in (
                (f"loss={layer.loss_name}", unread_options(layer)),
                (f"augmentation={self.net.augmentation}", unmoved),
            )
            for name in sorted(names)
        }
        for name, (other, values) in READ_WITH.items():
            value = getattr(self.net, other)
            if not (value in values if values else value):
                unread[cfg.sections[0].line, name] = (cfg.sections[0], f"{other}={value}")
        written = [(section.get(name), section, choice) for (_, name), (section, choice) in unread.items()]
        for option, section, choice in written:
            if option is not None:
                cfg.warn(section, option, f"it has no effect with {choice}")

    def forward(self, images: Tensor) -> Raws:
        """The raw output of each layer with a loss; gradients stop where the cfg says.

        images: (n, channels, height, width) float32 in 0..1, or the vectors that the network reads.
        """
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._forward(images)

    def _raws(self, images: Tensor) -> Raws:
        wanted = dict.fromkeys(index for layer in self.loss_layers for index in layer.source_indices)
        outputs = self.network.run(images, list(wanted), read=self._read)
        return {
            layer.index: raw_of(layer, {k: self._read(layer, k, outputs[k]) for k in layer.source_indices})
            for layer in self.loss_layers
        }

    def _read(self, reader: Layer, source: int, output: Tensor) -> Tensor:
        """What a layer reads of another one: detached where no gradient goes back from it."""
        if source < 0:
            return output
        stopped = source in self.stopped or reader.index > self.overwritten.get(source, reader.index)
        return output.detach() if stopped else output

    def loss(self, raws: Raws, truths: Tensor, size: tuple[int, int], seen: int) -> Value:
        """The loss of the network: the sum over its groups of layers; a mean counts by its share in the iteration.

        Args:
            raws: the result of `forward`. truths: of the mini-batch, in the form that `Network.needs` describes.
            size: (width, height) of the input, pixels. seen: images so far, including this mini-batch.
        """
        net, number = self.net, self.iteration + 1
        state = State(
            size, net, seen, self.iteration, len(self.loss_layers), self.rejection,
            epoch=epoch_of(net, number), plain=is_plain(net, number), memory=self.memory,
        )  # fmt: skip
        values = {
            loss: loss.function([Output(layer, raws[layer.index]) for layer in layers], truths, state)
            for loss, layers in self.groups.items()
        }
        totals = [value.total / (net.subdivisions if loss.mean else 1) for loss, value in values.items()]
        parts = {name: part for value in values.values() for name, part in value.parts.items()}
        counts = {index: count for value in values.values() for index, count in value.counts.items()}
        return Value(torch.stack(totals).sum(), parts, counts)

    def accumulate(self, images: Tensor, truths: Tensor) -> Step:
        """Adds the gradients of a mini-batch to those of the previous ones; processes take different mini-batches.

        images, truths: see `forward` and `loss`; on the network's device.
        """
        if not self.mini_batches:
            self._start_iteration()
        count = len(images) // self.net.time_steps
        seen = self.seen + count * (self.world.rank + 1)
        self.seen += count * self.world.size
        if self.network.input_shape.c and self.mini_batches % sequence_length(self.net, self.iteration + 1) == 0:
            self.network.reset_state()  # a new sequence of images; texts continue, see TextBatch.fresh
        self.mini_batches += 1
        self.images += len(images)
        size = (images.shape[3], images.shape[2]) if images.ndim == 4 else (0, 0)
        self.arithmetic.truths = truths
        with torch.enable_grad(), multiplying(self.precision, images.device):
            raws = self.forward(images)
            value = self.loss(raws, truths, size, seen)
            if value.total.requires_grad:
                self.scaler.scale(value.total).backward()
        return Step(float(value.total.detach()), value.parts, value.counts, raws)

    def _start_iteration(self) -> None:
        """Starts an iteration: rolling statistics are added up later, so all processes but one start from zeros."""
        self._before = {
            "rolling": [rolling.clone() for rolling in self._rolling()],
            "states": self.network.states(),
            "rejection": dict(vars(self.rejection)),
            "memory": dict(self.memory),
            "seen": self.seen,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }
        self.arithmetic.progress = self.iteration / max(self.net.max_batches, 1)
        if not self.world.first:
            for rolling in self._rolling():
                rolling.zero_()

    def undo(self) -> bool:
        """Goes back to the end of the last whole iteration, from the middle of one; False: an update has begun."""
        if not self.mini_batches:
            return True
        before, self._before = self._before, None
        if before is None:
            return False
        self.optimizer.zero_grad()
        with torch.no_grad():
            for rolling, value in zip(self._rolling(), before["rolling"], strict=True):
                rolling.copy_(value)
        self.network.set_states(before["states"])
        self.rejection = Rejection(**before["rejection"])
        self.memory = dict(before["memory"])
        self.seen, self.images, self.mini_batches = before["seen"], 0, 0
        torch.set_rng_state(before["random"])
        if before["random_cuda"] is not None:
            torch.cuda.set_rng_state(before["random_cuda"])
        return True

    def _add_up(self) -> None:
        """Adds up gradients and rolling statistics over the processes."""
        gradients: list[Tensor] = []
        for parameter in self.optimizer.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.world.add_up([*gradients, *self._rolling()])

    def _rolling(self) -> list[Tensor]:
        """The rolling means and variances of batch norm."""
        return [
            stored.tensor
            for layer in self.network.layers
            for stored in layer.stored()
            if not isinstance(stored.tensor, nn.Parameter)
        ]

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def update_number(self) -> int:
        """Number of the next update, from 1; Darknet derives it from the images seen."""
        if self.exact:
            return self.iteration + 1
        images = self.images * self.world.size // self.net.time_steps or self.mini_batch * self.net.subdivisions
        return self.seen // images

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return learning_rate(self.net, self.update_number)

    def update(self) -> float:
        """Updates the weights by the accumulated gradients, or with `nominal_batch` keeps these for one of the next
        iterations; returns the learning rate."""
        optimizer, net, self._before = self.optimizer, self.net, None
        if self.world.size > 1:
            self._add_up()
        optimizer.rate, optimizer.number = self.rate, self.update_number
        optimizer.bias_rate, optimizer.momentum = bias_rate(net, optimizer.number), momentum(net, optimizer.number)
        optimizer.waits = not ends_update(net, optimizer.number, self.waiting)
        optimizer.batch = (self.images * self.world.size or self.batch) * sequence_length(self.net, optimizer.number)
        self.scaler.unscale_(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        self.images = self.mini_batches = 0
        self.iteration += 1
        self.waiting = self.waiting + 1 if optimizer.waits else 0
        self.stopped = self._stopped()
        self.network.seen = self.seen
        if not optimizer.waits:
            self.ema.update(self.iteration, optimizer.updates)
        return optimizer.rate

    def state_dict(self) -> dict[str, Any]:
        """All that this trainer needs to continue, except the random state: copies of tensors, and plain values."""
        return _copied(
            {
                "weights": {f"layers.{index}.{name}": tensor for index, name, tensor in self._named()},
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.values,
                "scaler": self.scaler.state_dict(),
                "states": self.network.states(),
                "rejection": vars(self.rejection),
                "memory": self.memory,
                "iteration": self.iteration,
                "waiting": self.waiting,
                "updates": self.optimizer.updates,
                "seen": self.seen,
            }
        )

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, in a new trainer of the same cfg.

        Raises:
            DarknetError: it is of another network, or of other trainable layers.
        """
        for name in ("iteration", "waiting", "updates", "seen"):
            if type(state[name]) is not int or not 0 <= state[name] < 2**63:
                raise DarknetError(f"not a checkpoint, or damaged: its {name} is {str(state[name])[:40]}")
        weights = {f"layers.{index}.{name}": tensor for index, name, tensor in self._named()}
        self._check_names("weights", state["weights"], weights, complete=True)
        self._check_names("ema", state["ema"], weights, complete=self.ema.is_result)
        for name, tensor in weights.items():
            tensor.copy_(state["weights"][name])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError:
            text = "the trainable layers, or their options, are not those that this run was started with"
            raise DarknetError(text) from None
        for tensor in self.optimizer.parameters():
            own = dict.fromkeys(self.optimizer.rule.buffers, tensor)
            self._check_names("optimizer", self.optimizer.state[tensor], own, complete=True)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.ema.values = {name: value.to(self.device) for name, value in state["ema"].items()}
        self.network.set_states(state["states"])
        self.rejection = Rejection(**{name: float(value) for name, value in state["rejection"].items()})
        self.memory = {name: value.to(self.device) for name, value in state["memory"].items()}
        self.iteration, self.seen, self.waiting = state["iteration"], state["seen"], state["waiting"]
        self.optimizer.updates = state["updates"]
        self.network.seen = self.seen

    def _check_names(
        self, part: str, saved: Mapping[str, Any], own: Mapping[str, Tensor], *, complete: bool = False
    ) -> None:
        """Tensors of a checkpoint have the names and shapes of this trainer's own; `complete`: of all of them."""
        path = self.network.cfg.path
        for name in saved:
            if name not in own:
                raise DarknetError(f"does not belong to {path}: its {part} also have {str(name)[:40]}")
        for name, tensor in own.items():
            value = saved.get(name)
            if value is None and not complete:
                continue
            if not isinstance(value, Tensor) or value.shape != tensor.shape or value.dtype != tensor.dtype:
                raise DarknetError(f"does not belong to {path}: {self._place(name)} differs")

    def _place(self, name: str) -> str:
        """`layers.3.weights` → layer 3 ([convolutional], weights)."""
        if not name.startswith("layers."):
            return f"'{name}' of the optimizer"
        _, index, stored = name.split(".", 2)
        return f"layer {index} ([{self.network.layers[int(index)].kind}], {stored})"

    def _named(self) -> Iterator[tuple[int, str, Tensor]]:
        """All stored tensors, with their layer's index and their names."""
        for layer in self.network.layers:
            for stored in layer.stored():
                yield layer.index, stored.name, stored.tensor


def _copied(value: Any) -> Any:
    """Nested dicts and lists, with copies of their tensors in the CPU's memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def losses_of(network: Network) -> list[tuple[Layer, Loss]]:
    """The layers that have a loss, in order, with it.

    Raises:
        CfgError: a layer names a loss or an assigner that is not known.
    """
    found = []
    for layer in (layer for layer in network.layers if layer.kind in LOSSES):
        _check_name(network, layer, "loss", layer.loss_name, LOSSES[layer.kind])
        loss = loss_of(layer)
        assert loss is not None
        if loss.assigner:
            _check_name(network, layer, "assigner", layer.options.assigner, loss.assigners or ASSIGNERS)
        found.append((layer, loss))
    return found


def _groups(network: Network) -> dict[Loss, list[Layer]]:
    """Each loss of the network → its layers, in order.

    Raises:
        CfgError: see `losses_of`. DarknetError: no layer has a loss.
    """
    groups: dict[Loss, list[Layer]] = {}
    for layer, loss in losses_of(network):
        groups.setdefault(loss, []).append(layer)
    if not groups:
        kinds = ", ".join(f"[{kind}]" for kind in LOSSES)
        raise DarknetError(f"{network.cfg.path}: nothing to train: no layer has a loss ({kinds})")
    return groups


def _truth_form(needs: Needs) -> tuple[object, ...]:
    """What the ground truth of layers that train together must have in common."""
    return (type(needs.truth_format),) if isinstance(needs, BoxNeeds) else (needs.classes,)


def _check_name(network: Network, layer: Layer, key: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in known:
        section = network.cfg.sections[layer.index + 1]
        text = f"'{name}' is not known; write one of {', '.join(known)}"
        network.cfg.fail(section, section.get(key), text)
