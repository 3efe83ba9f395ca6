"""What a user may name as a source: pictures, folders, globs, lists, standard input, videos, cameras and streams."""

from __future__ import annotations

import errno
import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from darknet_py.bundled import or_bundled
from darknet_py.errors import DarknetError
from darknet_py.names import find_files, read_lines
from darknet_py.pictures.addresses import check_address, content_kind, ending, is_address, shown
from darknet_py.text import whole_number

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
))  # fmt: skip
VIDEO_SUFFIXES = frozenset(
    [".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".gif"]
)
LIST_SUFFIXES = frozenset((".txt", ".list"))


@dataclass(frozen=True)
class ImageSource:
    """A picture's file or http(s) address, not yet opened."""

    path: str


@dataclass(frozen=True)
class VideoSource:
    """A video's file or http(s) address, or what has no end (`live`): a camera's number, a stream's address."""

    address: str = field(repr=False)
    live: bool

    @property
    def shown(self) -> str:
        """As messages and files have it, without a password."""
        return f"camera {self.address}" if self.live and whole_number(self.address) is not None else shown(self.address)

    @property
    def name(self) -> str:
        """For file names."""
        if not self.live:
            return file_name(self.address).rpartition(".")[0] or "video"
        if whole_number(self.address) is not None:
            return f"camera{self.address}"
        return _plain(shown(self.address).partition("://")[2].rpartition("@")[2]) or "video"


Source = ImageSource | VideoSource


def file_name(path: str) -> str:
    """The file name of a picture or video, also of its address."""
    if is_address(path):
        return _plain(urlsplit(path).path.rpartition("/")[2])
    return Path(path).name


def missing(source: Source) -> str:
    """The sentence about a picture or video whose file does not exist; "": what it is, shows when it is opened."""
    if isinstance(source, VideoSource):
        is_missing = not source.live and not is_address(source.address) and not Path(source.address).is_file()
        return f"{source.address}: cannot read this video: no such file" if is_missing else ""
    is_missing = not is_address(source.path) and not os.path.lexists(or_bundled(source.path))
    return f"{source.path}: cannot read this image: {os.strerror(errno.ENOENT)}" if is_missing else ""


def all_missing(sources: Sequence[Source]) -> bool:
    """Whether of all these files none exists; each is then reported on stderr, as it would be when it is opened."""
    sentences = [missing(source) for source in sources]
    if not sentences or not all(sentences):
        return False
    print(*(f"error: {sentence}" for sentence in sentences), sep="\n", file=sys.stderr)
    return True


def _plain(text: str) -> str:
    """Fit for a file name: no signs of its own meaning; the last letters of a long one, with its ending."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[-60:]


def expand(names: Sequence[str], *, recursive: bool = False) -> list[Source]:
    """The pictures and videos that the user's words mean, in order. What a folder has besides is said on stderr.

    Args:
        names: a file or folder of that name comes first; then globs, camera numbers and addresses.
        recursive: folders with their folders.

    Raises:
        DarknetError: nothing is there of that name, or a folder or list names no image.
    """
    return [source for name in names for source in _expand(name, recursive)]


def asked(question: str) -> Iterator[Source]:
    """Prints the question and takes a line of standard input as a path, again and again until the input ends."""
    while True:
        print(question, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if path := line.strip():
            yield _file(path)


def _expand(name: str, recursive: bool) -> list[Source]:
    if name == "-":
        return [_file(line) for line in (line.strip() for line in sys.stdin) if line]
    if os.path.isdir(name):
        return _folder(name, recursive)
    if not os.path.exists(name):
        if is_address(name):
            return [_file(name)]
        if whole_number(name) is not None:
            return [VideoSource(name, live=True)]
        if glob.has_magic(name):
            matches = [path for path in sorted(glob.glob(name, recursive=True)) if not os.path.isdir(path)]
            if not matches:
                raise DarknetError(f"{name}: no file matches")
            return [_file(path) for path in matches]
    if Path(name).suffix.lower() in LIST_SUFFIXES:
        return _list(name)
    return [_file(name)]


def _folder(name: str, recursive: bool) -> list[Source]:
    """The images and videos of a folder, in order of their paths."""
    paths = sorted(Path(name).rglob("*") if recursive else Path(name).iterdir())
    files = [path for path in paths if not path.is_dir()]
    by_ending = Counter(path.suffix.lower() for path in files)
    found = [path for path in files if path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES]
    others = {kind or "no ending": by_ending[kind] for kind in by_ending.keys() - SUFFIXES - VIDEO_SUFFIXES}
    folders = 0 if recursive else len(paths) - len(files)
    skipped = [f"{count} of {kind}" for kind, count in sorted(others.items())]
    skipped += [f"{folders} folder{'s' * (folders > 1)} (--recursive reads them)"] * (folders > 0)
    if not found:
        holds = f"; it holds {', '.join(skipped)}" if skipped else ""
        raise DarknetError(f"{name}: no images in this folder{holds}; known are {' '.join(sorted(SUFFIXES))}")
    if skipped:
        print(f"{name}: skipped {', '.join(skipped)}", file=sys.stderr)
    return [_file(str(path)) for path in found]


def _list(name: str) -> list[Source]:
    """A path per line, from the current folder as in Darknet, or else from the list's own folder."""
    lines = read_lines(name, "list of images")
    if not lines:
        raise DarknetError(f"{name}: this list names no image")
    folders = [Path(), Path(name).parent]
    return [_file(line if is_address(line) else find_files([line], folders)[0]) for line in lines]


def _file(path: str) -> Source:
    """One file, or the http(s) address of one, by its ending or by what the server says; any other address is a
    stream."""
    if is_address(path):
        check_address(path)
        is_web = path.lower().startswith("http")
        kind = ending(path) if is_web else ""
        said = content_kind(path) if is_web and kind not in SUFFIXES | VIDEO_SUFFIXES else ""
        if kind in SUFFIXES or said == "image":
            return ImageSource(path)
        return VideoSource(path, live=kind not in VIDEO_SUFFIXES and said != "video")
    return VideoSource(path, live=False) if Path(path).suffix.lower() in VIDEO_SUFFIXES else ImageSource(path)
