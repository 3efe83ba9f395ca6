"""How a training sample is made: steps change one image, recipes say which steps, and how many images become one.

    class Invert(ImageStep):                                    # a step
        def draw(self, context, dice):
            return bool(dice.colour.integers(2))

        def apply(self, image, drawn, truths, rng):
            return 255 - image if drawn else image

    def mine(net, needs):                                        # a recipe, which a head asks for by its name
        return OneImage((JitterCrop(needs.jitter), Invert()), needs)

    AUGMENTATIONS["mine"] = mine                                # data/augment/lists.py

What is random about a step is drawn first, for all steps of an image; then the boxes move and are chosen from; then the
pixels change. So a drawn value fed in by hand does the same as one that was drawn, and pixels are only computed once it
is known what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from darknet_py.data.augment.dice import Dice
from darknet_py.data.truths import OUTSIDE, ImageTruths, Polygons, trained, truth_rows
from darknet_py.layers.needs import BoxNeeds, ClassNeeds, Rows
from darknet_py.pictures.read import Image

Size: TypeAlias = tuple[int, int]  # (width, height), pixels


class DrawContext(NamedTuple):
    """What a step may look at when it draws.

    size: (width, height) of the image as the step gets it, pixels. net_size: of the network's input. boxes: (n, 4)
    float32, centre and size as fractions of the image as the step gets it; an image of a classifier has none.
    """

    size: Size
    net_size: Size
    boxes: Rows


class ImageStep:
    """One kind of augmentation of one image. Its parameters are its fields; they are sent to worker processes, so they
    must be picklable."""

    def draw(self, context: DrawContext, dice: Dice) -> Any:
        """All that is random about it."""
        raise NotImplementedError

    def move(self, boxes: Rows, drawn: Any) -> Rows:
        """(n, 4) boxes, centre and size as fractions of the image → as many, of the image that `apply` makes.

        A box that is no longer to be seen becomes (OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE), and is left out later.
        """
        return boxes

    def resized(self, size: Size, drawn: Any) -> Size:
        """(width, height) of the image that `apply` makes of one of this size."""
        return size

    def apply(self, image: Image, drawn: Any, truths: Rows, rng: np.random.Generator) -> Image:
        """The changed image.

        Args:
            image: (height, width, channels) uint8, uint16, or float32 in 0..1.
            truths: after all steps: (m, 6) rows x, y, w, h, class, track_id, or a classifier's class vector.
            rng: for noise; everything else has been drawn.
        """
        raise NotImplementedError


class LoadedImage(NamedTuple):
    """An image as its file has it: its pixels, its truths (boxes, or a class vector), where both come from, and its
    random numbers."""

    image: Image
    truths: ImageTruths | Rows
    path: str
    label_file: str
    dice: Dice


class Sample(NamedTuple):
    """What the network sees. image: (height, width, channels) of the network's input, uint8 or float32 in 0..1.

    truths: (m, 6 or 7) rows x, y, w, h, class, track_id (and the weight of their image in a blend), or a (classes,)
    class vector. path: of the image, of several in one the first's. draws: what each step of an image drew. polygons:
    of the truths, before a warp.
    """

    image: Image
    truths: Rows
    path: str
    draws: tuple[Any, ...] = ()
    polygons: Polygons = ()


class Recipe(Protocol):
    """Makes samples. It takes as many images as it needs: each `next` draws, reads and hands over another."""

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample: ...


Adapt: TypeAlias = Callable[[tuple[Any, ...], np.random.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class OneImage:
    """A recipe: one image goes through some steps.

    polygons: those of its truths move with them, corner by corner; the steps cut nothing off.
    """

    steps: tuple[ImageStep, ...]
    needs: BoxNeeds | ClassNeeds
    polygons: bool = False

    def __call__(
        self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator, adapt: Adapt | None = None
    ) -> Sample:
        """`adapt`: changes what the steps have drawn, as a mosaic does with its tiles."""
        loaded = next(images)
        boxes = loaded.truths.xywh if isinstance(loaded.truths, ImageTruths) else np.empty((0, 4), np.float32)
        context = DrawContext((loaded.image.shape[1], loaded.image.shape[0]), net_size, boxes)
        draws = draw_steps(self.steps, context, loaded.dice)
        if adapt is not None:
            draws = adapt(draws, loaded.dice.rest)
        truths, polygons = self._truths(loaded, draws, net_size)
        image = apply_steps(self.steps, draws, loaded.image, truths, loaded.dice.rest)
        return Sample(image, truths, loaded.path, draws, polygons)

    def _truths(self, loaded: LoadedImage, draws: tuple[Any, ...], net_size: Size) -> tuple[Rows, Polygons]:
        if not isinstance(loaded.truths, ImageTruths):
            return loaded.truths, ()  # a class vector
        assert isinstance(self.needs, BoxNeeds)
        moved = loaded.truths._replace(xywh=move_boxes(self.steps, draws, loaded.truths.xywh))
        limits = (self.needs.classes, self.needs.max_truths)
        kept = trained(moved, net_size, *limits, loaded.dice.rest, path=loaded.label_file)
        polygons = [moved.polygons[k] for k in kept] if self.polygons and moved.polygons else ()
        return truth_rows(moved, kept, path=loaded.label_file), move_polygons(self.steps, draws, polygons)


@dataclass(frozen=True)
class Then:
    """A recipe: the samples of another one go through further steps, such as a mosaic that is turned as a whole."""

    of: Recipe
    steps: tuple[ImageStep, ...]

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        made = self.of(images, net_size, rng)
        truths, has_boxes = made.truths, made.truths.ndim == 2
        boxes = truths[:, :4] if has_boxes else np.empty((0, 4), np.float32)
        context = DrawContext((made.image.shape[1], made.image.shape[0]), net_size, boxes)
        draws = draw_steps(self.steps, context, Dice.of(rng))
        if has_boxes:
            moved = move_boxes(self.steps, draws, boxes)
            truths = np.concatenate((moved, truths[:, 4:]), 1)[(moved != OUTSIDE).any(1)]
        return Sample(apply_steps(self.steps, draws, made.image, truths, rng), truths, made.path)


@dataclass(frozen=True)
class Either:
    """A recipe: one of two, the first with this probability."""

    probability: float
    first: Recipe
    second: Recipe

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        return (self.first if rng.random() < self.probability else self.second)(images, net_size, rng)


@dataclass(frozen=True)
class HalfMixed:
    """A recipe: half of the samples are one sample of another recipe, the other half are several of its samples in one.

    Darknet decides this once for all images of a loading thread; here it is drawn for each sample.
    """

    of: Recipe
    images: int  # of a mixed sample
    mix: Callable[[Sequence[Sample], Size, np.random.Generator], Sample]

    def __call__(self, images: Iterator[LoadedImage], net_size: Size, rng: np.random.Generator) -> Sample:
        if not rng.integers(2):
            return self.of(images, net_size, rng)
        return self.mix([self.of(images, net_size, rng) for _ in range(self.images)], net_size, rng)


def draw_steps(steps: Sequence[ImageStep], context: DrawContext, dice: Dice) -> tuple[Any, ...]:
    """What each step draws, in their order; each sees the image's size and boxes as the steps before it leave them."""
    draws = []
    for step in steps:
        drawn = step.draw(context, dice)
        context = context._replace(size=step.resized(context.size, drawn), boxes=step.move(context.boxes, drawn))
        draws.append(drawn)
    return tuple(draws)


def move_boxes(steps: Sequence[ImageStep], draws: Sequence[Any], boxes: Rows) -> Rows:
    """(n, 4) boxes, moved as the steps move the pixels."""
    for step, drawn in zip(steps, draws, strict=True):
        boxes = step.move(boxes, drawn)
    return boxes


def move_polygons(steps: Sequence[ImageStep], draws: Sequence[Any], polygons: Polygons) -> Polygons:
    """Each corner moves as a box without a size."""
    if not polygons:
        return ()
    corners = np.pad(np.concatenate(polygons), [(0, 0), (0, 2)])
    moved = move_boxes(steps, draws, corners)[:, :2].astype(np.float32)
    return np.split(moved, np.cumsum([len(polygon) for polygon in polygons])[:-1])


def apply_steps(
    steps: Sequence[ImageStep], draws: Sequence[Any], image: Image, truths: Rows, rng: np.random.Generator
) -> Image:
    """The image after all steps; arguments as of `ImageStep.apply`."""
    for step, drawn in zip(steps, draws, strict=True):
        image = step.apply(image, drawn, truths, rng)
    return image
