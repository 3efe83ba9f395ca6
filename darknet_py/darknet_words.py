"""The C program's command language: `detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh 0.25`.

Each action translates Darknet's words and flags into the arguments of one of this package's commands, and runs that.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from darknet_py.bundled import or_bundled
from darknet_py.cfg import parse_cfg
from darknet_py.choices import REWRITES
from darknet_py.command import check_files, lasting
from darknet_py.errors import CfgError, DarknetError
from darknet_py.pictures.addresses import is_address
from darknet_py.pictures.sources import file_name
from darknet_py.text import printable, whole_number

# Darknet's flags that take no value.
SWITCHES = (
    "-benchmark", "-benchmark_layers", "-clear", "-cuda_debug_sync", "-dont_show", "-dontdraw_bbox", "-dontuse_opencv",
    "-ext_output", "-letter_box", "-map", "-nocolor", "-nogpu", "-save_labels", "-show", "-show_imgs", "-tokenized",
    "-topk", "-verbose",
)  # fmt: skip
# Darknet's flags that are followed by a value.
VALUES = (
    "-avgframes", "-c", "-chart", "-file", "-gpus", "-height", "-hier", "-http_post_host", "-i", "-iou_thresh",
    "-json_file_output", "-json_port", "-len", "-mAP_epochs", "-mjpeg_port", "-nms", "-num_of_clusters", "-out",
    "-out_filename", "-points", "-prefix", "-s", "-seed", "-srand", "-t", "-temp", "-thresh", "-time_limit_sec",
    "-tokens", "-width",
)  # fmt: skip
# Flags that every action heeds: no window opens unless it is asked for; hank-ai's -nocolor and -verbose ask for what is
# so anyway.
EVERYWHERE = "-dont_show -nocolor -verbose"
# Flags whose work is not done here, and the other way. What an action does not heed, in Darknet or here, gets a note.
REFUSED = {
    "-benchmark": "write python -m darknet_py.benchmark --cfg CFG",
    "-benchmark_layers": "write python -m darknet_py.benchmark --cfg CFG",
    "-http_post_host": "nothing is posted; -json_port serves each frame's detections, -json_file_output writes them",
    "-show_imgs": "write python -m darknet_py.train … --show-batches N",
}
REASONS = {  # for the notes
    "-avgframes": "Darknet's demo delays the pictures by it, but averages no detections",
    "-hier": "Darknet reads it and uses 0.5",
    "-s": "Darknet detects in each frame, too; every frame is shown and written",
    "-chart": "chart.png is in the backup folder",
}

QUESTION = "Enter Image Path: "  # where the command line names no image
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
    """`-i N`: GPU N as in Darknet, whose build without CUDA takes the CPU, too; -1: the CPU."""
    if "-nogpu" in words.flags:
        return ["--device", "cpu"]
    if "-i" not in words.flags:
        return []
    number = words.flags["-i"]
    if whole_number(number.removeprefix("-")) is None:
        raise DarknetError(f"option -i {number}: write the number of a GPU, or -1 for the CPU")
    if number.startswith("-"):
        return ["--device", "cpu"]
    import torch

    if not torch.cuda.is_available():
        print(f"note: -i {number}: there is no GPU; the CPU is used", file=sys.stderr)
        return ["--device", "cpu"]
    return ["--device", number]


def _detect(words: Words, model: list[str], source: str, **defaults: str) -> int:
    """`defaults`: values of flags that this action has of its own."""
    from darknet_py import detect

    arguments = [
        *model,
        *words.options(thresh="-thresh", nms="-nms", json="-out", frames="-prefix", time_limit="-time_limit_sec"),
        *words.options(json="-json_file_output", mjpeg_port="-mjpeg_port", json_port="-json_port"),
        *words.switches(letterbox="-letter_box", ext_output="-ext_output", show="-show", no_boxes="-dontdraw_bbox"),
        *_device(words),
    ]
    for name, value in defaults.items():
        if f"-{name}" not in words.flags:
            arguments += [f"--{name}", value]
    args = detect.parser().parse_args([*arguments, "--", source])
    labels = _label_file if "-save_labels" in words.flags else None
    save_as = words.flags.get("-out_filename", "predictions.jpg")
    return detect.start(args, save_as=save_as, labels=labels, json_lines=False, question=QUESTION)


def _label_file(image: str) -> str:
    """Where Darknet's -save_labels writes: beside the image, or where training looks for its label."""
    with lasting():
        from darknet_py.data.labels import replace_image_to_label

    path = replace_image_to_label(file_name(image) if is_address(image) else image)
    return path if path.endswith(".txt") else os.path.splitext(path)[0] + ".txt"


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

    arguments = [*_data_model(words), *words.options(top="-t"), *_device(words), "--", words.word(3, "-")]
    return classify.main(arguments, question=QUESTION)


def _classifier_valid(words: Words) -> int:
    from darknet_py import evaluate

    return evaluate.main([*words.plain[:3], *_device(words)])


def _train(words: Words) -> int:
    from darknet_py import train

    switches = ["--darknet-lines", *words.switches(map="-map", clear="-clear"), *["--map"] * ("-topk" in words.flags)]
    if "-mAP_epochs" in words.flags:
        switches += ["--map-every", str(_map_every(words))]
    gpus = [gpu for gpu in words.flags.get("-gpus", "").split(",") if gpu]
    if None in map(whole_number, gpus):
        raise DarknetError(f"option -gpus {words.flags['-gpus']}: write GPUs' numbers, e.g. -gpus 0,1")
    if len(gpus) > 1:
        return _train_on_gpus(gpus, [*words.plain[:3], *switches, *_device(words)])
    if gpus:
        words.flags.setdefault("-i", gpus[0])
    return train.main([*words.plain[:3], *switches, *_device(words)])


def _map_every(words: Words) -> int:
    """-mAP_epochs as iterations (detector.c:train_detector)."""
    with lasting():
        from darknet_py.data.dataset import open_dataset
        from darknet_py.layers import NetOptions
        from darknet_py.options import read_options
        from darknet_py.training.run import MIN_MAP_ITERATIONS

    data, cfg = words.plain[:2]
    epochs = words.flags["-mAP_epochs"]
    every = whole_number(epochs)
    if not every:
        raise DarknetError(f"option -mAP_epochs {epochs}: write a whole number of at least 1")
    parsed = parse_cfg(cfg)
    batch = read_options(NetOptions, parsed, parsed.sections[0]).batch
    return max(every * len(open_dataset(data, "train")) // max(batch, 1), MIN_MAP_ITERATIONS)


def _train_on_gpus(gpus: list[str], arguments: list[str]) -> int:
    """A process for each GPU."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}"]
    return subprocess.call([*torchrun, "-m", "darknet_py.train", *arguments], env=environment)


def _rnn_train(words: Words) -> int:
    from darknet_py import train

    text = words.flags.get("-file", "data/shakespeare.txt")
    switches = ["--darknet-lines", *words.switches(clear="-clear", tokenized="-tokenized")]
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
    from darknet_py import convert

    cfg, weights, out, cutoff = words.plain[:4]
    count = whole_number(cutoff)
    if not count:
        raise DarknetError(f"partial: '{cutoff}' is not a number of layers; write how many layers to keep")
    return convert.main(["--cfg", cfg, "--out", out, "--cutoff", cutoff, "--", weights])


def _average(words: Words) -> int:
    from darknet_py import convert

    cfg, out, *files = words.plain
    return convert.main(["--cfg", cfg, "--out", out, "--", *files])


def _rewrite(operation: str) -> Callable[[Words], int]:
    """What a word of the form `WORD CFG WEIGHTS OUT` does."""

    def action(words: Words) -> int:
        from darknet_py import convert

        cfg, weights, out = words.plain[:3]
        return convert.main(["--cfg", cfg, "--out", out, "--apply", operation, "--", weights])

    return action


def _oneoff(words: Words) -> int:
    cfg, weights, out = words.plain[:3]
    check_files(cfg, weights)
    with lasting():
        from darknet_py.rewriting import oneoff, with_header

    network = with_header(oneoff(cfg, weights))
    network.save_weights(out)
    print(network.layers[-2].options.filters)
    return 0


def _statistics(words: Words) -> int:
    check_files(*words.plain[:2])
    with lasting():
        from darknet_py.network import load
        from darknet_py.rewriting import statistics

    print(statistics(load(*words.plain[:2])))
    return 0


def _ops(words: Words) -> int:
    cfg = parse_cfg(words.plain[0])
    with lasting():
        from darknet_py.network import Network
        from darknet_py.rewriting import operations

    count = operations(Network(cfg))
    print(f"Floating Point Operations: {count}\nFloating Point Operations: {count / 1e9:.2f} Bn")
    return 0


class Action(NamedTuple):
    """What follows the action's name on the command line, what runs it, and the flags that it heeds beside EVERYWHERE;
    [WORD]: may be missing."""

    usage: str
    run: Callable[[Words], int]
    flags: str = ""

    @property
    def minimum(self) -> int:
        """Words that must be there."""
        return len(self.usage.split("[")[0].split())

    @property
    def maximum(self) -> float:
        """Words that it reads."""
        return math.inf if "…" in self.usage else len(re.sub(r"\[-.*?\]", "", self.usage).split())


TEST = "-i -nogpu -thresh -nms -out -out_filename -letter_box -ext_output -save_labels -show"
DEMO = (
    "-i -nogpu -thresh -nms -out_filename -json_file_output -prefix -letter_box -ext_output -show -dontdraw_bbox "
    "-mjpeg_port -json_port -time_limit_sec -c"
)
ACTIONS = {
    "detector test": Action("DATA CFG WEIGHTS [IMAGE]", _detector_test, TEST),
    "detector demo": Action("DATA CFG WEIGHTS [VIDEO]", _detector_demo, DEMO),
    "detector train": Action("DATA CFG [WEIGHTS]", _train, "-map -mAP_epochs -clear -gpus -i -nogpu"),
    "detector map": Action("DATA CFG WEIGHTS", _detector_map, "-thresh -iou_thresh -points -i -nogpu"),
    "detector valid": Action("DATA CFG WEIGHTS", _detector_valid, "-out -i -nogpu"),
    "detector recall": Action("DATA CFG WEIGHTS", _detector_recall, "-i -nogpu"),
    "detector calc_anchors": Action("DATA", _calc_anchors, "-num_of_clusters -width -height"),
    "detect": Action("CFG WEIGHTS [IMAGE]", _detect_words, TEST),
    "classifier train": Action("DATA CFG [WEIGHTS]", _train, "-topk -clear -gpus -i -nogpu"),
    "classifier valid": Action("DATA CFG WEIGHTS", _classifier_valid, "-i -nogpu"),
    "classifier predict": Action("DATA CFG WEIGHTS [IMAGE]", _classifier_predict, "-t -i -nogpu"),
    "yolo test": Action("CFG WEIGHTS [IMAGE]", _yolo_test, TEST),
    "yolo demo": Action("CFG WEIGHTS [VIDEO]", _yolo_demo, DEMO),
    "partial": Action("CFG WEIGHTS OUT N", _partial),
    "average": Action("CFG OUT WEIGHTS [WEIGHTS …]", _average),
    **{word: Action("CFG WEIGHTS OUT", _rewrite(word)) for word in REWRITES},
    "oneoff": Action("CFG WEIGHTS OUT", _oneoff),
    "statistics": Action("CFG WEIGHTS", _statistics),
    "ops": Action("CFG", _ops),
    "rnn train": Action("CFG [WEIGHTS] [-file TEXT]", _rnn_train, "-file -clear -tokenized -i -nogpu"),
    "rnn generate": Action("CFG WEIGHTS", _rnn_generate, "-seed -len -temp -tokens -srand"),
}


def run_action(name: str, arguments: Sequence[str]) -> int:
    """Runs an action, "detector test", with what follows its name. Returns the exit status.

    Raises:
        DarknetError: words are missing, or a flag is wrong.
    """
    action, words = ACTIONS[name], split(arguments)
    if len(words.plain) < action.minimum:
        raise DarknetError(f"usage: python -m darknet_py {name} {action.usage}")
    if len(words.plain) > action.maximum:
        first = printable(words.plain[int(action.maximum)])
        print(f"note: '{name}' reads {action.usage}; {first} and what follows it have no effect", file=sys.stderr)
    for flag in [flag for flag in words.flags if flag not in f"{action.flags} {EVERYWHERE}".split()]:
        if flag in REFUSED:
            raise DarknetError(f"option {flag}: {REFUSED[flag]}")
        reason = f": {REASONS[flag]}" if flag in REASONS else ""
        print(f"note: {flag} has no effect on '{name}'{reason}", file=sys.stderr)
        del words.flags[flag]
    return action.run(words)
