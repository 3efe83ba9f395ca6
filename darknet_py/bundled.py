"""The model that comes with the project, for a first look: cfg/shapes.cfg and what belongs to it (drawn and trained by shapes.py, train.py)."""

from __future__ import annotations

from pathlib import Path

from darknet_py.errors import DarknetError

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "cfg": "cfg/shapes.cfg",
    "names": "cfg/shapes.names",
    "weights": "weights/shapes.weights",
    "picture": "weights/shapes.png",
}


def bundled(what: str) -> Path:
    """The path of the bundled "cfg", "names", "weights" or sample "picture".

    Raises:
        DarknetError: the package is installed without them, outside a clone of the project.
    """
    path = ROOT / FILES[what]
    if not path.is_file():
        raise DarknetError(
            f"{path}: the bundled model is not here; run this in a clone of the project, or give a model (see --help)"
        )
    return path
