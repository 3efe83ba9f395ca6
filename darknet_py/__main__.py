"""`python -m darknet_py …`: the list of commands, and Darknet's own command line, word for word.

python -m darknet_py detector test cfg/coco.data cfg/yolov3.cfg yolov3.weights dog.jpg -thresh 0.25 -ext_output
"""

from __future__ import annotations

import difflib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from darknet_py.command import run_command
from darknet_py.errors import DarknetError

COMMANDS = {
    "detect": "find objects in pictures, videos and streams",
    "train": "train a network as its cfg says",
    "evaluate": "mAP as Darknet, VOC or COCO has it",
    "anchors": "anchors that fit a data set",
    "check": "look a data set over before training",
    "classify": "name what pictures show",
    "generate": "let a character network write text",
    "summary": "print a cfg's layer table",
    "download": "fetch official weights",
    "shapes": "draw the bundled model's pictures",
    "benchmark": "measure speed, side by side",
}

WORDS = {
    "detector test": "DATA CFG WEIGHTS [IMAGE]",
    "detector demo": "DATA CFG WEIGHTS [VIDEO]",
    "detector train": "DATA CFG [WEIGHTS]",
    "detector map": "DATA CFG WEIGHTS",
    "detector valid": "DATA CFG WEIGHTS",
    "detector recall": "DATA CFG WEIGHTS",
    "detector calc_anchors": "DATA",
    "detect": "CFG WEIGHTS [IMAGE]",
    "classifier train": "DATA CFG [WEIGHTS]",
    "classifier predict": "DATA CFG WEIGHTS [IMAGE]",
    "yolo test": "CFG WEIGHTS [IMAGE]",
    "yolo demo": "CFG WEIGHTS [VIDEO]",
    "partial": "CFG WEIGHTS OUT N",
    "rnn train": "CFG [WEIGHTS] [-file TEXT]",
    "rnn generate": "CFG WEIGHTS",
}

# Darknet's options: whether a value follows. Those that say nothing here are known and have no effect.
FLAGS = dict.fromkeys(
    (
        "-dont_show",
        "-ext_output",
        "-letter_box",
        "-save_labels",
        "-show",
        "-benchmark",
        "-nogpu",
        "-dontdraw_bbox",
        "-map",
        "-clear",
        "-tokenized",
        "-show_imgs",
    ),
    False,
)
FLAGS |= dict.fromkeys(
    ("-thresh", "-nms", "-hier", "-out", "-out_filename", "-json_file_output", "-c", "-i", "-gpus", "-t", "-len", "-temp", "-srand", "-seed",
     "-tokens", "-s", "-prefix", "-avgframes", "-mjpeg_port", "-json_port", "-width", "-height", "-iou_thresh", "-points", "-num_of_clusters",
     "-chart", "-file"), True,
)  # fmt: skip

VOC_NAMES = "cfg/voc.names"


class Words(NamedTuple):
    """A Darknet command line: the words in order, and the options."""

    plain: list[str]
    options: dict[str, str]

    def word(self, index: int, otherwise: str) -> str:
        return self.plain[index] if len(self.plain) > index else otherwise

    def passed(self, **names: str) -> list[str]:
        """`thresh="-thresh"` → ["--thresh", value] where the user wrote `-thresh value`."""
        return [
            part
            for ours, theirs in names.items()
            if theirs in self.options
            for part in (f"--{ours}", self.options[theirs])
        ]


def split(arguments: Sequence[str]) -> Words:
    """Darknet takes its options out of the line wherever they stand."""
    plain: list[str] = []
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-") or argument == "-":
            plain.append(argument)
        elif argument not in FLAGS:
            closest = difflib.get_close_matches(argument, FLAGS, n=1)
            raise DarknetError(f"option {argument} is not known" + (f"; did you mean {closest[0]}?" if closest else ""))
        elif FLAGS[argument]:
            value = next(rest, None)
            if value is None:
                raise DarknetError(f"option {argument} needs a value")
            options[argument] = value
        else:
            options[argument] = ""
    return Words(plain, options)


def _device(words: Words) -> list[str]:
    if "-nogpu" in words.options:
        return ["--device", "cpu"]
    if "-i" in words.options:
        return ["--device", f"cuda:{words.options['-i']}" if words.options["-i"].isdigit() else "cpu"]
    return []


def _detect(words: Words, model: list[str], sources: list[str], **defaults: str) -> int:
    from darknet_py import detect

    arguments = [*model, *words.passed(thresh="-thresh", nms="-nms", json="-out", out="-prefix")]
    if "-json_file_output" in words.options:
        arguments += ["--json", words.options["-json_file_output"]]
    for ours, theirs in (
        ("--letterbox", "-letter_box"),
        ("--ext-output", "-ext_output"),
        ("--txt", "-save_labels"),
        ("--show", "-show"),
    ):
        arguments += [ours] if theirs in words.options else []
    arguments += _device(words)
    for key, value in defaults.items():
        if f"-{key}" not in words.options:
            arguments += [f"--{key}", value]
    given = detect.parser().parse_args([*arguments, "--", *sources])
    return detect.start(given, save_as=words.options.get("-out_filename", "predictions.jpg"))


def _detector_test(words: Words) -> int:
    data, cfg, weights = words.plain[:3]
    return _detect(words, ["--data", data, "--cfg", cfg, "--weights", weights], [words.word(3, "-")])


def _demo(words: Words, model: list[str], source: str, **defaults: str) -> int:
    words.options.setdefault("-out_filename", "")
    return _detect(words, model + ([] if words.options["-out_filename"] else ["--no-pictures"]), [source], **defaults)


def _detector_demo(words: Words) -> int:
    data, cfg, weights = words.plain[:3]
    return _demo(
        words, ["--data", data, "--cfg", cfg, "--weights", weights], words.word(3, words.options.get("-c", "0"))
    )


def _detect_words(words: Words) -> int:
    cfg, weights = words.plain[:2]
    data = ["--data", "cfg/coco.data"] if Path("cfg/coco.data").is_file() else []
    return _detect(words, [*data, "--cfg", cfg, "--weights", weights], [words.word(2, "-")], thresh="0.24")


def _yolo_model(words: Words) -> list[str]:
    cfg, weights = words.plain[:2]
    names = ["--names", VOC_NAMES] if Path(VOC_NAMES).is_file() else []
    return [*names, "--cfg", cfg, "--weights", weights]


def _yolo_test(words: Words) -> int:
    return _detect(words, _yolo_model(words), [words.word(2, "-")], thresh="0.2", nms="0.4")


def _yolo_demo(words: Words) -> int:
    return _demo(words, _yolo_model(words), words.word(2, words.options.get("-c", "0")), thresh="0.2", nms="0.4")


def _classifier_predict(words: Words) -> int:
    from darknet_py import classify

    data, cfg, weights = words.plain[:3]
    return classify.main(
        ["--data", data, "--cfg", cfg, "--weights", weights, *words.passed(top="-t"), "--", words.word(3, "-")]
    )


def _train(words: Words) -> int:
    from darknet_py import train

    switches = [f"--{name}" for name in ("map", "clear") if f"-{name}" in words.options]
    gpus = words.options.get("-gpus", "").split(",")
    if len(gpus) > 1:
        return _train_on_several(gpus, [*words.plain[:3], *switches, *_device(words)])
    if gpus[0]:
        words.options.setdefault("-i", gpus[0])
    return train.main([*words.plain[:3], *switches, *_device(words)])


def _rnn_train(words: Words) -> int:
    from darknet_py import train

    text = words.options.get("-file", "data/shakespeare.txt")
    switches = [f"--{name}" for name in ("clear", "tokenized") if f"-{name}" in words.options]
    return train.main([text, *words.plain[:2], *switches, "--out", "backup", *_device(words)])


def _train_on_several(gpus: list[str], arguments: list[str]) -> int:
    """A process for each of these GPUs."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}"]
    return subprocess.call([*torchrun, "-m", "darknet_py.train", *arguments], env=environment)


def _measured(words: Words) -> list[str]:
    """The words that map, valid and recall share."""
    return [*words.plain[:3], *_device(words)]


def _detector_map(words: Words) -> int:
    """Here Darknet overlooks -letter_box; what the cfg says counts."""
    from darknet_py import evaluate

    options = words.passed(**{"thresh": "-thresh", "iou-thresh": "-iou_thresh", "points": "-points"})
    return evaluate.main([*_measured(words), *options])


def _detector_valid(words: Words) -> int:
    from darknet_py import evaluate

    return evaluate.valid_main([*_measured(words), *words.passed(out="-out")])


def _detector_recall(words: Words) -> int:
    from darknet_py import evaluate

    return evaluate.recall_main(_measured(words))


def _calc_anchors(words: Words) -> int:
    from darknet_py import anchors

    sides = [words.options[f"-{side}"] for side in ("width", "height") if f"-{side}" in words.options]
    size = ["--size", "x".join(sides)] if sides else []
    words.options.setdefault("-num_of_clusters", "5")
    return anchors.main([words.plain[0], *size, *words.passed(clusters="-num_of_clusters"), "--out", "."])


def _rnn_generate(words: Words) -> int:
    from darknet_py import generate

    cfg, weights = words.plain[:2]
    options = words.passed(seed="-seed", length="-len", temperature="-temp", tokens="-tokens") + words.passed(
        **{"random-seed": "-srand"}
    )
    return generate.main(["--cfg", cfg, "--weights", weights, *options])


def _partial(words: Words) -> int:
    """The layers before N, as a file to train others from (darknet.c:partial)."""
    from darknet_py.cfg import parse_cfg
    from darknet_py.network import Network
    from darknet_py.weights import load_weights, save_weights

    cfg, weights, out, cutoff = words.plain[:4]
    if not cutoff.isdigit() or not int(cutoff):
        raise DarknetError(f"partial: '{cutoff}' is not the number of a layer; write how many layers to keep")
    network = Network(parse_cfg(cfg))
    if int(cutoff) > len(network.layers):
        raise DarknetError(f"partial: {cfg} has {len(network.layers)} layers, there are no {cutoff} to keep")
    load_weights(network, weights, cutoff=int(cutoff))
    save_weights(network, out, cutoff=int(cutoff), seen=0)
    print(f"the layers before {cutoff} of {weights} are in {out}")
    return 0


ACTIONS: dict[str, Callable[[Words], int]] = {
    "detector test": _detector_test,
    "detector demo": _detector_demo,
    "detector train": _train,
    "detector map": _detector_map,
    "detector valid": _detector_valid,
    "detector recall": _detector_recall,
    "detector calc_anchors": _calc_anchors,
    "detect": _detect_words,
    "classifier train": _train,
    "classifier predict": _classifier_predict,
    "yolo test": _yolo_test,
    "yolo demo": _yolo_demo,
    "partial": _partial,
    "rnn train": _rnn_train,
    "rnn generate": _rnn_generate,
}


def usage() -> str:
    ours = "\n".join(f"  python -m darknet_py.{name:10} {text}" for name, text in COMMANDS.items())
    theirs = "\n".join(f"  python -m darknet_py {words} {rest}" for words, rest in WORDS.items())
    return (
        f"Darknet's .cfg models in PyTorch.\n\ncommands (each with --help):\n{ours}\n\nDarknet's own words:\n{theirs}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    two = " ".join(given[:2])
    name = two if two in ACTIONS else given[0]
    is_ours = name in COMMANDS and (name not in ACTIONS or any(part.startswith("--") for part in given))
    if is_ours:
        return int(importlib.import_module(f"darknet_py.{name}").main(given[1:]))
    if name not in ACTIONS:
        known = [*COMMANDS, *ACTIONS]
        closest = difflib.get_close_matches(two, known, n=1) or difflib.get_close_matches(given[0], known, n=1)
        raise DarknetError(
            f"'{two}' is not a command"
            + (f"; did you mean '{closest[0]}'?" if closest else "; see python -m darknet_py --help")
        )
    words = split(given[len(name.split()) :])
    if len(words.plain) < WORDS[name].split("[")[0].count(" ") + (not WORDS[name].endswith("]")):
        raise DarknetError(f"usage: python -m darknet_py {name} {WORDS[name]}")
    return ACTIONS[name](words)


if __name__ == "__main__":
    sys.exit(run_command(main))
