"""The snippets of docs/MIGRATING.md: after the change they run; before it they fail, for want of what they import."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import CFGS, ROOT, environment

TEXT = (ROOT / "docs/MIGRATING.md").read_text(encoding="utf-8")
SNIPPETS = {
    (kind, name): code
    for kind, name, code in re.findall(
        r"<!-- (before|after|script): ([\w-]+) -->\n```python\n(.*?)```", TEXT, re.DOTALL
    )
}
AFTER = [
    (("after", "opencv"), ("script", "opencv")),
    (("after", "opencv-install"), ("script", "opencv")),
    (("after", "opencv-native"),),
    (("after", "darknet"), ("script", "darknet")),
    (("after", "darknet"), ("script", "darknet-old")),
    (("after", "pjreddie"), ("script", "pjreddie")),
]
BEFORE = [
    (("before", "opencv"), ("script", "opencv"), "readNetFromDarknet"),
    (("before", "darknet"), ("script", "darknet"), "No module named 'darknet'"),
    (("before", "pjreddie"), ("script", "pjreddie"), "No module named 'darknet'"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the snippets name: the bundled model and its image under these names."""
    shutil.copy(CFGS / "shapes.cfg", tmp_path / "yolov3.cfg")
    shutil.copy(ROOT / "weights/shapes.weights", tmp_path / "yolov3.weights")
    shutil.copy(ROOT / "weights/shapes.png", tmp_path / "dog.jpg")
    shutil.copy(CFGS / "shapes.names", tmp_path / "coco.names")
    (tmp_path / "coco.data").write_text("classes=6\nnames=coco.names\n")
    return tmp_path


def run(parts: tuple[tuple[str, str], ...], folder: Path) -> subprocess.CompletedProcess[str]:
    code = "\n".join(SNIPPETS[part] for part in parts)
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)


def test_every_snippet_is_run() -> None:
    run_here = {part for parts in AFTER for part in parts} | {part for *parts, _ in BEFORE for part in parts}
    assert set(SNIPPETS) == run_here
    assert TEXT.count("```python") == len(SNIPPETS)


@pytest.mark.parametrize("parts", AFTER, ids=lambda parts: "+".join(name for _, name in parts))
def test_after_the_change_it_finds_the_objects(parts: tuple[tuple[str, str], ...], folder: Path) -> None:
    result = run(parts, folder)
    assert result.returncode == 0, result.stderr
    assert re.search(r"circle|^0 0\.9", result.stdout, re.MULTILINE), result.stdout


@pytest.mark.parametrize(
    ("first", "script", "words"), BEFORE, ids=lambda part: part[-1] if isinstance(part, tuple) else ""
)
def test_before_the_change_it_fails(first: tuple[str, str], script: tuple[str, str], words: str, folder: Path) -> None:
    result = run((first, script), folder)
    if result.returncode == 0:
        pytest.skip("this environment has what the old script imports (OpenCV 4, or a darknet.py)")
    assert words in result.stderr
