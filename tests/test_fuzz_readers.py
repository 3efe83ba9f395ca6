"""Files that a search led by coverage makes, one reader after the other, are read or refused with one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile import CASES, READERS, kind_of, write_good_files
from project import environment
from random_cases import LONGER


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(READERS))
def test_no_file_that_a_search_finds_ends_in_another_error(kind: str, tmp_path: Path) -> None:
    """Half a minute for each kind of file, from the hostile files that are known; see support/fuzzing.py."""
    pytest.importorskip("atheris")
    (tmp_path / "found").mkdir()
    (tmp_path / "known").mkdir()
    for path in CASES:
        if kind_of(path) == kind and path.stat().st_size < 20_000:
            (tmp_path / "known" / path.name).write_bytes(path.read_bytes())
    write_good_files(kind, tmp_path / "known")
    script = Path(__file__).parent / "support" / "fuzzing.py"
    limits = [
        f"-max_total_time={30 * LONGER}",
        "-timeout=60",
        "-rss_limit_mb=6000",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    # A process begins with the peak memory of the one that starts it, here of all tests before: a shell is in between.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(script), kind, "found", "known", *limits],
        cwd=tmp_path, env=environment(), capture_output=True, timeout=120 + 60 * LONGER,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
