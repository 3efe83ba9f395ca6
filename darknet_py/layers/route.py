"""[route]: concatenates the outputs of earlier layers, or a group of their channels (Darknet: route_layer.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Route(Layer, kinds=("route",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        layers: tuple[int, ...] = option((), "the layers to concatenate; negative: counted back from here")
        groups: int = option(1, "number of groups into which the channels of each source are divided", minimum=1)
        group_id: int = option(0, "the group of channels that is used, counted from 0", minimum=0)
        stream: int = option(-1, "CUDA stream number", use="none")
        wait_stream: int = option(-1, "CUDA stream to wait for", use="none")

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        if not options.layers:
            place.fail(None, "names no layer; write e.g. layers=-1,61")
        return tuple(place.layer("layers", reference) for reference in options.layers)

    def references(self) -> tuple[int, ...]:
        return self.source_indices

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        shapes = [place.earlier[index].shape for index in self.source_indices]
        if options.group_id >= options.groups:
            place.fail(
                "group_id", f"there are {options.groups} groups, counted from 0; write {options.groups - 1} or less"
            )
        self.input = shapes[0]
        if not any(shape.c for shape in shapes) and options.groups == 1:
            self.shape = Shape.flat(sum(shape.count for shape in shapes))
            return
        if len(shapes) == 1 and not shapes[0].c:
            place.fail(
                "groups",
                f"layer {self.source_indices[0]} gives {shapes[0].count} values and no image; groups needs channels",
            )
        if len({shape[1:3] for shape in shapes}) > 1 or not shapes[0].c:
            sizes = ", ".join(
                f"layer {index}: {shape}" for index, shape in zip(self.source_indices, shapes, strict=True)
            )
            place.differ("layers", f"the sources must have the same width and height ({sizes})")
        for index, shape in zip(self.source_indices, shapes, strict=True):
            if shape.c % options.groups:
                text = f"the {shape.c} channels of layer {index} cannot be divided into {options.groups} groups"
                place.fail("groups", text)
        self.shape = Shape.image(sum(shape.c for shape in shapes) // options.groups, *shapes[0][1:3])
        self.check_count(place, "layers", "the output", self.shape.count)
        self.input = Shape.image(self.shape.c, *shapes[0][1:3])

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.options.groups > 1:
            inputs = tuple(x.chunk(self.options.groups, 1)[self.options.group_id] for x in inputs)
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)

    def describe(self) -> dict[str, object]:
        return {"inputs": list(self.source_indices), "groups": self.options.groups, "group_id": self.options.group_id}

    def size_text(self) -> str:
        return f"{self.options.group_id}/{self.options.groups}" if self.options.groups > 1 else ""
