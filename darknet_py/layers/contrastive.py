"""[contrastive]: a loss on embeddings (losses/contrastive.py); in inference its output is zeros.

Darknet: softmax_layer.c, contrastive part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darknet_py.layers.head import FLT_MAX
from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.layers.needs import ClassNeeds, Needs
from darknet_py.layers.yolo import Yolo
from darknet_py.options import option


class Contrastive(Layer, kinds=("contrastive",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        classes: int = option(1000, "number of classes, if yolo_layer is not set", use="training")
        yolo_layer: int = option(
            0, "the [yolo] layer to whose boxes the embeddings belong; 0: they belong to whole images", use="training"
        )
        temperature: float = option(1.0, "cosine similarities are divided by it", use="training")
        cls_normalizer: float = option(1.0, "multiplies the gradient", use="training")
        max_delta: float = option(FLT_MAX, "clips the gradients to +- this", use="training")
        contrastive_neg_max: int = option(
            3, "maximum number of other embeddings that an embedding is pushed away from", use="training"
        )

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.classes = options.classes
        self.yolo_layers: tuple[Yolo, ...] = ()  # the [yolo] layer; in a tuple it is no submodule of this layer
        self.time_steps, self.truth_thresh = place.net.time_steps, place.net.label_smooth_eps
        if options.yolo_layer:
            index = place.layer("yolo_layer", options.yolo_layer)
            yolo = place.earlier[index]
            if not isinstance(yolo, Yolo):
                place.fail("yolo_layer", f"layer {index} is a [{yolo.kind}], not a [yolo]")
            self.classes, self.yolo_layers = yolo.options.classes, (yolo,)
            if (place.input.h, place.input.w) != (yolo.shape.h, yolo.shape.w) or place.input.c % len(yolo.anchors):
                size = (
                    f"{yolo.shape.w} x {yolo.shape.h}, and as many channels for each of its {len(yolo.anchors)} anchors"
                )
                place.fail("yolo_layer", f"layer {index} needs embeddings of {size}; these are {place.input}")
        self.shape = Shape.flat(place.input.count)

    @property
    def yolo(self) -> Yolo | None:
        """The [yolo] layer to whose boxes the embeddings belong, or None."""
        return self.yolo_layers[0] if self.yolo_layers else None

    def needs(self) -> Needs:
        """Those of the [yolo] layer, if the embeddings belong to its boxes."""
        return self.yolo.needs() if self.yolo else ClassNeeds(self.classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x).flatten(1)

    def describe(self) -> dict[str, object]:
        return {"classes": self.classes, "temperature": self.options.temperature}
