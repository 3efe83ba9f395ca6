"""Writes docs/PARITY.md: every comparison with the C program that the kit allows, and the worst difference.

    python tests/conformance/parity.py > docs/PARITY.md

Needs the conformance kit (`kit.py`). A comparison beyond its tolerance is written as FAILED, with the reason.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

import test_decode
import test_detector_map
import test_forward
import test_layer_table
import test_real
import test_training
from kit import cases

TORCH = torch.__version__.split("+")[0]
HEAD = f"""# Parity with the C program

Every comparison that the conformance kit allows, as measured on {TORCH} (CPU, float32). Written by
`python tests/conformance/parity.py > docs/PARITY.md`; the same comparisons run as tests, with the tolerances given
here.

The kit is output of AlexeyAB/darknet 59596d7 and pjreddie/darknet f6afaab, CPU builds. It is not part of the
project: without it, `pytest tests/golden` compares small networks with the numbers in tests/golden.
"""


def section(title: str, about: str, columns: str, names: list[str], measure: Callable[[str], str]) -> None:
    print(f"\n## {title}\n\n{about}\n\n| {columns} |\n|{'---|' * (columns.count('|') + 1)}")
    for name in names:
        try:
            result = measure(name)
        except AssertionError as error:
            result = f"FAILED: {str(error).splitlines()[0][:150]}"
        print(f"| {name} | {result} |", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    print(HEAD)

    def table(name: str) -> str:
        count = test_layer_table.table_case(name)
        return f"{count:,} values equal" if count else "the C program stops (see forward_pjreddie); ours builds"

    section(
        "Layer table",
        "Every value that the program parsed or derived for every layer: shapes, sizes, sources, BFLOPs, "
        "parameters, options.",
        "cfg | result",
        cases("layers", "*.json"),
        table,
    )
    for kind, about in (
        (
            "forward",
            "Recipe weights, random input. Largest difference of a head's values, relative to its largest value; "
            f"every other layer agrees by its digest. Tolerance {test_forward.TOLERANCE:g}, cspx-p7-mish "
            f"{test_forward.LOOSER['cspx-p7-mish']:g} (activations grow to about 100): the kit's own advice. The "
            "xnor networks were run through the library with `gpu_index` left at 0, which inverts packed bits for a "
            "GPU that is not there; they are compared with that inversion applied to our weights.",
        ),
        (
            "forward_pjreddie",
            "The same, run by pjreddie's program; its CPU batch norm divides by sqrt(variance) + 1e-6, which is "
            "applied by adjusting the variance.",
        ),
    ):
        section(
            f"Forward pass ({kind})",
            about,
            "cfg | worst difference",
            cases(kind, "*.npz"),
            lambda name, kind=kind: f"{test_forward.forward_case(kind, name, folder):.1e}",
        )
    section(
        "Decoding and suppression",
        "Detections of those networks, eight settings each (threshold, suppression, letterbox, pixels). Largest "
        "difference of a coordinate, relative to it or to the size of the image; tolerance "
        f"{test_decode.TOLERANCE:g}.",
        "cfg | worst difference",
        cases("decode", "*.json"),
        lambda name: f"{test_decode.decode_case(name, folder):.1e}",
    )

    def real(name: str) -> str:
        results = [test_real.real_case(name, letterbox) for letterbox in (False, True)]
        return f"{sum(count for count, _ in results):,} | {max(worst for _, worst in results):.1e}"

    section(
        "Real models on real images",
        "Seven images as the program decoded them, stretched and letterboxed, thresholds .25 and .005, default "
        "suppression and the cfg's own: all the same boxes, classes and probabilities. Largest difference of a "
        f"probability or a relative coordinate; tolerance {test_real.TOLERANCE:g}.",
        "model | detections | worst difference",
        cases("real/expected", "*.json"),
        real,
    )

    def training(name: str) -> str:
        worst = test_training.training_case(name)
        looser = test_training.LOOSER.get(name)
        return " | ".join(f"{worst[key]:.1e}" for key in ("delta", "update", "after1", "after5")) + (
            f" | {looser}" if looser else " | "
        )

    limits = f"{test_training.DELTA:g}, {test_training.UPDATE:g}, {test_training.WEIGHTS:g}, {test_training.WEIGHTS:g}"
    section(
        "Training steps",
        "Deltas and update buffers of the first step, relative to the largest; weights after one and five updates, "
        f"relative to the largest change. Tolerances {limits}; the last column names those that are looser, the "
        "reasons stand in tests/conformance/test_training.py.",
        "case | deltas | updates | after 1 | after 5 | looser",
        cases("training", "*.npz"),
        training,
    )

    def mean_average_precision(name: str) -> str:
        model, letter_box = name.split(", ")
        with tempfile.TemporaryDirectory() as place:
            test_detector_map.test_the_kits_runs_of_detector_map(Path(place), model, int(letter_box.split("=")[1]))
        return "mAP, AP of each class, TP, FP, FN, average IoU: every printed digit equal"

    section(
        "detector map",
        "From the pixels as the program decoded them; each with several thresholds and ways to take the area.",
        "model, letter_box | result",
        [f"{model}, letter_box={box}" for model, box in test_detector_map.kit_runs()],
        mean_average_precision,
    )


if __name__ == "__main__":
    main()
