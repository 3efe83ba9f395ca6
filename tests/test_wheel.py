"""From the wheel, outside the project: the command, the bundled model, and the cfg and names files that come along."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import CFGS, ROOT

import darknet_py

SOURCES = ("darknet_py", "cfg", "weights", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_folder_with_python_files_is_a_package_of_the_wheel() -> None:
    listed = {name for name in setup_cfg()["options"]["packages"].split() if ".share." not in name}
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "darknet_py").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} == listed


def test_the_version_has_one_source() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: darknet_py.__version__"
    assert f'__version__ = "{darknet_py.__version__}"' in (ROOT / "darknet_py" / "__init__.py").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the wheel installs it, and nothing else."""
    project, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:  # pip builds in the folder, so it gets a copy
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = project / "dist"
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, project], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def run(installed: Path, cwd: Path, *command: str | Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_detect_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import darknet_py; print(darknet_py.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    printed = run(installed, tmp_path, "-m", "darknet_py.detect").splitlines()
    assert {line.split(":")[0] for line in printed if line.endswith("%")} == {"circle", "cross", "square", "triangle"}
    assert [path.name for path in tmp_path.glob("runs/detect-1/*")] == ["shapes.png"]


@pytest.mark.slow
def test_darknets_words_find_the_bundled_files(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "darknet_py"
    (tmp_path / "shapes.data").write_text("classes=4\nnames=cfg/shapes.names\n")
    model = ("cfg/shapes.cfg", "weights/shapes.weights", "weights/shapes.png")
    printed = run(installed, tmp_path, command, "detector", "test", "shapes.data", *model, "-dont_show")
    assert "circle: " in printed
    assert (tmp_path / "predictions.jpg").is_file()


@pytest.mark.slow
def test_every_cfg_of_the_project_comes_along(installed: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in CFGS.iterdir())
    assert sorted(path.name for path in (installed / "darknet_py" / "share" / "cfg").iterdir()) == names
    code = "import darknet_py; print(darknet_py.load('cfg/yolov3-tiny.cfg').cfg.path)"
    assert Path(run(installed, tmp_path, "-c", code).strip()).is_relative_to(installed)
