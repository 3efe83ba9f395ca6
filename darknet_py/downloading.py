"""Downloads a weights file and checks it: resumes what an earlier run left, and retries when a connection breaks.

    path = download("yolov3")                                   # weights/yolov3.weights

The data goes to `NAME.part`, which a later run resumes, and gets its name only when size and hash are right.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from darknet_py.official import DownloadError, Official, check_address, find_official

CHUNK = 1 << 16  # bytes read at once
TIMEOUT = 30.0  # seconds without a byte until a connection counts as lost
RETRIES = 5  # new tries after a lost connection; counted anew whenever the file has grown
LONGEST_PAUSE = 30.0  # seconds; the pauses before new tries are 1, 2, 4, 8 …
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that another try may improve
AGENT = "darknet_py"  # pjreddie.com answers Python's own name with 403


class _AddressError(DownloadError):
    """This address does not give the file; another one may."""


class _LostError(Exception):
    """A connection that broke off, or a busy server: try again."""


class _StaleError(Exception):
    """The part that is here is of another file than the server's: begin anew."""


def download(
    what: str | Official,
    folder: str | os.PathLike[str] = "weights",
    *,
    mirror: str | None = None,
    force: bool = False,
    retries: int = RETRIES,
    progress: bool = True,
) -> Path:
    """Fetches a file, unless it is there already, and checks it.

    Args:
        what: a name of the table, an http(s) address, or a record of your own: `Official(name, file, url, size, sha256)`.
        folder: where the file shall lie; made if it is not there.
        mirror: address of a folder that holds the official files under their names, used in place of theirs.
        force: a file that lies there already is fetched again, and replaced when the new one is right.
        retries: new tries after a lost connection, each going on where the one before stopped.
        progress: a bar on stderr, if that is a terminal, and a line for each new try.

    Returns:
        The path of the file, complete and checked as far as size and hash are known.

    Raises:
        DownloadError: unknown name, no connection, no such file, a wrong size or hash, another file in its place, no room on the
            disk; what came of an interrupted download stays in `NAME.part`.
    """
    official = what if isinstance(what, Official) else find(what)
    place = Path(folder) / official.file
    addresses = [official.url, *official.mirrors]
    if mirror is not None and not (isinstance(what, str) and "://" in what):
        addresses = [f"{mirror.rstrip('/')}/{official.file}"]
    for address in addresses:
        _check_address(address)
    try:
        return _Download(official, place, force=force, retries=retries, progress=progress).run(addresses)
    except OSError as error:
        raise DownloadError(f"{place}: cannot write this file: {error.strerror or error}") from None


def part_of(place: Path) -> Path:
    """Where a file lies while it comes."""
    return place.with_name(place.name + ".part")


class _Download:
    """One file on its way to its place.

    Beside NAME.part lies NAME.part.from: the address, and the ETag (or date) and size that the file had there. They are compared
    with those of the answer to a Range request, which says more than If-Range: some servers do not know that.
    """

    def __init__(self, official: Official, place: Path, *, force: bool, retries: int, progress: bool) -> None:
        self.official = official
        self.place = place
        self.part = part_of(place)
        self.source = self.part.with_name(self.part.name + ".from")
        self.force = force
        self.retries = retries
        self.progress = progress
        self.moving = False  # something has come in this run: the address is right, a failing connection may come back

    def run(self, addresses: Iterable[str]) -> Path:
        official = self.official
        if not self.force and self.place.exists() and (official.size is not None or official.hashes):
            self._keep_or_refuse(_problem(self.place, official))
            return self.place
        self.place.parent.mkdir(parents=True, exist_ok=True)
        problems = []
        for address in addresses:
            try:
                if self._fetch(address):
                    self._finish(address)
                return self.place
            except _AddressError as problem:
                problems.append(str(problem))
        raise DownloadError("; ".join(problems))

    def _keep_or_refuse(self, problem: str | None) -> None:
        if problem is not None:
            raise DownloadError(
                f"{self.place}: another file lies there ({problem}); rename it, or replace it with --force"
            )
        self._say(f"{self.place}: already there")

    def _fetch(self, address: str) -> bool:
        """Until the part is whole; False where the file at its place turned out to be the right one."""
        failures, furthest = 0, self._have()
        while True:
            try:
                return self._receive(address)
            except _StaleError:
                self.part.unlink()
            except _LostError as lost:
                failures = 1 if self._have() > furthest else failures + 1
                furthest = max(furthest, self._have())
                if failures > self.retries:
                    kept = f"; {_kept(self.part)}" if self._have() else ""
                    raise _AddressError(f"{address}: {lost}; {self.retries} more tries did not help{kept}") from None
                pause = min(2.0 ** (failures - 1), LONGEST_PAUSE)
                self._say(f"{self.place.name}: {lost}; trying again in {pause:.0f} s")
                time.sleep(pause)

    def _receive(self, address: str) -> bool:
        """One connection. True: the part is whole; False: the file at its place is the right one."""
        offset, version = self._resume_point(address)
        if offset and offset == self.official.size:
            return True
        with self._open(address, offset) as response:
            if response.status == 416 and offset:  # the file there ends before our part, or with it
                if (
                    response.headers.get("Content-Range", "").strip() == f"bytes */{offset}"
                    and self.official.size is None
                ):
                    return True
                raise _StaleError
            self._check_answer(address, response)
            start, total = _extent(response)
            current = f"{response.headers.get('ETag') or response.headers.get('Last-Modified') or ''} {total}"
            if start not in (0, offset):
                if not offset:
                    raise _AddressError(f"{address}: the server sends a part of the file that was not asked for")
                raise _StaleError
            if start and version not in (None, current):  # the file there has changed since the part began
                raise _StaleError
            size = self.official.size
            if None not in (size, total) and size != total:
                raise _AddressError(
                    f"{address}: the file there has {total} bytes, but {size} are expected; has it been replaced?"
                )
            if size is None and not self.official.hashes and not self.force and self.place.exists():
                have = self.place.stat().st_size
                self._keep_or_refuse(
                    None if have == total else f"{have} bytes, the server's has {'?' if total is None else total}"
                )
                return False
            expected = size if total is None else total
            if not start:
                self.part.unlink(missing_ok=True)
            self._check_room((expected or 0) - start)
            if not start:
                self.source.write_text(f"{address}\n{current}\n", encoding="utf-8")
            self._write(address, response, start, expected)
        return True

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _resume_point(self, address: str) -> tuple[int, str | None]:
        """Bytes that are here already, and the version of the file that they are of (None: unknown; then the hash will tell)."""
        have = self._have()
        if not have or (self.official.size is not None and have > self.official.size):
            return 0, None
        lines = self.source.read_text(encoding="utf-8", errors="replace").split("\n") if self.source.exists() else []
        if len(lines) > 1 and lines[0] == address:
            return have, lines[1]
        return (have, None) if self.official.hashes else (0, None)

    def _open(self, address: str, offset: int) -> Any:
        """The server's answer, whatever its status."""
        headers = {"User-Agent": AGENT, "Accept": "*/*"} | ({"Range": f"bytes={offset}-"} if offset else {})
        try:
            return urlopen(Request(address, headers=headers), timeout=TIMEOUT)
        except HTTPError as error:
            return error
        except (InvalidURL, UnicodeError):
            raise _AddressError(f"{address}: not a right address") from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            passing = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError, HTTPException)
            if self.moving or isinstance(reason, passing):
                raise _LostError(f"no connection ({_words(reason)})") from None
            raise _AddressError(f"{address}: no connection ({_words(reason)})") from None

    def _check_answer(self, address: str, response: Any) -> None:
        """Refuses what is not a file."""
        if response.status in BUSY:
            raise _LostError(f"the server answers {response.status} {_words(response.reason)}")
        if response.status not in (200, 206):
            raise _AddressError(f"{address}: the server answers {response.status} {_words(response.reason)}")
        if urlsplit(response.geturl()).scheme not in ("http", "https"):
            raise _AddressError(f"{address}: leads to {response.geturl()}, which is no http address")
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _AddressError(f"{address}: the server sends a web page in place of the file; has the file moved?")

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.place.parent).free
        if needed > free:
            raise DownloadError(f"{self.place}: {_megabytes(needed)} are needed, {_megabytes(free)} are free there; "
                                "make room, or choose another folder with --out")  # fmt: skip

    def _write(self, address: str, response: Any, start: int, expected: int | None) -> None:
        hidden = None if self.progress else True  # None: shown if stderr is a terminal
        bar = tqdm(total=expected, initial=start, unit="B", unit_scale=True, desc=self.place.name, disable=hidden)
        done = start
        with bar, open(self.part, "ab") as file:
            while chunk := _read(response):
                file.write(chunk)
                self.moving = True
                done += len(chunk)
                bar.update(len(chunk))
                if expected is not None and done > expected:
                    raise _AddressError(f"{address}: more came than the {expected} bytes that are expected")
        if expected is not None and done < expected:
            raise _LostError(f"the connection broke off at {_megabytes(done)} of {_megabytes(expected)}")

    def _finish(self, address: str) -> None:
        """Into its place, if it is right; else away with it."""
        problem = _problem(self.part, self.official)
        if problem is not None:
            self.part.unlink()
            self.source.unlink(missing_ok=True)
            raise _AddressError(f"{address}: not the expected file ({problem}); what came is removed, try again; if it stays so, "
                               "the file has been replaced there")  # fmt: skip
        os.replace(self.part, self.place)
        self.source.unlink(missing_ok=True)

    def _say(self, text: str) -> None:
        if self.progress:
            tqdm.write(text, file=sys.stderr)


def _read(response: Any) -> bytes:
    try:
        data: bytes = response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _LostError(f"the connection broke off ({_words(error)})") from None
    return data


def _extent(response: Any) -> tuple[int, int | None]:
    """(byte at which the answer begins, bytes of the whole file); a beginning of -1 where the server does not say."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None:
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _problem(path: Path, official: Official) -> str | None:
    """What is wrong with a file; None where nothing is, as far as that is known."""
    size = path.stat().st_size
    if size == 0 or (official.size is not None and size != official.size):
        return f"{size} bytes, not {official.size or 'more'}"
    for kind, expected in official.hashes:
        found = _hash(path, kind)
        if found != expected.lower():
            return f"its {kind} is {found}, not {expected.lower()}"
    return None


def _hash(path: Path, kind: str) -> str:
    digest = hashlib.new(kind.replace("-", ""))
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _words(error: object) -> str:
    """What went wrong, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]


def _kept(part: Path) -> str:
    return f"{_megabytes(part.stat().st_size)} are kept in {part}, the same command goes on from there"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
