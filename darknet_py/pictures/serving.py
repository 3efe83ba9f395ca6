"""A stream's pictures and detections over HTTP, as Darknet's -mjpeg_port and -json_port (http_stream.cpp) give them.

Each client has a thread and a queue of its own: one that comes late, is slow or goes never holds up the run.
"""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from darknet_py.errors import DarknetError
from darknet_py.files import json_text
from darknet_py.pictures.read import Image

JPEG_QUALITY = 75
CLIENT_TIMEOUT = 10.0  # seconds without progress after which a client is given up
MOST_WAITING = 1000  # objects that wait for a slow client of the JSON port; then the oldest are left out
PAGE = b"<!doctype html><title>darknet_py</title><body style='margin:0'><img src='/stream' style='max-width:100%'>"


class Port:
    """A port whose clients get each part that is sent while they listen."""

    content_type = "text/plain"
    begin, between, end = b"", b"", b""
    waiting = 1  # parts that may wait for a slow client

    def __init__(self, host: str, port: int) -> None:
        """Raises:
        DarknetError: nobody can listen on this port.
        """
        self.closed = False
        self.changed = threading.Condition()
        self.clients: list[deque[bytes]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            timeout = CLIENT_TIMEOUT

            def do_GET(self) -> None:
                try:
                    owner.serve(self)
                except OSError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        try:
            self.server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise DarknetError(f"port {port}: cannot listen on {host}:{port}: {error}") from None
        self.server.daemon_threads = True
        self.server.block_on_close = False
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"

    def serve(self, client: BaseHTTPRequestHandler) -> None:
        """Sends one client what comes, until the port is closed."""
        client.send_response(200)
        client.send_header("Content-Type", self.content_type)
        client.send_header("Cache-Control", "no-cache, private")
        client.end_headers()
        queue: deque[bytes] = deque(maxlen=self.waiting)
        with self.changed:
            self.clients.append(queue)
        between = self.begin
        try:
            client.wfile.write(between)
            between = b""
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: queue or self.closed)
                    part = queue.popleft() if queue else None
                if part is None:
                    client.wfile.write(self.end)
                    return
                client.wfile.write(between + part)
                between = self.between
        finally:
            with self.changed:
                self.clients.remove(queue)
                self.changed.notify_all()

    def publish(self, part: bytes) -> None:
        """Sends a part to whoever listens."""
        with self.changed:
            for queue in self.clients:
                queue.append(part)
            self.changed.notify_all()

    def close(self) -> None:
        """Ends the clients' streams and frees the port."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.clients, timeout=1.0)
        self.server.shutdown()
        self.server.server_close()


class JsonPort(Port):
    """One JSON list, an object for each frame."""

    content_type = "application/json"
    begin, between, end = b"[\n", b", \n", b"\n]"
    waiting = MOST_WAITING

    def send(self, item: dict[str, Any]) -> None:
        if self.clients:
            self.publish(json_text(item).encode())


class MjpegPort(Port):
    """The newest frame, always; a browser gets a page that shows it."""

    content_type = "multipart/x-mixed-replace; boundary=mjpegstream"

    def serve(self, client: BaseHTTPRequestHandler) -> None:
        if client.path == "/" and "text/html" in client.headers.get("Accept", ""):
            client.send_response(200)
            client.send_header("Content-Type", "text/html")
            client.send_header("Content-Length", str(len(PAGE)))
            client.end_headers()
            client.wfile.write(PAGE)
        else:
            super().serve(client)

    def send(self, image: Image) -> None:
        """uint8 RGB."""
        if not self.clients:
            return
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        head = f"--mjpegstream\r\nContent-type: image/jpeg\r\nContent-length: {len(data)}\r\n\r\n"
        self.publish(head.encode() + data + b"\r\n")
