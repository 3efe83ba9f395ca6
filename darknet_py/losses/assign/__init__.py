"""Assigners: which ground truth trains which boxes; one file each, pure functions of predictions, priors and truths."""

from darknet_py.losses.assign.darknet import READS as DARKNET_READS
from darknet_py.losses.assign.darknet import assign_darknet
from darknet_py.losses.assign.grid import READS as GRID_READS
from darknet_py.losses.assign.grid import assign_grid
from darknet_py.losses.assign.level import Assigner
from darknet_py.losses.assign.ota import assign_ota
from darknet_py.losses.assign.ratio import READS as RATIO_READS
from darknet_py.losses.assign.ratio import assign_ratio

ASSIGNERS: dict[str, Assigner] = {
    "darknet": assign_darknet,
    "grid": assign_grid,
    "ratio": assign_ratio,
    "ota": assign_ota,
}
"""The option `assigner` → the function."""

READS: dict[str, frozenset[str]] = {
    "darknet": DARKNET_READS,
    "grid": GRID_READS,
    "ratio": RATIO_READS,
    "ota": RATIO_READS,
}
"""The options of a head that each assigner has a use for."""

SQUARE: frozenset[str] = frozenset({"ota"})
"""Assigners that place truths wrongly, as their programs do, where the input is not square."""
