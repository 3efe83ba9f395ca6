"""[roi_sample]: in training a sample of the proposals, with the truths among them; in inference all of them.

This project's own section.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darknet_py.layers.layer import LayerOptions, Place, Shape
from darknet_py.layers.regions import Regions, check_thresholds, regions_at
from darknet_py.options import option


class RoiSample(Regions, kinds=("roi_sample",)):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        samples: int = option(128, "regions of each image that are trained", minimum=1, use="training")
        positives: float = option(
            0.25, "largest part of these that is trained to be objects", minimum=0, maximum=1, use="training"
        )
        truth_thresh: float = option(
            0.5,
            "regions whose IoU with a truth is as large are trained to be this object",
            minimum=0.01,
            maximum=1,
            use="training",
        )
        ignore_thresh: float = option(
            0.5,
            "regions whose IoU with all truths is smaller are trained to be background",
            minimum=0,
            maximum=1,
            use="training",
        )
        background_thresh: float = option(
            0.0, "background is trained where the IoU with some truth is as large", minimum=0, maximum=1, use="training"
        )

    @classmethod
    def sources(cls, options: Options, place: Place) -> tuple[int, ...]:
        return (place.index - 1, -1)  # the input, for its size

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        check_thresholds(place, options.truth_thresh, options.ignore_thresh)
        regions = regions_at(place, place.index - 1, None)
        self.convention = regions.convention
        self.shape = Shape.flat(6)._replace(rows=regions.shape.rows, regions=place.index)

    def forward(self, regions: Tensor, images: Tensor) -> Tensor:
        """Regions (k, 5), images (n, channels, height, width) → regions (m, 6).

        The last number is that of the truth that the region is trained to be; -1: background, or not in training."""
        return self.arithmetic.sample(self, regions, images)
