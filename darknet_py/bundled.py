"""The files that come with the package: the cfg, names and data files of `cfg/`, and the small model for a first look.

In a clone they lie in the project's folders `cfg/` and `weights/`; an installation has copies in its folder `share/`.
The model, cfg/shapes.cfg, is drawn for by shapes.py and trained by train.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from darknet_py.errors import DarknetError

PACKAGE = Path(__file__).resolve().parent
SHARE = PACKAGE / "share"
ROOT = SHARE if SHARE.is_dir() else PACKAGE.parent
MODEL = {
    "cfg": "cfg/shapes.cfg",
    "names": "cfg/shapes.names",
    "weights": "weights/shapes.weights",
    "image": "weights/shapes.png",
}


def bundled(what: str) -> Path:
    """The path of the bundled model's "cfg", "names", "weights" or sample "image".

    Raises:
        DarknetError: the file is missing from this installation.
    """
    path = ROOT / MODEL[what]
    if not path.is_file():
        raise DarknetError(
            f"{path}: this file of the bundled model is missing; install darknet_py again, or name a model"
        )
    return path


def or_bundled(path: str | os.PathLike[str]) -> str:
    """`path`, or the bundled file of that name where no such file exists: "cfg/yolov3.cfg" works in any folder."""
    name = os.fspath(path)
    parts = Path(name).parts
    travels = (len(parts) == 2 and parts[0] == "cfg") or name in MODEL.values()
    if travels and not os.path.lexists(name) and (ROOT / name).is_file():
        return str(ROOT / name)
    return name
