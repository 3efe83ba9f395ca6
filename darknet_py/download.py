"""Official weights files into `weights/`: stands before the flow begins, and nothing else needs it.

    python -m darknet_py.download yolov3 darknet53.conv.74      # → weights/yolov3.weights, weights/darknet53.conv.74
    python -m darknet_py.download --list                        # what there is

    path = download("yolov3")                                   # the same from Python

What comes is written to `NAME.part`, which a later run goes on with, and gets its name only when its size and its hash are right.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from darknet_py.command import INTERRUPTED, MISTAKE, run_command
from darknet_py.errors import DarknetError

CHUNK = 1 << 16  # bytes read at once
TIMEOUT = 30.0  # seconds without a byte until a connection counts as lost
RETRIES = 5  # new tries after a lost connection; counted anew whenever the file has grown
LONGEST_PAUSE = 30.0  # seconds; the pauses before new tries are 1, 2, 4, 8 …
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that another try may improve
AGENT = "darknet_py"  # pjreddie.com answers Python's own name with 403


class DownloadError(DarknetError):
    """A file that cannot be downloaded; the text says from where, why, and what to do."""


class _AddressError(DownloadError):
    """This address does not give the file; another one may."""


class _LostError(Exception):
    """A connection that broke off, or a busy server: try again."""


class _StaleError(Exception):
    """The part that is here is of another file than the server's: begin anew."""


class Official(NamedTuple):
    """One file of the table below. What is not known is None; nothing here is guessed.

    Attributes:
        name: what the user types.
        file: its name in the folder.
        url: where its project publishes it.
        size: bytes.
        sha256: hexadecimal.
        cfg: this project's cfg that it belongs to.
        note: where size and hash come from.
        cutoff: for a backbone, what `load(…, cutoff=)` wants.
        sha512: where that is documented and SHA-256 is not.
        mirrors: addresses of copies, used when `url` fails; only for files whose hash is known.
    """

    name: str
    file: str
    url: str
    size: int | None = None
    sha256: str | None = None
    cfg: str = ""
    note: str = ""
    cutoff: int | None = None
    sha512: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def hashes(self) -> list[tuple[str, str]]:
        """Kind and value of those that are known."""
        return [
            (kind, value) for kind, value in (("SHA-256", self.sha256), ("SHA-512", self.sha512)) if value is not None
        ]


# Joseph Redmon's files. Older texts name PJREDDIE_OLD, which has led to a web page since April 2025 (pjreddie/darknet issue 2655);
# the site's own pages (pjreddie/pjreddie.github.io, _darknet/yolo/yolo.md and imagenet.md) have named PJREDDIE since then.
PJREDDIE = "https://data.pjreddie.com/files/"
PJREDDIE_OLD = "https://pjreddie.com/media/files/"
ALEXEYAB = "https://github.com/AlexeyAB/darknet/releases/download/"
HANK_AI = "https://github.com/hank-ai/darknet/releases/download/v2.0/"  # "the same weights" (hank-ai/darknet issue 21)

FILES: tuple[Official, ...] = (
    Official(
        "yolov1", "yolov1.weights", PJREDDIE + "yolov1/yolov1.weights", 789312988,
        "df414df832ed10e3f2788df1e0e0ae573976573b97b5eec2c824ab9e5a8ae6d6", "cfg/yolov1.cfg",
        "size: that of the cfg with the old 16-byte header, and documented so for darkflow; SHA-256: the downloader of "
        "PurdueDualityLab/TensorFlowModels (yolo/utils/file_manager.py), one source",
        mirrors=(PJREDDIE_OLD + "yolov1/yolov1.weights",),
    ),
    Official(
        "yolov2", "yolov2.weights", PJREDDIE + "yolov2.weights", 203934260,
        "d9945162ed6f54ce1a901e3ec537bdba4d572ecae7873087bd730e5a7942df3f", "cfg/yolov2.cfg",
        "size: that of the cfg with the old 16-byte header, and logs of downloads; SHA-256: PurdueDualityLab/TensorFlowModels, "
        "a recipe of LG's for Yocto (darknet-ros) and Git LFS pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov2.weights", HANK_AI + "yolov2.weights"),
    ),
    Official(
        "yolov2-voc", "yolov2-voc.weights", PJREDDIE + "yolov2-voc.weights", 202704264, None, "cfg/yolov2-voc.cfg",
        "size: computed from the cfg with a 20-byte header (AMD's Dockerfile for darkflow, which knows 16-byte headers only, "
        "cuts 4 bytes off this file); no hash found",
    ),
    Official(
        "yolov2-tiny", "yolov2-tiny.weights", PJREDDIE + "yolov2-tiny.weights", 44948600, None, "cfg/yolov2-tiny.cfg",
        "size: computed from the cfg, and documented so for darkflow; SHA-512: vcpkg's port of darknet (2020). A recipe of LG's "
        "for Yocto gives SHA-256 16f4e870f1aed83f0089cb69bfda6b53cb7b2a4a01721be56eaf5c899dfac45f for leggedrobotics' copy",
        sha512="f0857a7a02cf4322354d288c9afa0b87321b23082b719bc84ea64e2f3556cc1f"
        "afeb836ee5bf9fb6dcf448839061b93623a067dfde7afa1338636865ea88989a",
        mirrors=(PJREDDIE_OLD + "yolov2-tiny.weights",),
    ),
    Official(
        "yolov3", "yolov3.weights", PJREDDIE + "yolov3.weights", 248007048,
        "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297", "cfg/yolov3.cfg",
        "size: computed from the cfg, and documented widely (Streamlit's demo); SHA-256: Emgu CV, AUR's zmeventnotification and "
        "Git LFS pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov3.weights", HANK_AI + "yolov3.weights"),
    ),
    Official(
        "yolov3-spp", "yolov3-spp.weights", PJREDDIE + "yolov3-spp.weights", 252209544,
        "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4", "cfg/yolov3-spp.cfg",
        "size: computed from the cfg; SHA-256: Emgu CV and PurdueDualityLab/TensorFlowModels agree",
        mirrors=(PJREDDIE_OLD + "yolov3-spp.weights",),
    ),
    Official(
        "yolov3-tiny", "yolov3-tiny.weights", PJREDDIE + "yolov3-tiny.weights", 35434956,
        "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c", "cfg/yolov3-tiny.cfg",
        "size: computed from the cfg, and the Git LFS pointer of Hugging Face ggml-org/models; SHA-256: that pointer, Emgu CV and "
        "AUR's zmeventnotification agree",
        mirrors=(PJREDDIE_OLD + "yolov3-tiny.weights", HANK_AI + "yolov3-tiny.weights"),
    ),
    Official(
        "yolov4", "yolov4.weights", ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.weights", 257717640,
        "e8a4f6c62188738d86dc6898d82724ec0964d0eb9d2ae0f0a9d53d65d108d562", "cfg/yolov4.cfg",
        "size: computed from the cfg, and Git LFS pointers of copies; SHA-256: those pointers, AUR's zmeventnotification and "
        "PurdueDualityLab/TensorFlowModels agree",
        mirrors=(HANK_AI + "yolov4.weights",),
    ),
    Official(
        "yolov4-csp", "yolov4-csp.weights", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.weights", 211944840,
        "019496affba568f7439e54797a1772657bb01126b707fbd93407c0b20c20dca1", "cfg/yolov4-csp.cfg",
        "size: computed from the cfg; SHA-256: the Git LFS pointer of Hugging Face homohapiens/darknet-yolov4 and the benchmark "
        "scripts of a fork of pyCLAD agree",
    ),
    Official(
        "yolov4-tiny", "yolov4-tiny.weights", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.weights", 24251276,
        "cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87", "cfg/yolov4-tiny.cfg",
        "size: computed from the cfg; SHA-256: AUR's zmeventnotification, Emgu CV and Git LFS pointers of copies agree. The file "
        "of June 2020 was another one (opencv_extra pull request 1026)",
        mirrors=(HANK_AI + "yolov4-tiny.weights",),
    ),
    Official(
        "yolov7", "yolov7.weights", ALEXEYAB + "yolov4/yolov7.weights", 147898248,
        "4ecf7ca13ec5039ec7b79b0f25b156fda5eaf819d6c2bb6828ba55fe4f928332", "cfg/yolov7.cfg",
        "size: computed from the cfg; SHA-256: a script that checks hank-ai's copy by it, one source",
        mirrors=(HANK_AI + "yolov7.weights",),
    ),
    Official(
        "yolov7-tiny", "yolov7-tiny.weights", ALEXEYAB + "yolov4/yolov7-tiny.weights", 24967560, None, "cfg/yolov7-tiny.cfg",
        "size: computed from the cfg; no hash found",
    ),
    Official(
        "darknet19", "darknet19.weights", PJREDDIE + "darknet19.weights", None, None, "cfg/darknet19.cfg",
        "classifier, ImageNet; size: 83427120 or 83427124 by the cfg, as its header is not known (its site says 80 MB); "
        "no hash found",
    ),
    Official(
        "darknet53", "darknet53.weights", PJREDDIE + "darknet53.weights", None, None, "cfg/darknet53.cfg",
        "classifier, ImageNet; size: 166582576 or 166582580 by the cfg, as its header is not known (its site says 159 MB); "
        "no hash found",
    ),
    Official(
        "darknet19_448.conv.23", "darknet19_448.conv.23", PJREDDIE + "darknet19_448.conv.23", 79327120, None, "cfg/yolov2.cfg",
        "backbone, for yolov2-voc too; size: that of the cfg's first 23 layers with the old 16-byte header, and programs that "
        "check it; SHA-512: vcpkg's port of darknet (2020)",
        cutoff=23,
        sha512="8016f5b7ddc15c5d7dad231592f5351eea65f608ebdb204f545034dde904e119"
        "62f693080dfeb5a4510e7b71bdda151a9121ba0f8a243018d680f01b1efdbd31",
        mirrors=(PJREDDIE_OLD + "darknet19_448.conv.23",),
    ),
    Official(
        "darknet53.conv.74", "darknet53.conv.74", PJREDDIE + "darknet53.conv.74", 162482580, None, "cfg/yolov3.cfg",
        "backbone, for yolov3-spp and yolov3-voc too; size: that of the cfg's first 75 layers, and logs of downloads; SHA-512: "
        "vcpkg's port of darknet (2020)",
        cutoff=75,
        sha512="8983e1c129e2d6e8e3da0cc0781ecb7a07813830ef5a87c24b53100df6a5f23d"
        "b6c6e6a402aec78025a93fe060b75d1958f1b8f7439a04b54a3f19c81e2ae99b",
        mirrors=(PJREDDIE_OLD + "darknet53.conv.74",),
    ),
    Official(
        "yolov4.conv.137", "yolov4.conv.137", ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.conv.137", 170038676,
        "11c5286cfbffabc9a3059927401ab3480e9483ceafd3265779a0dc26c769bed0", "cfg/yolov4.cfg",
        "backbone; size: that of the cfg's first 137 layers, and logs of downloads; SHA-256: OpenNN's review of the file and the "
        "Git LFS pointer of a copy agree",
        cutoff=137,
    ),
    Official(
        "yolov4-csp.conv.142", "yolov4-csp.conv.142", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.conv.142",
        cfg="cfg/yolov4-csp.cfg", note="backbone; neither size nor hash found", cutoff=142,
    ),
    Official(
        "yolov4-tiny.conv.29", "yolov4-tiny.conv.29", ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.conv.29", 19789716,
        "3c794b8420b12ed2a609daa71d075880e7bd152671323f5eb3e8d9e57e31785b", "cfg/yolov4-tiny.cfg",
        "backbone; size: that of the cfg's first 29 layers; SHA-256: a training script that checks its download by it (Portcullis) "
        "and Git LFS pointers of copies agree",
        cutoff=29,
    ),
    Official(
        "yolov7.conv.132", "yolov7.conv.132", ALEXEYAB + "yolov4/yolov7.conv.132",
        cfg="cfg/yolov7.cfg", note="backbone; neither size nor hash found", cutoff=132,
    ),
)  # fmt: skip


def find(name: str) -> Official:
    """The file of the table with this name (`yolov3`, or `yolov3.weights`); for an address, a record with nothing known but that.

    Raises:
        DownloadError: there is none, or the address is none; the text names the closest.
    """
    if "://" in name:
        return _from_address(name)
    for official in FILES:
        if name.lower() in (official.name, official.file):
            return official
    closest = difflib.get_close_matches(
        name.lower().removesuffix(".weights"), [official.name for official in FILES], n=1
    )
    hint = f"did you mean '{closest[0]}'?" if closest else "--list shows them all"
    raise DownloadError(f"'{name}' is no official file; {hint}")


def _from_address(address: str) -> Official:
    _check_address(address)
    file = unquote(urlsplit(address).path).rpartition("/")[2]
    if file in ("", ".", "..") or not file.isprintable() or set(file) & set('\\:*?"<>|'):
        raise DownloadError(f"{address}: this address does not end in the name of a file")
    return Official(file, file, address)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        raise DownloadError(f"{address}: not an address that can be downloaded; write http://… or https://…")


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


def table() -> str:
    """The official files as text."""
    rows = [("name", "bytes", "hash", "for")]
    for one in FILES:
        size = "not known" if one.size is None else f"{one.size:,}"
        known = one.hashes[0][0] if one.hashes else "-"
        rows.append((one.name, size, known, one.cfg + (f", cutoff={one.cutoff}" if one.cutoff else "")))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:{widths[2]}}  {d}" for a, b, c, d in rows)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m darknet_py.download",
        description="Downloads official weights files, goes on with what an earlier run has left, and checks sizes and hashes.",
        epilog="example: python -m darknet_py.download yolov3 yolov4-tiny --out weights",
    )
    result.add_argument("names", nargs="*", metavar="NAME", help="a name of the table (yolov3), or an http(s) address")
    result.add_argument("--out", default="weights", metavar="DIR", help="folder for the files (default: weights)")
    result.add_argument("--list", action="store_true", help="print the table of official files")
    result.add_argument("--mirror", metavar="URL", help="address of a folder that holds copies of the official files")
    result.add_argument("--force", action="store_true", help="replace files that lie there already")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 2 where a file could not be had (the others are fetched), 130 for Ctrl-C."""
    given = parser().parse_args(argv)
    if given.list or not given.names:
        print(table() if given.list else f"{parser().format_help()}\n{table()}")
        return 0
    status = 0
    for name in given.names:
        try:
            path = download(name, given.out, mirror=given.mirror, force=given.force)
            print(_summary(path, find(name)))
        except DarknetError as error:
            print(f"error: {error}", file=sys.stderr)
            status = MISTAKE
        except KeyboardInterrupt:
            print(_interrupted(name, given.out), file=sys.stderr)
            return INTERRUPTED
    return status


def _summary(path: Path, official: Official) -> str:
    checked = f"{official.hashes[0][0]} is right" if official.hashes else "no hash is known for it"
    use = (
        f"; for {official.cfg}" + (f" with cutoff={official.cutoff}" if official.cutoff else "") if official.cfg else ""
    )
    return f"{path}: {path.stat().st_size:,} bytes, {checked}{use}"


def _interrupted(name: str, folder: str) -> str:
    part = part_of(Path(folder) / find(name).file)
    return f"interrupted: {_kept(part) if part.exists() else 'nothing had come yet'}"


if __name__ == "__main__":
    sys.exit(run_command(main))
