"""[softmax]: values → probabilities, in groups or along a class tree (Darknet: softmax_layer.c, tree.c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darknet_py.layers.layer import Layer, LayerOptions, Place, Shape
from darknet_py.layers.needs import ClassNeeds, ClassTree
from darknet_py.names import named_text
from darknet_py.options import option


class Softmax(Layer, kinds=("softmax", "soft")):
    @dataclass(frozen=True, kw_only=True)
    class Options(LayerOptions):
        groups: int = option(1, "number of groups of values; each group sums to 1", minimum=1)
        temperature: float = option(1.0, "the values are divided by it before the softmax")
        tree: str = option("", "file of a class tree: a softmax over the children of each node")
        spatial: float = option(0.0, "1: a softmax over the channels of each pixel (Darknet's GPU code)")
        noloss: int = option(0, "1: this layer has no loss", use="training")

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.shape = Shape.flat(place.input.count)
        if place.input.count % options.groups:
            place.fail("groups", f"the {place.input.count} values cannot be divided into {options.groups} groups")
        self.tree = read_tree(place, options.tree, place.input.count) if options.tree else None

    def needs(self) -> ClassNeeds:
        tree = None if self.tree is None else ClassTree(self.tree.parent.cpu().numpy(), self.tree.group.cpu().numpy())
        return ClassNeeds(self.shape.count, tree)

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) → (n, count)"""
        return self.arithmetic.of_logits(self._probabilities(x), x.flatten(1))

    def _probabilities(self, x: Tensor) -> Tensor:
        if self.tree is not None:
            return self.tree.softmax(x.flatten(1) / self.options.temperature)
        if self.options.spatial:
            return (x / self.options.temperature).softmax(1).flatten(1)
        x = x.flatten(1).unflatten(1, (self.options.groups, -1))
        return (x / self.options.temperature).softmax(2).flatten(1)

    def describe(self) -> dict[str, object]:
        return {
            "groups": self.options.groups,
            "temperature": self.options.temperature,
            "spatial": self.options.spatial,
            "noloss": self.options.noloss,
            "has_tree": int(self.tree is not None),
        }


class Tree(nn.Module):
    """A hierarchy of classes: line k of its file is `name parent`, the root's parent is -1; siblings are adjacent.

    `parent`: (classes,) int64; `group`: (classes,) int64, the group of siblings of each class.
    """

    parent: Tensor
    group: Tensor

    def __init__(self, names: list[str], parents: list[int]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("parent", torch.tensor(parents), persistent=False)
        breaks = self.parent[1:] != self.parent[:-1]
        self.register_buffer(
            "group", torch.cat([torch.zeros(1, dtype=torch.int64), breaks.cumsum(0)]), persistent=False
        )
        self.groups = int(self.group[-1]) + 1
        depth: list[int] = []
        for parent in parents:
            depth.append(depth[parent] + 1 if parent >= 0 else 0)
        levels = torch.tensor(depth)
        for level in range(1, max(depth) + 1):
            self.register_buffer(f"level{level}", (levels == level).nonzero().squeeze(1), persistent=False)
        self.depth = max(depth)

    def softmax(self, x: Tensor) -> Tensor:
        """(…, classes) → the same shape: the values of each group of siblings sum to 1."""
        group = self.group.expand_as(x)
        shape = (*x.shape[:-1], self.groups)
        largest = x.new_full(shape, float("-inf")).scatter_reduce(-1, group, x, "amax")
        exponential = (x - largest.gather(-1, group)).exp()
        total = x.new_zeros(shape).scatter_add(-1, group, exponential)
        return exponential / total.gather(-1, group)

    def along_paths(self, probabilities: Tensor) -> Tensor:
        """(…, classes) → the same shape: each probability times its ancestors' (tree.c:hierarchy_predictions)."""
        result = probabilities.clone()
        for level in range(1, self.depth + 1):
            members = getattr(self, f"level{level}")
            result[..., members] *= result[..., self.parent[members]]
        return result


def read_tree(place: Place, name: str, classes: int) -> Tree:
    """Reads the file that the section's option `tree` names, or fails at that option."""
    text = named_text(place.cfg, name, "class tree")
    if text is None:
        place.fail("tree", "there is no such file, here or beside the cfg")
    names: list[str] = []
    parents: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words:
            continue
        try:
            parent = int(words[1]) if len(words) > 1 else -1
        except ValueError:
            place.fail("tree", f"{name}:{number}: '{words[1]}' is not a class number")
        if not -1 <= parent < len(parents):
            place.fail(
                "tree", f"{name}:{number}: the parent {parent} of class {len(parents)} must come earlier (-1: none)"
            )
        names.append(words[0])
        parents.append(parent)
    if not parents or len(parents) != classes:
        place.fail("tree", f"{name} has {len(parents)} classes instead of {classes}")
    return Tree(names, parents)
