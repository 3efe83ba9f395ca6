"""Features of YOLOv3's layers 61 and 81 as the input of another model.

python examples/features.py [yolov3.weights]   # without weights: random ones
"""

import sys

import torch
from torch import Tensor, nn

import darknet_py

LAYERS = (61, 81)  # Darknet's own numbers: the last layer of stride 16, and what the first head reads


class ImageClassifier(nn.Module):
    """A linear classifier on the averages of two feature maps; YOLOv3 itself is not trained."""

    def __init__(self, backbone: darknet_py.Network, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        channels = sum(backbone.layers[index].shape.c for index in LAYERS)
        self.linear = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, 3, height, width) float, 0..1, RGB → (n, classes) logits."""
        with torch.no_grad():
            maps = self.backbone.features(images, LAYERS)  # {61: (n, 512, h/16, w/16), 81: (n, 255, h/32, w/32)}
        return self.linear(torch.cat([maps[index].mean(dim=(2, 3)) for index in LAYERS], dim=1))


def main(weights: str | None) -> None:
    backbone = darknet_py.load("cfg/yolov3.cfg", weights, size=(160, 160))
    model = ImageClassifier(backbone, classes=10)
    images = torch.rand(2, 3, 160, 160)
    for index, features in backbone.features(images, LAYERS).items():
        print(f"layer {index}: {tuple(features.shape)}")
    print(f"logits: {tuple(model(images).shape)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
