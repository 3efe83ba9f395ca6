"""Makes words.json: what the C program's words for weights files (`rescale`, `average` …) write and print.

    python tests/golden/words/make.py /path/to/darknet

The executable is AlexeyAB/darknet at 59596d7, built for the CPU. Of files, the SHA-256 is kept: they must be the same
bytes. What the program does beyond its memory is left out (see darknet_py/rewriting.py).
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "words.json"
SEEN = (1003, 50)  # training images of the first and the second file: no whole iterations
IN_MEMORY = {  # the cfgs for which the C program stays in its memory
    "rescale": ("images", "one_filter", "gru", "lstm", "rnn"),
    "rgbgr": ("images", "one_filter", "gru", "lstm", "rnn"),
    "normalize": ("images", "one_filter", "gru", "lstm", "rnn"),
    "average": ("images", "one_filter", "gru", "lstm", "rnn"),
    "reset": ("one_filter", "gru", "lstm", "rnn"),
    "denormalize": ("one_filter", "lstm", "rnn"),
    "statistics": ("images", "one_filter", "gru", "lstm", "rnn"),
    "ops": ("images", "one_filter", "lstm", "rnn"),
}


def write_files(cfg: Path, folder: Path) -> list[Path]:
    """Two weights files of random values from 0.25 to 1.25."""
    from darknet_py.cfg import parse_cfg
    from darknet_py.network import Network
    from darknet_py.weights import weights_size

    floats = (weights_size(Network(parse_cfg(cfg))) - 20) // 4
    files = [folder / "1.weights", folder / "2.weights"]
    for seed, (path, seen) in enumerate(zip(files, SEEN, strict=True)):
        values = np.random.default_rng(seed).random(floats, np.float32) + np.float32(0.25)
        path.write_bytes(struct.pack("<3iQ", 0, 2, 5, seen) + values.astype("<f4").tobytes())
    return files


def words(word: str, cfg: Path, files: list[Path], out: Path) -> list[str]:
    """The command line of a word."""
    if word == "average":
        return [word, str(cfg), str(out), *map(str, files)]
    return [word, str(cfg), str(files[0]), str(out)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(program: str) -> None:
    results: dict[str, dict[str, str | list[str]]] = {}
    for word, names in IN_MEMORY.items():
        results[word] = {}
        for name in names:
            with tempfile.TemporaryDirectory() as temporary:
                cfg, out = HERE / f"{name}.cfg", Path(temporary, "out")
                files = write_files(cfg, Path(temporary))
                line = [str(Path(program).resolve()), *words(word, cfg, files, out)]
                done = subprocess.run(line, capture_output=True, text=True, check=True)
                printed = done.stdout.split("(0 Kilo-batches_64) \n")[-1].split("train = 1 \n")[-1]
                results[word][name] = digest(out) if out.exists() else printed.split("\n")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[2]))
    main(*sys.argv[1:])
