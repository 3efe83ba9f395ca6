"""What all commands share: one sentence for a user's mistake, exit statuses, and arguments that mean the same everywhere."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from darknet_py.errors import CfgWarning, DarknetError

MISTAKE = 2  # exit status of wrong input
INTERRUPTED = 130


def run_command(main: Callable[[], int]) -> int:
    """Runs a command: mistakes and warnings become one line each on stderr; returns the exit status."""
    previous = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        return main()
    except BrokenPipeError:
        return 0  # see _flush
    except (DarknetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted; what was finished is complete", file=sys.stderr)
        return INTERRUPTED
    finally:
        warnings.showwarning = previous
        _flush()


def _flush() -> None:
    """A reader that went away (`… | head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, CfgWarning):
        print(f"warning: {message}", file=sys.stderr)


def size_of(text: str) -> tuple[int, int]:
    """`416` or `608x352` → (width, height)."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write WxH, e.g. 416x416") from None
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; width and height must be 1 or more")
    return size


def add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        type=size_of,
        metavar="WxH",
        help="size of the network's input, in place of the cfg's width and height",
    )


def fraction(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} lies outside 0..1")
    return value
