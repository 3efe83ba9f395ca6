"""Each invalid cfg in cfg_bad/ is refused with the message beside it: file, line, section, option, what is wrong.

`NAME.expected` holds the message for `NAME.cfg`. `python tests/test_cfg_bad.py` rewrites them all: check the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from darknet_py.cfg import parse_cfg
from darknet_py.errors import CfgError
from darknet_py.network import Network

FOLDER = Path(__file__).parent / "cfg_bad"
CFGS = sorted(path.stem for path in FOLDER.glob("*.cfg"))


def refusal(name: str) -> str:
    """The error message in the cfg's folder."""
    with pytest.raises(CfgError) as error:
        Network(parse_cfg(f"{name}.cfg"))
    return str(error.value)


@pytest.mark.parametrize("name", CFGS)
def test_a_mistake_is_refused_with_its_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    assert refusal(name) == (FOLDER / f"{name}.expected").read_text(encoding="utf-8").rstrip("\n")


def test_every_sentence_has_its_mistake() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.expected")) == CFGS
    assert len(CFGS) >= 35


if __name__ == "__main__":
    os.chdir(FOLDER)
    for name in CFGS:
        Path(f"{name}.expected").write_text(refusal(name) + "\n", encoding="utf-8")
