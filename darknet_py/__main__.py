"""`python -m darknet_py …`, or `darknet_py …`: the list of commands, and Darknet's own command lines.

python -m darknet_py summary cfg/yolov3.cfg
python -m darknet_py detector test cfg/coco.data cfg/yolov3.cfg yolov3.weights dog.jpg -thresh 0.25 -ext_output
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from darknet_py.command import run_command
from darknet_py.darknet_words import ACTIONS, run_action
from darknet_py.errors import DarknetError

COMMANDS = {
    "detect": "find objects in images, videos and streams",
    "train": "train a network as its cfg says",
    "evaluate": "mAP by the rules of Darknet, Pascal VOC or COCO",
    "convert": "convert weights files, cut and rewrite them",
    "anchors": "compute anchors that fit a data set",
    "check": "check a data set before training",
    "classify": "classify images",
    "export": "write a model as ONNX, its numbers checked",
    "generate": "let a character network write text",
    "summary": "print the layer table of a cfg",
    "download": "download official weights",
    "shapes": "draw the data set of the bundled model",
    "benchmark": "measure speed, side by side",
}


def usage() -> str:
    """The list of commands and of Darknet's command lines."""
    commands = "\n".join(f"  python -m darknet_py.{name:10} {meaning}" for name, meaning in COMMANDS.items())
    actions = "\n".join(f"  python -m darknet_py {name} {action.usage}" for name, action in ACTIONS.items())
    return (
        "Darknet's .cfg models in PyTorch.\n\n"
        f"commands (each with --help):\n{commands}\n\n"
        f"Darknet's own command lines:\n{actions}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of this package, or a command line of Darknet's. Returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    two_words = " ".join(arguments[:2])
    name = two_words if two_words in ACTIONS else arguments[0]
    # `detect` is a command here and in Darknet; only ours has options with two hyphens
    is_command = name in COMMANDS and (name not in ACTIONS or any(word.startswith("--") for word in arguments))
    if is_command:
        return int(importlib.import_module(f"darknet_py.{name}").main(arguments[1:]))
    if name in ACTIONS:
        return run_action(name, arguments[len(name.split()) :])
    names = [*COMMANDS, *ACTIONS]
    closest = difflib.get_close_matches(two_words, names, n=1) or difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{closest[0]}'?" if closest else "see python -m darknet_py --help"
    raise DarknetError(f"'{two_words}' is not a command; {hint}")


def run() -> int:
    """The console command `darknet_py`."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(run())
