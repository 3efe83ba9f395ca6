"""The C program's command language: `detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh 0.25`.

Each action translates Darknet's words and flags into the arguments of one of this package's commands, and runs that.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from darknet_py.bundled import or_bundled
from darknet_py.cfg import parse_cfg
from darknet_py.errors import CfgError, DarknetError

# Darknet's flags that take no value. What no action asks for is accepted and has no effect.
SWITCHES = (
    "-benchmark", "-clear", "-dont_show", "-dontdraw_bbox", "-ext_output", "-letter_box", "-map", "-nogpu",
    "-save_labels", "-show", "-show_imgs", "-tokenized",
)  # fmt: skip
# Darknet's flags that are followed by a value.
VALUES = (
    "-avgframes", "-c", "-chart", "-file", "-gpus", "-height", "-hier", "-i", "-iou_thresh", "-json_file_output",
    "-json_port", "-len", "-mjpeg_port", "-nms", "-num_of_clusters", "-out", "-out_filename", "-points", "-prefix",
    "-s", "-seed", "-srand", "-t", "-temp", "-thresh", "-tokens", "-width",
)  # fmt: skip

COCO_DATA = "cfg/coco.data"  # what Darknet's `detect` reads
VOC_NAMES = "cfg/voc.names"  # the classes that Darknet's `yolo` knows
CLASSES = {COCO_DATA: "80", VOC_NAMES: "20"}


class Words(NamedTuple):
    """A Darknet command line behind the action's name: the plain words in order, and the flags with their values."""

    plain: list[str]
    flags: dict[str, str]

    def word(self, index: int, default: str) -> str:
        return self.plain[index] if len(self.plain) > index else default

    def options(self, **names: str) -> list[str]:
        """`thresh="-thresh"` → ["--thresh", VALUE] where the user wrote `-thresh VALUE`; underscores become hyphens."""
        return [
            argument
            for name, flag in names.items()
            if flag in self.flags
            for argument in (f"--{name.replace('_', '-')}", self.flags[flag])
        ]

    def switches(self, **names: str) -> list[str]:
        """`map="-map"` → ["--map"] where the user wrote `-map`; underscores become hyphens."""
        return [f"--{name.replace('_', '-')}" for name, flag in names.items() if flag in self.flags]


def split(arguments: Sequence[str]) -> Words:
    """Separates words and flags; Darknet accepts its flags anywhere in the line.

    Raises:
        DarknetError: a flag that Darknet does not know, or one without its value.
    """
    plain: list[str] = []
    flags: dict[str, str] = {}
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-") or argument == "-":
            plain.append(argument)
        elif argument in SWITCHES:
            flags[argument] = ""
        elif argument in VALUES:
            value = next(remaining, None)
            if value is None:
                raise DarknetError(f"option {argument} needs a value")
            flags[argument] = value
        else:
            closest = difflib.get_close_matches(argument, SWITCHES + VALUES, n=1)
            hint = f"; did you mean {closest[0]}?" if closest else ""
            raise DarknetError(f"option {argument} is not known{hint}")
    return Words(plain, flags)


def _device(words: Words) -> list[str]:
    if "-nogpu" in words.flags:
        return ["--device", "cpu"]
    if "-i" in words.flags:
        return ["--device", f"cuda:{words.flags['-i']}" if words.flags["-i"].isdigit() else "cpu"]
    return []


def _detect(words: Words, model: list[str], source: str, **defaults: str) -> int:
    """`defaults`: values of flags that this action has of its own."""
    from darknet_py import detect

    arguments = [
        *model,
        *words.options(thresh="-thresh", nms="-nms", json="-out", out="-prefix"),
        *words.options(json="-json_file_output"),
        *words.switches(letterbox="-letter_box", ext_output="-ext_output", txt="-save_labels", show="-show"),
        *_device(words),
    ]
    for name, value in defaults.items():
        if f"-{name}" not in words.flags:
            arguments += [f"--{name}", value]
    args = detect.parser().parse_args([*arguments, "--", source])
    return detect.start(args, save_as=words.flags.get("-out_filename", "predictions.jpg"))


def _demo(words: Words, model: list[str], source: str, **defaults: str) -> int:
    """A video or camera; written to a file only if the user asks for one."""
    words.flags.setdefault("-out_filename", "")
    return _detect(words, model + ([] if words.flags["-out_filename"] else ["--no-pictures"]), source, **defaults)


def _camera(words: Words) -> str:
    return words.flags.get("-c", "0")


def _data_model(words: Words) -> list[str]:
    """The model of a line that begins with DATA CFG WEIGHTS."""
    data, cfg, weights = words.plain[:3]
    return ["--data", data, "--cfg", cfg, "--weights", weights]


def _model(words: Words, option: str, names: str) -> list[str]:
    """The model of a line that begins with CFG WEIGHTS, with the class names that Darknet takes without being told.

    A file in the current folder counts in any case, as in Darknet; the bundled one only if the classes are as many.
    """
    cfg, weights = words.plain[:2]
    model = ["--cfg", cfg, "--weights", weights]
    if Path(names).is_file() or _classes(cfg) == CLASSES[names]:
        return [option, or_bundled(names), *model]
    return model


def _classes(cfg: str) -> str | None:
    """`classes` of a cfg's last section. What is wrong with the cfg is reported when it is loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            option = parse_cfg(cfg).sections[-1].get("classes")
        except CfgError:
            return None
    return option.value if option else None


def _detector_test(words: Words) -> int:
    return _detect(words, _data_model(words), words.word(3, "-"))


def _detector_demo(words: Words) -> int:
    return _demo(words, _data_model(words), words.word(3, _camera(words)))


def _detect_words(words: Words) -> int:
    return _detect(words, _model(words, "--data", COCO_DATA), words.word(2, "-"), thresh="0.24")


def _yolo_test(words: Words) -> int:
    return _detect(words, _model(words, "--names", VOC_NAMES), words.word(2, "-"), thresh="0.2", nms="0.4")


def _yolo_demo(words: Words) -> int:
    model, source = _model(words, "--names", VOC_NAMES), words.word(2, _camera(words))
    return _demo(words, model, source, thresh="0.2", nms="0.4")


def _classifier_predict(words: Words) -> int:
    from darknet_py import classify

    return classify.main([*_data_model(words), *words.options(top="-t"), "--", words.word(3, "-")])


def _train(words: Words) -> int:
    from darknet_py import train

    switches = words.switches(map="-map", clear="-clear")
    gpus = words.flags.get("-gpus", "").split(",")
    if len(gpus) > 1:
        return _train_on_gpus(gpus, [*words.plain[:3], *switches, *_device(words)])
    if gpus[0]:
        words.flags.setdefault("-i", gpus[0])
    return train.main([*words.plain[:3], *switches, *_device(words)])


def _train_on_gpus(gpus: list[str], arguments: list[str]) -> int:
    """A process for each GPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}"]
    return subprocess.call([*torchrun, "-m", "darknet_py.train", *arguments], env=environment)


def _rnn_train(words: Words) -> int:
    from darknet_py import train

    text = words.flags.get("-file", "data/shakespeare.txt")
    switches = words.switches(clear="-clear", tokenized="-tokenized")
    return train.main([text, *words.plain[:2], *switches, "--out", "backup", *_device(words)])


def _detector_map(words: Words) -> int:
    """Darknet ignores -letter_box here; the cfg decides."""
    from darknet_py import evaluate

    options = words.options(thresh="-thresh", iou_thresh="-iou_thresh", points="-points")
    return evaluate.main([*words.plain[:3], *_device(words), *options])


def _detector_valid(words: Words) -> int:
    from darknet_py import evaluate

    return evaluate.valid_main([*words.plain[:3], *_device(words), *words.options(out="-out")])


def _detector_recall(words: Words) -> int:
    from darknet_py import evaluate

    return evaluate.recall_main([*words.plain[:3], *_device(words)])


def _calc_anchors(words: Words) -> int:
    from darknet_py import anchors

    sides = [words.flags[flag] for flag in ("-width", "-height") if flag in words.flags]
    size = ["--size", "x".join(sides)] if sides else []
    words.flags.setdefault("-num_of_clusters", "5")
    return anchors.main([words.plain[0], *size, *words.options(clusters="-num_of_clusters"), "--out", "."])


def _rnn_generate(words: Words) -> int:
    from darknet_py import generate

    cfg, weights = words.plain[:2]
    options = words.options(seed="-seed", length="-len", temperature="-temp", tokens="-tokens", random_seed="-srand")
    return generate.main(["--cfg", cfg, "--weights", weights, *options])


def _partial(words: Words) -> int:
    """Writes the layers before N to a file, to train other networks from (darknet.c:partial)."""
    from darknet_py.network import Network
    from darknet_py.weights import load_weights, save_weights

    cfg, weights, out, cutoff = words.plain[:4]
    if not cutoff.isdigit() or not int(cutoff):
        raise DarknetError(f"partial: '{cutoff}' is not a number of layers; write how many layers to keep")
    network = Network(parse_cfg(cfg))
    if int(cutoff) > len(network.layers):
        raise DarknetError(f"partial: {cfg} has {len(network.layers)} layers, so {cutoff} cannot be kept")
    load_weights(network, weights, cutoff=int(cutoff))
    save_weights(network, out, cutoff=int(cutoff), seen=0)
    print(f"{out}: the layers before {cutoff} of {weights}")
    return 0


class Action(NamedTuple):
    """What follows the action's name on the command line, and what runs it; [WORD]: may be missing."""

    usage: str
    run: Callable[[Words], int]

    @property
    def minimum(self) -> int:
        """Words that must be there."""
        return len(self.usage.split("[")[0].split())


ACTIONS = {
    "detector test": Action("DATA CFG WEIGHTS [IMAGE]", _detector_test),
    "detector demo": Action("DATA CFG WEIGHTS [VIDEO]", _detector_demo),
    "detector train": Action("DATA CFG [WEIGHTS]", _train),
    "detector map": Action("DATA CFG WEIGHTS", _detector_map),
    "detector valid": Action("DATA CFG WEIGHTS", _detector_valid),
    "detector recall": Action("DATA CFG WEIGHTS", _detector_recall),
    "detector calc_anchors": Action("DATA", _calc_anchors),
    "detect": Action("CFG WEIGHTS [IMAGE]", _detect_words),
    "classifier train": Action("DATA CFG [WEIGHTS]", _train),
    "classifier predict": Action("DATA CFG WEIGHTS [IMAGE]", _classifier_predict),
    "yolo test": Action("CFG WEIGHTS [IMAGE]", _yolo_test),
    "yolo demo": Action("CFG WEIGHTS [VIDEO]", _yolo_demo),
    "partial": Action("CFG WEIGHTS OUT N", _partial),
    "rnn train": Action("CFG [WEIGHTS] [-file TEXT]", _rnn_train),
    "rnn generate": Action("CFG WEIGHTS", _rnn_generate),
}


def run_action(name: str, arguments: Sequence[str]) -> int:
    """Runs an action, "detector test", with what follows its name. Returns the exit status.

    Raises:
        DarknetError: words are missing, or a flag is wrong.
    """
    action, words = ACTIONS[name], split(arguments)
    if len(words.plain) < action.minimum:
        raise DarknetError(f"usage: python -m darknet_py {name} {action.usage}")
    return action.run(words)
