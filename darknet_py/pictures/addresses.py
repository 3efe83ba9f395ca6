"""Addresses of pictures, videos and streams: which text is one, how it is shown, how a picture is fetched."""

from __future__ import annotations

import base64
import re
from http.client import HTTPException, HTTPResponse
from pathlib import PurePosixPath
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from darknet_py.errors import DarknetError

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|token|key|secret|auth|sign)[^=&]*)=[^&#]*", re.IGNORECASE)
USER = re.compile(r"(?<=://).*@")
TIMEOUT = 30.0  # seconds without an answer
ASK_TIMEOUT = 5.0  # seconds for the question what an address gives
MAX_BYTES = 256 << 20  # of a picture


def is_address(text: str) -> bool:
    """Whether it begins as `rtsp://`, `http://` …"""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def check_address(address: str) -> None:
    """Refuses an address that is not well formed.

    Raises:
        DarknetError: see above.
    """
    try:
        urlsplit(address)
    except ValueError as error:
        raise DarknetError(f"{address}: this is not an address: {error}") from None


def shown(text: str) -> str:
    """An address as messages and files have it: without the user, the password and the values of secret keys.

    Any other text is itself.
    """
    return SECRET.sub(r"\1=***", USER.sub("***@", text)) if is_address(text) else text


def ending(address: str) -> str:
    """`.jpg` of `http://host/a.JPG?size=2`."""
    return PurePosixPath(unquote(urlsplit(address).path)).suffix.lower()


def content_kind(address: str) -> str:
    """What an http(s) address says that it gives: "image", "video", "multipart" …; "" without an answer."""
    try:
        with _answer(address, timeout=ASK_TIMEOUT) as answer:
            return str(answer.headers.get_content_maintype())
    except (OSError, ValueError):
        return ""


def fetch(address: str) -> bytes:
    """What an http(s) address gives, up to MAX_BYTES.

    Raises:
        OSError: no answer, or too long a one.
    """
    with _answer(address, timeout=TIMEOUT) as answer:
        try:
            data: bytes = answer.read(MAX_BYTES + 1)
        except HTTPException as error:
            raise OSError(f"the server's answer is broken ({type(error).__name__})") from None
    if len(data) > MAX_BYTES:
        raise OSError(f"more than {MAX_BYTES >> 20} MB")
    return data


def _answer(address: str, timeout: float) -> HTTPResponse:
    """The user and password of the address go into a header, which no other host gets."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "darknet_py"})
    if user:
        code = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {code}")
    try:
        return cast(HTTPResponse, urlopen(request, timeout=timeout))
    except HTTPException as error:
        raise OSError(f"the server's answer is broken ({type(error).__name__})") from None
