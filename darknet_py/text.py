"""Text from outside: the bytes of a file as characters, and characters as a terminal may show them."""

from __future__ import annotations

import codecs
import warnings

from darknet_py.errors import CfgWarning

MAX_SHOWN = 80  # characters of a value or name that a message quotes
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded(data: bytes, path: str, *, guess: bool = False) -> str:
    """The text of a file: UTF-8, or UTF-16 if it begins with the mark of that.

    Bytes that are no UTF-8 are kept as Python keeps them in paths (surrogateescape), as they may be part of one.

    Args:
        path: what messages call the file.
        guess: the text is words to be shown, class names: of an older encoding, the probable one is taken instead, with
            a warning that names it.
    """
    if data.startswith(UTF16):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not guess:
            return data.decode("utf-8-sig", errors="surrogateescape")
        encoding, name = _probable(data)
        line = data.count(b"\n", 0, error.start) + 1
        text = f"{path}:{line}: this is not UTF-8; read as {name}; if the words are wrong, save the file as UTF-8"
        warnings.warn(text, CfgWarning, stacklevel=3)
        return data.decode(encoding, errors="replace")


def is_binary(data: bytes) -> bool:
    """Whether these are not the bytes of a text."""
    return b"\0" in data and not data.startswith(UTF16)


def _probable(data: bytes) -> tuple[str, str]:
    """Chinese characters are pairs of bytes from 0xA1 on; the accented letters of European words stand alone."""
    try:
        data.decode("gb2312")
        return "gb18030", "GBK (Chinese)"
    except UnicodeDecodeError:
        return "cp1252", "Windows-1252 (Western European)"


def whole_number(text: str) -> int | None:
    """The value of a text of the digits 0 to 9, at most 2147483647; None: it is something else.

    `str.isdigit` also takes superscripts, which `int` refuses, and the digits of other scripts."""
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
    return value if 0 <= value < 2**31 else None


def printable(text: str) -> str:
    """A text in which what cannot be seen (a no-break space, an escape sequence, a byte that is no UTF-8) is written
    as Python does, ``\\xa0``. Line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def shortened(text: str) -> str:
    """A text as messages quote it: on one line, `printable`, and a long one is cut off."""
    text = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
