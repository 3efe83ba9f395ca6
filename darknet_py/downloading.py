"""Downloads one weights file: resumes what an earlier run left, retries when a connection breaks, checks size and hash.

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
TIMEOUT = 30.0  # seconds without data until a connection counts as lost
SLOW_AFTER, SLOWEST = 120.0, 1000  # seconds, and bytes a second, below which a server is given up
MAX_BYTES = 1 << 34  # of a file
RETRIES = 5  # after a lost connection; the count starts again whenever the file has grown
MAX_PAUSE = 30.0  # seconds; the pauses before retries are 1, 2, 4, 8 …
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that a retry may cure
AGENT = "darknet_py"  # pjreddie.com answers Python's own name with 403


class _AddressError(DownloadError):
    """This address does not give the file; another one may."""


class _LostError(Exception):
    """A connection that broke, or a busy server: try again."""


class _StaleError(Exception):
    """The partial file here is of another file than the server's: start over."""


def download(
    what: str | Official,
    folder: str | os.PathLike[str] = "weights",
    *,
    mirror: str | None = None,
    force: bool = False,
    retries: int = RETRIES,
    progress: bool = True,
) -> Path:
    """Downloads a file unless it is there already, and checks it.

    Args:
        what: the name of an official file, an http(s) address, or a record of your own:
            `Official(name, file, url, size, sha256)`.
        folder: where the file goes; created if missing.
        mirror: address of a folder that holds the official files under their names; used instead of theirs.
        force: download again even if the file exists; it is replaced once the new one is right.
        retries: after a lost connection; each resumes where the one before stopped.
        progress: show a bar on stderr, if that is a terminal, and a line for each retry.

    Returns:
        The path of the file, complete and checked as far as size and hash are known.

    Raises:
        DownloadError: unknown name, no connection, no such file, a wrong size or hash, a different file in its place,
            or a full disk. An interrupted download stays in `NAME.part`.
    """
    official = what if isinstance(what, Official) else find_official(what)
    path = Path(folder) / official.file
    addresses = [official.url, *official.mirrors]
    if mirror is not None and not (isinstance(what, str) and "://" in what):
        addresses = [f"{mirror.rstrip('/')}/{official.file}"]
    for address in addresses:
        check_address(address)
    try:
        return _Download(official, path, force=force, retries=retries, progress=progress).run(addresses)
    except OSError as error:
        raise DownloadError(f"{path}: cannot write this file: {error.strerror or error}") from None


def part_of(path: Path) -> Path:
    """Where a file's data goes while it is being downloaded."""
    return path.with_name(path.name + ".part")


def resume_note(part: Path) -> str:
    """Tells the user that the partial file stays."""
    return f"{_megabytes(part.stat().st_size)} are kept in {part}; run the same command again to resume"


class _Download:
    """One file being downloaded.

    Beside NAME.part lies NAME.part.from: the address, and the ETag (or date) and size that the file had there. They are
    compared with those of the answer to a Range request, which is safer than If-Range: some servers ignore that.
    """

    def __init__(self, official: Official, path: Path, *, force: bool, retries: int, progress: bool) -> None:
        self.official = official
        self.path = path
        self.part = part_of(path)
        self.source = self.part.with_name(self.part.name + ".from")
        self.force = force
        self.retries = retries
        self.progress = progress
        self.received = False  # something has arrived in this run: the address works, a lost connection may come back

    def run(self, addresses: Iterable[str]) -> Path:
        """Tries the addresses in turn."""
        official = self.official
        if not self.force and self.path.exists() and (official.size is not None or official.hashes):
            self._keep_or_refuse(_problem(self.path, official))
            return self.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        problems = []
        for address in addresses:
            try:
                if self._fetch(address):
                    self._finish(address)
                return self.path
            except _AddressError as problem:
                problems.append(str(problem))
        raise DownloadError("; ".join(problems))

    def _keep_or_refuse(self, problem: str | None) -> None:
        if problem is not None:
            raise DownloadError(
                f"{self.path}: a different file is there already ({problem}); rename it, or replace it with --force"
            )
        self._report(f"{self.path}: already there")

    def _fetch(self, address: str) -> bool:
        """Receives until the partial file is complete; False if the file at its path turned out to be the right one."""
        failures, furthest = 0, self._part_size()
        while True:
            try:
                return self._receive(address)
            except _StaleError:
                self.part.unlink()
            except _LostError as lost:
                failures = 1 if self._part_size() > furthest else failures + 1
                furthest = max(furthest, self._part_size())
                if failures > self.retries:
                    kept = f"; {resume_note(self.part)}" if self._part_size() else ""
                    raise _AddressError(f"{address}: {lost}; {self.retries} retries did not help{kept}") from None
                pause = min(2.0 ** (failures - 1), MAX_PAUSE)
                self._report(f"{self.path.name}: {lost}; retrying in {pause:.0f} s")
                time.sleep(pause)

    def _receive(self, address: str) -> bool:
        """One connection. True: the partial file is complete; False: the file at its path is the right one."""
        offset, version = self._resume_point(address)
        size = self.official.size
        if offset and offset == size:
            return True
        with self._open(address, offset) as response:
            if response.status == 416 and offset:  # the server's file is no longer than the part
                if size is None and response.headers.get("Content-Range", "").strip() == f"bytes */{offset}":
                    return True
                raise _StaleError
            self._check_answer(address, response)
            start, total = _extent(response)
            current = f"{response.headers.get('ETag') or response.headers.get('Last-Modified') or ''} {total}"
            if start not in (0, offset):
                if not offset:
                    raise _AddressError(f"{address}: the server sends a part of the file that was not requested")
                raise _StaleError
            if start and version not in (None, current):  # the server's file has changed since the part began
                raise _StaleError
            if None not in (size, total) and size != total:
                raise _AddressError(
                    f"{address}: the file there has {total} bytes, but {size} are expected; has it been replaced?"
                )
            if size is None and not self.official.hashes and not self.force and self.path.exists():
                have = self.path.stat().st_size
                server_size = "an unknown number" if total is None else total
                self._keep_or_refuse(None if have == total else f"{have} bytes, the server's has {server_size}")
                return False
            expected = size if total is None else total
            if not start:
                self.part.unlink(missing_ok=True)
            self._check_disk((expected or 0) - start)
            if not start:
                self.source.write_text(f"{address}\n{current}\n", encoding="utf-8")
            self._write(address, response, start, expected)
        return True

    def _part_size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _resume_point(self, address: str) -> tuple[int, str | None]:
        """Bytes that are here already, and the version of their file (None: unknown; the hash will tell)."""
        have = self._part_size()
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
            raise _AddressError(f"{address}: this is not a valid address") from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            passing = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError, HTTPException)
            if self.received or isinstance(reason, passing):
                raise _LostError(f"no connection ({_one_line(reason)})") from None
            raise _AddressError(f"{address}: no connection ({_one_line(reason)})") from None

    def _check_answer(self, address: str, response: Any) -> None:
        """Refuses what is not a file."""
        if response.status in BUSY:
            raise _LostError(f"the server answers {response.status} {_one_line(response.reason)}")
        if response.status not in (200, 206):
            raise _AddressError(f"{address}: the server answers {response.status} {_one_line(response.reason)}")
        asked, given = urlsplit(address), urlsplit(response.geturl())
        if given.scheme not in ("http", "https"):
            raise _AddressError(f"{address}: redirects to {response.geturl()}, which is not a web address")
        if asked.scheme == "https" != given.scheme:
            raise _AddressError(f"{address}: redirects to {response.geturl()}, which is not encrypted")
        if asked.hostname != given.hostname and not self.official.hashes:  # a hash tells whether it is the right file
            text = f"redirects to {response.geturl()}, another host; if that is right, give this address"
            raise _AddressError(f"{address}: {text}")
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _AddressError(f"{address}: the server sends a web page instead of the file; has the file moved?")

    def _check_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.path}: {_megabytes(needed)} are needed, but only {_megabytes(free)} are free; "
                "free some space, or choose another folder with --out"
            )

    def _write(self, address: str, response: Any, start: int, expected: int | None) -> None:
        disable = None if self.progress else True  # None: shown if stderr is a terminal
        bar = tqdm(total=expected, initial=start, unit="B", unit_scale=True, desc=self.path.name, disable=disable)
        done, began = start, time.monotonic()
        with bar, open(self.part, "ab") as file:
            while chunk := _read(response):
                file.write(chunk)
                self.received = True
                done += len(chunk)
                bar.update(len(chunk))
                if done > MAX_BYTES:
                    raise _AddressError(f"{address}: the server sends more than {_megabytes(MAX_BYTES)}")
                seconds = time.monotonic() - began
                if seconds > SLOW_AFTER and done - start < SLOWEST * seconds:
                    raise _AddressError(f"{address}: the server sends less than {SLOWEST} bytes a second")
                if expected is not None and done > expected:
                    raise _AddressError(f"{address}: the server sends more than the expected {expected} bytes")
        if expected is not None and done < expected:
            raise _LostError(f"the connection broke at {_megabytes(done)} of {_megabytes(expected)}")

    def _finish(self, address: str) -> None:
        """Gives the file its name if it is right; else removes it."""
        problem = _problem(self.part, self.official)
        if problem is not None:
            self.part.unlink()
            self.source.unlink(missing_ok=True)
            raise _AddressError(
                f"{address}: not the expected file ({problem}); it has been removed, try again; "
                "if that does not help, the file has been replaced there"
            )
        os.replace(self.part, self.path)
        self.source.unlink(missing_ok=True)

    def _report(self, text: str) -> None:
        if self.progress:
            tqdm.write(text, file=sys.stderr)


def _read(response: Any) -> bytes:
    try:
        data: bytes = response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _LostError(f"the connection broke ({_one_line(error)})") from None
    return data


def _extent(response: Any) -> tuple[int, int | None]:
    """(byte at which the answer begins, size of the whole file); a beginning of -1 if the server does not say."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match is None:
            return -1, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _problem(path: Path, official: Official) -> str | None:
    """What is wrong with a file; None: nothing, as far as that can be known."""
    size = path.stat().st_size
    if not size:
        return "it is empty"
    if official.size is not None and size != official.size:
        return f"{size} bytes, not {official.size}"
    for algorithm, expected in official.hashes:
        actual = _hash(path, algorithm)
        if actual != expected.lower():
            return f"its {algorithm} is {actual}, not {expected.lower()}"
    return None


def _hash(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm.replace("-", ""))
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _one_line(error: object) -> str:
    """An error's text, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
