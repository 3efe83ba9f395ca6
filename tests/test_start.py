"""What needs no network is answered without the seconds that PyTorch takes to import."""

from __future__ import annotations

import ast
import importlib
import json
from argparse import Action, ArgumentParser
from pathlib import Path
from typing import NamedTuple

import pytest
from project import ROOT, python

from darknet_py.darknet_words import ACTIONS

PACKAGE = ROOT / "darknet_py"
HEAVY = ("torch", "numpy", "cv2")
CALLS = """if True:
    import contextlib, importlib, io, json, sys
    from darknet_py.command import run_command

    def call(module, arguments):
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                status = run_command(lambda: importlib.import_module(f"darknet_py.{module}").main(arguments))
            except SystemExit as end:
                status = end.code
        return {"status": status, "out": out.getvalue(), "error": error.getvalue(), "modules": list(sys.modules)}

    print(json.dumps([call(*words) for words in json.load(sys.stdin)]))
"""
FILES = {
    ("cfg", "--cfg"): "cfg/shapes.cfg", ("weights", "--weights", "files"): "weights/shapes.weights",
    ("data", "--data"): "shapes.data", ("--names",): "cfg/shapes.names", ("sources",): "weights/shapes.png",
    ("--tokens",): "words",
}  # fmt: skip
FILE_OF = {name: file for names, file in FILES.items() for name in names}


def doors() -> list[str]:
    """The modules of the package that are commands: those with a `parser` and a `main`."""
    found = []
    for path in sorted(PACKAGE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if {"parser", "main"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            found.append(path.stem)
    return found


class Answer(NamedTuple):
    """What a command gave: its exit status, and what it printed."""

    status: int
    out: str
    error: str


def answers(folder: Path, *calls: tuple[str, list[str]]) -> list[Answer]:
    """What commands answer, one after another in a process of their own, none of which imports PyTorch."""
    done = python("-c", CALLS, cwd=folder, stdin=json.dumps(calls))
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    for words, answer in zip(calls, given, strict=True):
        assert not set(HEAVY) & set(answer["modules"]), words
    return [Answer(answer["status"], answer["out"], answer["error"]) for answer in given]


def parser_of(door: str) -> ArgumentParser:
    result: ArgumentParser = importlib.import_module(f"darknet_py.{door}").parser()
    return result


@pytest.mark.parametrize("door", doors())
def test_help(door: str, tmp_path: Path) -> None:
    (answer,) = answers(tmp_path, (door, ["--help"]))
    assert answer.status == 0
    assert answer.out.startswith(f"usage: python -m darknet_py.{door}")


@pytest.mark.parametrize("door", doors())
def test_wrong_options_values_and_words(door: str, tmp_path: Path) -> None:
    """An unknown option; and for each option that has choices or a type, a word that it cannot be."""
    options = [one for one in parser_of(door)._actions if one.option_strings and (one.choices or one.type)]
    calls = [["--no-such-option"], *([one.option_strings[0], "no,such:word"] for one in options)]
    calls = [[*words, *good_arguments(door)] for words in calls]
    for words, answer in zip(calls, answers(tmp_path, *((door, words) for words in calls)), strict=True):
        assert answer.status == 2, words
        assert words[0] in answer.error, words


@pytest.mark.parametrize("door", doors())
def test_missing_arguments(door: str, tmp_path: Path) -> None:
    if not any(one.required and one.nargs != "*" for one in parser_of(door)._actions):
        pytest.skip("this command needs no argument")
    (answer,) = answers(tmp_path, (door, ["--"]))
    assert answer.status == 2
    assert "the following arguments are required" in answer.error


def name_of(argument: Action) -> str:
    """`--weights`, or `weights` of an argument without hyphens."""
    return argument.option_strings[-1] if argument.option_strings else argument.dest


def good_arguments(door: str, gone: str = "") -> list[str]:
    """A command line of files that are there; gone: the argument whose file is not."""
    words: list[str] = []
    for argument in parser_of(door)._actions:
        name = name_of(argument)
        if name in FILE_OF or argument.required:
            file = "gone.file" if name == gone else FILE_OF.get(name, f"new.{argument.dest}")
            words += [*argument.option_strings[-1:], file]
    return words


@pytest.mark.parametrize("door", doors())
def test_files_that_are_not_there(door: str, tmp_path: Path) -> None:
    (tmp_path / "shapes.data").write_text("classes=6\ntrain=list\nvalid=list\n")
    (tmp_path / "words").write_text("a\nb\n")
    names = [name for name in map(name_of, parser_of(door)._actions) if name in FILE_OF]
    if not names:
        pytest.skip("this command reads no file")
    calls = [(door, good_arguments(door, name)) for name in names]
    for name, answer in zip(names, answers(tmp_path, *calls), strict=True):
        assert answer.status == (1 if name == "sources" else 2), name
        assert answer.error.startswith("error: gone.file: cannot read this"), name


def test_the_list_of_commands_and_darknets_command_lines(tmp_path: Path) -> None:
    lists = answers(tmp_path, ("__main__", []), ("__main__", ["--help"]), ("__main__", ["detcet"]))
    assert [answer.status for answer in lists] == [0, 0, 2]
    assert "Darknet's own command lines" in lists[0].out
    calls = []
    for name, action in ACTIONS.items():
        words = ["3" if word == "N" else f"gone.{word}" for word in action.usage.split("[")[0].split()]
        calls += [name.split(), [*name.split(), "-no_such_flag"], [*name.split(), *words]]
    for words, answer in zip(calls, answers(tmp_path, *(("__main__", words) for words in calls)), strict=True):
        assert answer.status == 2, words
        assert "Traceback" not in answer.error, words
        assert "error:" in answer.error, words


def test_the_list_of_official_weights(tmp_path: Path) -> None:
    (answer,) = answers(tmp_path, ("download", ["--list"]))
    assert "yolov3" in answer.out


@pytest.mark.parametrize("module", ["", ".cfg", ".options", ".names", ".errors", ".files", ".official", ".downloading"])
def test_what_a_program_can_use_without_pytorch(module: str, tmp_path: Path) -> None:
    done = python("-c", f"import sys, darknet_py{module}; print(*sys.modules)", cwd=tmp_path)
    assert not set(HEAVY) & set(done.stdout.split()), done.stderr


def test_what_does_the_work_is_imported_to_last() -> None:
    count, outside = 0, []
    for door in (*doors(), "darknet_words"):
        tree = ast.parse((PACKAGE / f"{door}.py").read_text(encoding="utf-8"))
        blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
        inside = {id(node) for block in blocks if ast.unparse(block.items[0]) == "lasting()" for node in block.body}
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset]
        late = [node for node in imports if (node.module or "").startswith("darknet_py.")]
        outside += [f"{door}: {node.module}" for node in late if id(node) not in inside]
        count += len(late)
    assert not outside
    assert count > len(doors())


def test_threads_of_a_command_sleep_while_they_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "TRUE")  # OpenMP's library prints what it goes by
    done = python("-m", "darknet_py.summary", ROOT / "cfg" / "shapes.cfg", cwd=tmp_path)
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("PyTorch has no OpenMP here")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    done = python("-m", "darknet_py.summary", ROOT / "cfg" / "shapes.cfg", cwd=tmp_path)
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in done.stderr
