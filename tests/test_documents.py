"""What the documents say of the code is true: the map of the code, and the files that they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import ROOT

PACKAGE = ROOT / "darknet_py"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / ".pre-commit-config.yaml"])


def map_rows() -> list[list[str]]:
    """CONTRIBUTING's list of the package's modules and folders, line by line."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.split("    darknet_py/\n")[1].split("\n    cfg/")[0]
    return [re.split(r" {3,}", line[6:])[0].split() for line in block.splitlines() if re.match(r" {6}\S", line)]


def imports(path: Path) -> Iterator[str]:
    """The modules and folders of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "darknet_py":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("darknet_py."):
            yield str(node.module).split(".")[1]


def test_the_map_names_every_module_and_folder_of_the_package() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(name for row in map_rows() for name in row) == sorted(files | folders)


def test_imports_point_downwards_in_the_map() -> None:
    line_of = {name.rstrip("/"): line for line, row in enumerate(map_rows()) for name in row}
    for path in sorted(PACKAGE.rglob("*.py")):
        line = line_of[path.relative_to(PACKAGE).with_suffix("").parts[0]]
        assert not [name for name in imports(path) if line_of.get(name, line) < line], path


def test_only_the_lists_of_commands_import_a_command() -> None:
    lists, commands = map_rows()[1:3]
    others = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in lists]
    assert not [path for path in others if set(imports(path)) & set(commands)]


def test_nothing_imports_the_stand_ins_for_other_programs() -> None:
    others = [path for path in sorted(PACKAGE.rglob("*.py")) if "compat" not in path.parts]
    assert not [path for path in others if "compat" in imports(path)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = re.findall(r"\b(?:tests|darknet_py|docs|examples)/[\w./-]*[\w/]", document.read_text(encoding="utf-8"))
    assert not [name for name in named if not (ROOT / name).exists() and "NAME" not in name]
