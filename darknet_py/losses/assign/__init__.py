"""Assigners: which ground truth trains which boxes; one file each, pure functions of predictions, priors and truths."""

from darknet_py.losses.assign.darknet import READS as DARKNET_READS
from darknet_py.losses.assign.darknet import assign_darknet
from darknet_py.losses.assign.grid import assign_grid
from darknet_py.losses.assign.level import Assigner

ASSIGNERS: dict[str, Assigner] = {"darknet": assign_darknet, "grid": assign_grid}
"""The option `assigner` → the function."""

READS: dict[str, frozenset[str]] = {"darknet": DARKNET_READS, "grid": frozenset()}
"""The options of a head that each assigner has a use for."""
