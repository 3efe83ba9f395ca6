"""A weights file arrives whole or not at all: resumed, retried, checked. The server runs here; no network is needed."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from project import ROOT

from darknet_py import downloading
from darknet_py import official as official_files
from darknet_py.cfg import parse_cfg
from darknet_py.download import main
from darknet_py.downloading import download, part_of
from darknet_py.errors import DarknetError
from darknet_py.network import Network
from darknet_py.official import FILES, DownloadError, Official, find_official

DATA = bytes(range(256)) * 1200  # 307,200 bytes: several reads
OTHER = DATA[::-1]


class Server(ThreadingHTTPServer):
    """Serves `data` under every path. What goes wrong is set by the test, for one request after the other."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.etag: str | None = '"one"'
        self.ranges = True
        self.length = True  # send Content-Length
        self.kind = "application/octet-stream"
        self.statuses: list[int] = []  # answered instead, first come first served
        self.breaks: list[int] = []  # bytes after which the connection ends
        self.reset = False  # … with a reset, not an orderly end
        self.missing: set[str] = set()  # paths answered with 404
        self.asked: list[tuple[str, str | None]] = []  # (path, Range) of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked in self.asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.statuses or self.path in server.missing:
            return self.send_error(server.statuses.pop(0) if server.statuses else 404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            return self.end_headers()
        body = server.data[start:]
        self.send_response(206 if wanted and server.ranges else 200)
        self.send_header("Content-Type", server.kind)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        self.end_headers()
        if server.breaks:
            self.wfile.write(body[: server.breaks.pop(0)])
            self.wfile.flush()
            if server.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            return None
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as result:
        thread = threading.Thread(target=result.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield result
        result.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before retries; none is made."""
    result: list[float] = []
    monkeypatch.setattr("time.sleep", result.append)
    return result


def official(server: Server, data: bytes = DATA, **other: Any) -> Official:
    """A record of the server's file with size and hash, unless the test wants others."""
    known: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} | other
    return Official("tiny", "tiny.weights", f"{server.url}/tiny.weights", **known)


def fetch(what: Official | str, folder: Path, **options: Any) -> Path:
    return download(what, folder, progress=False, **options)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_fresh_download(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "weights"
    path = fetch(official(server), folder)
    assert path == folder / "tiny.weights"
    assert path.read_bytes() == DATA
    assert left(folder) == ["tiny.weights"]
    assert server.asked == [("/tiny.weights", None)]


def test_sha512_counts_as_well(server: Server, tmp_path: Path) -> None:
    fetch(official(server, sha256=None, sha512=hashlib.sha512(DATA).hexdigest()), tmp_path)
    with pytest.raises(DownloadError, match="its SHA-512 is"):
        fetch(official(server, sha256=None, sha512="0" * 128), tmp_path / "other")


def test_a_part_is_resumed_by_range(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "tiny.weights").write_bytes(DATA[:100_000])
    assert fetch(official(server), tmp_path).read_bytes() == DATA
    assert server.ranges_asked == ["bytes=100000-"]
    assert left(tmp_path) == ["tiny.weights"]


def test_a_whole_part_needs_no_server(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "tiny.weights").write_bytes(DATA)
    assert fetch(official(server), tmp_path).read_bytes() == DATA
    assert server.asked == []


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part_of(tmp_path / "tiny.weights").write_bytes(OTHER[:100_000])
    assert fetch(official(server), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("reset", [False, True])
def test_a_dropped_connection_is_continued(server: Server, tmp_path: Path, pauses: list[float], reset: bool) -> None:
    server.breaks, server.reset = [100_000, 50_000], reset
    assert fetch(official(server), tmp_path).read_bytes() == DATA
    assert server.ranges_asked[0] is None
    assert (
        all(asked and asked != "bytes=0-" for asked in server.ranges_asked[1:]) or reset
    )  # a reset may eat what was on its way
    assert len(server.asked) == 3
    if not reset:
        assert server.ranges_asked == [None, "bytes=100000-", "bytes=150000-"]
        assert pauses == [1, 1]  # the file grew in between
    assert left(tmp_path) == ["tiny.weights"]


def test_a_dropped_connection_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = [100_000], False
    assert fetch(official(server), tmp_path).read_bytes() == DATA


def test_the_pauses_grow_and_then_it_gives_up(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.breaks = [100_000, 0, 0, 0, 0]
    message = r"broke at 0\.1 MB of 0\.3 MB; 3 retries did not help; 0\.1 MB are kept in .*tiny\.weights\.part"
    with pytest.raises(DownloadError, match=message):
        fetch(official(server), tmp_path, retries=3)
    assert pauses == [1, 2, 4]
    server.breaks = []
    assert fetch(official(server), tmp_path).read_bytes() == DATA
    assert server.ranges_asked[-1] == "bytes=100000-"


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.statuses = [503, 429]
    assert fetch(official(server), tmp_path).read_bytes() == DATA
    assert pauses == [1, 2]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "tiny.weights").write_bytes(DATA + DATA)
    assert fetch(official(server, size=None), tmp_path).read_bytes() == DATA  # 416, then from the beginning
    assert server.ranges_asked == [f"bytes={2 * len(DATA)}-", None]


def test_a_part_as_long_as_the_file_is_whole(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "tiny.weights").write_bytes(DATA)
    assert fetch(official(server, size=None), tmp_path).read_bytes() == DATA  # 416, whose Content-Range tells the size
    assert len(server.asked) == 1


def test_without_a_hash_the_etag_tells_whether_the_part_fits(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000]
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/my.weights", tmp_path, retries=0)
    assert left(tmp_path) == ["my.weights.part", "my.weights.part.from"]
    assert fetch(f"{server.url}/my.weights", tmp_path).read_bytes() == DATA
    assert server.ranges_asked == [None, "bytes=100000-"]
    assert left(tmp_path) == ["my.weights"]


def test_without_a_hash_a_changed_file_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000]
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/my.weights", tmp_path, retries=0)
    server.data, server.etag = OTHER, '"two"'
    assert fetch(f"{server.url}/my.weights", tmp_path).read_bytes() == OTHER
    assert server.ranges_asked == [None, "bytes=100000-", None]


def test_without_a_hash_a_part_of_unknown_origin_is_not_trusted(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "my.weights").write_bytes(OTHER[:100_000])
    assert fetch(f"{server.url}/my.weights", tmp_path).read_bytes() == DATA
    assert server.ranges_asked == [None]


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.length, server.etag = False, None
    assert fetch(f"{server.url}/my.weights", tmp_path).read_bytes() == DATA
    server.data = DATA + b"more"
    with pytest.raises(DownloadError, match="the server sends more than the expected 307200 bytes"):
        fetch(official(server), tmp_path / "other")


def test_a_wrong_size_is_refused_before_anything_is_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the file there has 307200 bytes, but 5 are expected"):
        fetch(official(server, size=5), tmp_path)
    assert left(tmp_path) == []


def test_a_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.data = OTHER
    with pytest.raises(
        DownloadError, match=f"its SHA-256 is {hashlib.sha256(OTHER).hexdigest()}, not .* it has been removed"
    ):
        fetch(official(server), tmp_path)
    assert left(tmp_path) == []


def test_a_part_of_another_file_is_found_out_by_its_hash(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "tiny.weights").write_bytes(OTHER[:100_000])
    with pytest.raises(DownloadError, match="not the expected file"):
        fetch(official(server), tmp_path)
    assert left(tmp_path) == []
    assert fetch(official(server), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    ("address", "final", "message"),
    [
        ("https://one.example/x", "http://one.example/x", "redirects to http://one.example/x, which is not encrypted"),
        ("https://one.example/x", "ftp://one.example/x", "which is not a web address"),
        ("https://one.example/x", "https://two.example/x", "another host; if that is right, give this address"),
    ],
)
def test_an_answer_from_elsewhere_is_refused(address: str, final: str, message: str, tmp_path: Path) -> None:
    """Another host may answer only where a hash tells whether it sends the right file."""
    response = SimpleNamespace(status=200, geturl=lambda: final, headers=Message())
    known = Official("x", "x.weights", address, sha256="0" * 64)
    for record, refused in ((Official("x", "x.weights", address), True), (known, "another host" not in message)):
        run = downloading._Download(record, tmp_path / "x.weights", force=False, retries=0, progress=False)
        with pytest.raises(downloading._AddressError, match=message) if refused else nullcontext():
            run._check_answer(address, response)


def test_a_server_that_sends_without_end_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.length, server.etag = False, None
    monkeypatch.setattr(downloading, "MAX_BYTES", 100_000)
    with pytest.raises(DownloadError, match="the server sends more than"):
        fetch(official(server, size=None, sha256=None), tmp_path)


def test_a_server_that_sends_too_slowly_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "SLOW_AFTER", -1.0)
    monkeypatch.setattr(downloading, "SLOWEST", 10**12)
    with pytest.raises(DownloadError, match="the server sends less than"):
        fetch(official(server), tmp_path)


def test_an_empty_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.length, server.breaks = False, [0]
    with pytest.raises(DownloadError, match="it is empty"):
        fetch(f"{server.url}/my.weights", tmp_path)


def test_404(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.missing = {"/tiny.weights"}
    with pytest.raises(DownloadError, match=r"/tiny\.weights: the server answers 404 Not Found"):
        fetch(official(server), tmp_path)
    assert pauses == []


def test_a_web_page_is_not_a_weights_file(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"  # what pjreddie.com/media/files answers since 2025, with status 200
    with pytest.raises(DownloadError, match="a web page instead of the file"):
        fetch(official(server), tmp_path)
    assert left(tmp_path) == []


def test_a_refused_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(DownloadError, match=r"no connection \(.*refused"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/my.weights", tmp_path)
    assert pauses == []


def test_a_server_that_does_not_speak_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DownloadError, match="no connection"):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/my.weights", tmp_path, retries=0)
        thread.join()


def test_a_complete_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.weights").write_bytes(DATA)
    fetch(official(server), tmp_path)
    fetch(official(server, sha256=None), tmp_path)
    assert server.asked == []
    assert find_official("yolov3").file == "yolov3.weights"


def test_another_file_in_its_place_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.weights").write_bytes(OTHER)
    with pytest.raises(
        DownloadError, match=r"tiny\.weights: a different file is there already \(its SHA-256 is .*--force"
    ):
        fetch(official(server), tmp_path)
    assert (tmp_path / "tiny.weights").read_bytes() == OTHER
    assert fetch(official(server), tmp_path, force=True).read_bytes() == DATA


def test_of_an_unknown_file_the_length_decides(server: Server, tmp_path: Path) -> None:
    (tmp_path / "my.weights").write_bytes(OTHER)  # as long as the server's
    assert fetch(f"{server.url}/my.weights", tmp_path).read_bytes() == OTHER
    (tmp_path / "my.weights").write_bytes(b"short")
    with pytest.raises(DownloadError, match="5 bytes, the server's has 307200"):
        fetch(f"{server.url}/my.weights", tmp_path)
    assert left(tmp_path) == ["my.weights"]


def test_no_room_on_the_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    with pytest.raises(DownloadError, match=r"0\.3 MB are needed, but only 0\.2 MB are free"):
        fetch(official(server), tmp_path)
    assert left(tmp_path) == []
    part_of(tmp_path / "tiny.weights").write_bytes(DATA[:150_000])  # the rest fits
    assert fetch(official(server), tmp_path).read_bytes() == DATA


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match="cannot write this file"):
        fetch(official(server), tmp_path / "file")


def test_copies_are_tried_one_after_the_other(server: Server, tmp_path: Path) -> None:
    server.missing = {"/tiny.weights"}
    record = official(server, mirrors=(f"{server.url}/copy/tiny.weights",))
    assert fetch(record, tmp_path).read_bytes() == DATA
    assert [path for path, _ in server.asked] == ["/tiny.weights", "/copy/tiny.weights"]
    server.missing.add("/copy/tiny.weights")
    with pytest.raises(DownloadError, match=r"/tiny\.weights: .*404.*; .*/copy/tiny\.weights: .*404"):
        fetch(record, tmp_path / "other")


def test_a_mirror_takes_the_place_of_all_addresses(server: Server, tmp_path: Path) -> None:
    server.missing = {"/tiny.weights"}
    fetch(official(server), tmp_path, mirror=f"{server.url}/ours/")
    assert [path for path, _ in server.asked] == ["/ours/tiny.weights"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo3", "did you mean 'yolov3'?"),
        ("yolov4-tinny.weights", "did you mean 'yolov4-tiny'?"),
        ("darknet53.conv.75", "did you mean 'darknet53.conv.74'?"),
        ("zzz", "--list shows them all"),
        ("file:///etc/passwd", "write http://… or https://…"),
        ("ftp://example.org/a.weights", "write http://… or https://…"),
        ("https:///a.weights", "write http://… or https://…"),
        ("http://host:port/a.weights", "write http://… or https://…"),
        ("https://example.org/", "does not end in a file name"),
        ("https://example.org/a%2F..%2F..", "does not end in a file name"),
        ("https://example.org/a%00b", "does not end in a file name"),
    ],
)
def test_wrong_names_and_addresses(name: str, message: str) -> None:
    with pytest.raises(DownloadError, match=re.escape(message)):
        find_official(name)


def test_addresses_that_http_cannot_express(tmp_path: Path) -> None:
    for address in ("http://127.0.0.1:9/a b.weights", "http://127.0.0.1:9/ä.weights"):
        with pytest.raises(DownloadError, match="not a valid address"):
            fetch(address, tmp_path)


def test_names_are_found_with_and_without_their_ending() -> None:
    assert find_official("YOLOv3") is find_official("yolov3.weights")
    assert find_official("https://example.org/files/my%20own.weights?download=1").file == "my own.weights"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official_files, "FILES", (official(server, cfg="cfg/tiny.cfg", cutoff=7),))
    status, out, err = run(["tiny", "--out", str(tmp_path)], capsys)
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'tiny.weights'}: 307,200 bytes, SHA-256 is right; for cfg/tiny.cfg with cutoff=7\n"
    status, out, err = run(["tiny", "--out", str(tmp_path)], capsys)
    assert (status, len(server.asked)) == (0, 1)
    assert "already there" in err


def test_a_failure_does_not_stop_the_others(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official_files, "FILES", (official(server),))
    server.missing = {"/a.weights"}
    status, out, err = run([f"{server.url}/a.weights", "tinny", "tiny", "--out", str(tmp_path)], capsys)
    assert status == 2
    assert err.splitlines() == [
        f"error: {server.url}/a.weights: the server answers 404 Not Found",
        "error: 'tinny' is not an official file; did you mean 'tiny'?",
    ]
    assert out.startswith(str(tmp_path / "tiny.weights"))


def test_ctrl_c_keeps_the_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official_files, "FILES", (official(server),))
    real, reads = downloading._read, []

    def interrupted(response: Any) -> bytes:
        reads.append(1)
        if len(reads) == 3:
            raise KeyboardInterrupt
        return real(response)

    monkeypatch.setattr(downloading, "_read", interrupted)
    status, out, err = run(["tiny", "--out", str(tmp_path)], capsys)
    part = part_of(tmp_path / "tiny.weights")
    assert (status, out) == (130, "")
    assert err == f"interrupted: 0.1 MB are kept in {part}; run the same command again to resume\n"
    assert part.read_bytes() == DATA[: 2 * downloading.CHUNK]
    assert run(["tiny", "--out", str(tmp_path)], capsys)[0] == 0
    assert server.ranges_asked == [None, f"bytes={2 * downloading.CHUNK}-"]


def test_without_a_name_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run([], capsys)
    assert (status, out.startswith("usage: python -m darknet_py.download")) == (0, True)
    status, listed, _ = run(["--list"], capsys)
    assert status == 0
    assert out.endswith(listed)
    assert re.search(r"^yolov3 +248,007,048  SHA-256  cfg/yolov3\.cfg$", listed, re.MULTILINE)
    assert len(listed.splitlines()) == len(FILES) + 1


def test_no_traceback_at_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "darknet_py.download", "yolo3", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: 'yolo3' is not an official file; did you mean 'yolov3'?\n"


def test_the_error_is_one_of_the_projects() -> None:
    assert issubclass(DownloadError, DarknetError)


@pytest.mark.parametrize("record", FILES, ids=lambda record: record.name)
def test_the_table_is_sound(record: Official) -> None:
    assert record.file in (record.name, f"{record.name}.weights")
    assert record.url.startswith("https://")
    assert record.url.endswith(f"/{record.file}")
    assert all(mirror.endswith(f"/{record.file}") for mirror in record.mirrors)
    assert record.hashes or not record.mirrors  # nothing but a hash tells that a copy is record
    assert record.sha256 is None or re.fullmatch("[0-9a-f]{64}", record.sha256)
    assert record.sha512 is None or re.fullmatch("[0-9a-f]{128}", record.sha512)
    assert record.note
    assert (record.cutoff is not None) == (".conv." in record.file)


@pytest.mark.parametrize("record", FILES, ids=lambda record: record.name)
def test_sizes_follow_from_the_cfgs(record: Official) -> None:
    network = Network(parse_cfg(ROOT / record.cfg))
    values = sum(stored.tensor.numel() for layer in network.layers[: record.cutoff] for stored in layer.loaded())
    header = 16 if "old 16-byte header" in record.note else 20
    assert record.size in (None, header + 4 * values)
    if "by the cfg" in record.note:
        assert f"{16 + 4 * values} or {20 + 4 * values} by the cfg" in record.note


def test_the_readme_has_the_same_table() -> None:
    text = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    assert len({record.name for record in FILES}) == len(FILES)
    assert rows == [
        [
            f"`{record.name}`",
            f"[{record.file}]({record.url})",
            f"`{record.cfg}`" + (f", `cutoff={record.cutoff}`" if record.cutoff else ""),
            "not known" if record.size is None else str(record.size),
            f"`{record.sha256}`" if record.sha256 else f"SHA-512 `{record.sha512}`" if record.sha512 else "not known",
            record.note,
        ]
        for record in FILES
    ]
