"""Addresses of pictures, videos and streams: which text is one, how it is shown, how a picture is fetched."""

from __future__ import annotations

import base64
import re
from http.client import HTTPException
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|token|key|secret|auth|sign)[^=&]*)=[^&#]*", re.IGNORECASE)
USER = re.compile(r"(?<=://).*@")
TIMEOUT = 30.0  # seconds without an answer
MAX_BYTES = 256 << 20  # of a picture


def is_address(text: str) -> bool:
    """Whether it begins as `rtsp://`, `http://` …"""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def shown(text: str) -> str:
    """An address as messages and files have it: without the user, the password and the values of secret keys.

    Any other text is itself.
    """
    return SECRET.sub(r"\1=***", USER.sub("***@", text)) if is_address(text) else text


def ending(address: str) -> str:
    """`.jpg` of `http://host/a.JPG?size=2`."""
    return PurePosixPath(unquote(urlsplit(address).path)).suffix.lower()


def fetch(address: str) -> bytes:
    """What an http(s) address gives, up to MAX_BYTES.

    Raises:
        OSError: no answer, or too long a one.
    """
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "darknet_py"})
    if user:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(MAX_BYTES + 1)
    except HTTPException as error:
        raise OSError(f"the server's answer is broken ({type(error).__name__})") from None
    if len(data) > MAX_BYTES:
        raise OSError(f"more than {MAX_BYTES >> 20} MB")
    return data
