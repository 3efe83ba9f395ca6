"""The examples run, from any folder, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from project import ROOT, python

EXAMPLES = sorted(ROOT.glob("examples/*.py"))
ARGUMENTS = {"finetune.py": ("5",)}  # fewer iterations
PRINTED = {
    "detect.py": r"shapes\.png:\n(  (circle|cross|square|triangle) 0\.\d\d  .*\n){4,}objects in a grey array: 0\n",
    "features.py": r"layer 61: \(2, 512, 10, 10\)\nlayer 81: \(2, 255, 5, 5\)\nlogits: \(2, 10\)\n",
    "finetune.py": r"your own loss: ([\d.]+) -> ([\d.]+); .*\nDarknet's loss: [\d.]+ -> [\d.]+\n",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_example_runs(example: Path, tmp_path: Path) -> None:
    done = python(example, *ARGUMENTS.get(example.name, ()), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    match = re.search(PRINTED[example.name], done.stdout)
    assert match, done.stdout
    if example.name == "finetune.py":
        assert float(match[2]) < float(match[1])
        assert (tmp_path / "student.weights").is_file()
