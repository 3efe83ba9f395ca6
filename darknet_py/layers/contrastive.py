"""[contrastive]: a loss on embeddings; in inference nothing, Darknet leaves zeros (Darknet: softmax_layer.c, contrastive part)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darknet_py.layers.head import FLT_MAX
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.options import option


class Contrastive(Layer, kinds=("contrastive",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        classes: int = option(1000, "number of classes, where no yolo layer is named", use="training")
        yolo_layer: int = option(0, "the [yolo] layer whose boxes the embeddings belong to; 0: whole pictures", use="training")
        temperature: float = option(1.0, "cosine similarities are divided by it", use="training")
        cls_normalizer: float = option(1.0, "multiplies the gradient", use="training")
        max_delta: float = option(FLT_MAX, "limits the gradient", use="training")
        contrastive_neg_max: int = option(3, "so many negatives for each positive", use="untrained")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes = options.classes
        if options.yolo_layer:
            index = place.layer("yolo_layer", options.yolo_layer)
            if place.earlier[index].kind != "yolo":
                place.fail("yolo_layer", f"layer {index} is a [{place.earlier[index].kind}], not a [yolo]")
            self.classes = place.earlier[index].options.classes
        self.shape = Shape.flat(place.input.count)

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x).flatten(1)

    def describe(self) -> dict[str, Any]:
        return {"classes": self.classes, "temperature": self.options.temperature}
