"""What the documents say of the code is true: the map of the code, and the files that they name."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import CFGS, ROOT

from darknet_py.cfg import parse_cfg
from darknet_py.layers import NetOptions
from darknet_py.options import cfg_name, meaning_of

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


# The recipes of the cfgs, in docs/TRAINING.md

TRAINING_WORDS = {cfg_name(field) for field in dataclasses.fields(NetOptions) if meaning_of(field).use == "training"}


def recipe(cfg: str) -> dict[str, str]:
    """What the [net] of a cfg of the project says about training."""
    options = parse_cfg(CFGS / f"{cfg}.cfg").sections[0].options
    return {option.key: str(option.value) for option in options if option.key in TRAINING_WORDS}


def table(first_line: str) -> list[list[str]]:
    """The cells of the rows of a table of docs/TRAINING.md, below its two lines of names, without back quotes."""
    text = (ROOT / "docs" / "TRAINING.md").read_text(encoding="utf-8")
    rows = text.split(f"{first_line}")[1].split("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows if row]


def test_the_table_of_recipes_is_what_the_cfgs_write() -> None:
    names = [cell for cell in table("compares the table with\nthem):\n\n")[0] if cell]
    written: dict[str, dict[str, str]] = {name: {} for name in names}
    for word, *cells in table("compares the table with\nthem):\n\n")[2:]:
        for name, cell in zip(names, cells, strict=True):
            written[name] |= {word: cell} if cell else {}
    assert written == {name: recipe(name) for name in names}


def test_other_sizes_differ_from_the_table_as_their_list_says() -> None:
    rows = table("| cfg | as | but |\n|---|---|---|\n")
    for cfg, other, text in rows:
        changed = dict(re.findall(r"(\w+)=([^`]+)`", f"`{text}`"))
        left_out = set(re.findall(r"no `(\w+)", text))
        expected = {key: value for key, value in (recipe(other) | changed).items() if key not in left_out}
        assert recipe(cfg) == expected, cfg
    with_epochs = {path.stem for path in CFGS.glob("*.cfg") if "\nepochs=" in path.read_text(encoding="utf-8")}
    named = table("compares the table with\nthem):\n\n")[0]
    assert with_epochs <= {row[0] for row in rows} | set(named), "a recipe that no table has"


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
