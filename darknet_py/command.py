"""What all commands share: exit statuses, one sentence for a user's mistake, and common arguments."""

from __future__ import annotations

import argparse
import gc
import io
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from darknet_py.bundled import or_bundled
from darknet_py.cfg import parse_cfg
from darknet_py.choices import AUTO, ENGINES, PRECISIONS
from darknet_py.errors import CfgWarning, DarknetError, DifferenceError, out_of_memory
from darknet_py.metadata import open_weights
from darknet_py.names import read_data, read_names
from darknet_py.text import printable, whole_number

# Exit statuses; 0: all is well.
UNREADABLE = 1  # some images or videos could not be read; the rest is done
DIFFERENT = 1  # a converted model gave other numbers than the network; it is not written
MISTAKE = 2  # wrong input: files, options, values
INTERRUPTED = 130  # Ctrl-C
TOGETHER = 2.0  # seconds between two requests to end that are one
WAITING = "OMP_WAIT_POLICY"  # how OpenMP's threads wait


def run_command(main: Callable[[], int]) -> int:
    """Runs a command's `main`: mistakes, warnings and a lack of memory become one line each on stderr; a request to
    end (SIGTERM, as of `docker stop`) is taken for Ctrl-C. Returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    previous = warnings.showwarning
    warnings.showwarning = partial(_show_warning, set())
    handler = signal.signal(signal.SIGTERM, _interrupter())
    try:
        return main()
    except BrokenPipeError:
        return 0  # see _flush
    except (DarknetError, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"error: {printable(text)}", file=sys.stderr)
        return DIFFERENT if isinstance(error, DifferenceError) else MISTAKE
    except KeyboardInterrupt:
        print("interrupted; all files written so far are complete", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        print(f"error: out of memory{reason and f' ({reason})'}; write less at once, e.g. --batch 1", file=sys.stderr)
        return MISTAKE
    finally:
        warnings.showwarning = previous
        signal.signal(signal.SIGTERM, handler)
        _flush()


@contextmanager
def lasting() -> Iterator[None]:
    """In this block a command imports what does its work, PyTorch with it, to keep it to the end.

    So the garbage collector need not look through these objects, which takes a second in all, most of it when the
    process ends. And threads that wait for others sleep, unless OMP_WAIT_POLICY says otherwise: by default they keep
    the cores busy on which images are read and written.
    """
    enabled, first, chosen = gc.isenabled(), "torch" not in sys.modules, WAITING in os.environ
    gc.disable()
    os.environ.setdefault(WAITING, "PASSIVE")  # read when the library is loaded, and not meant for other programs
    try:
        yield
    finally:
        if not chosen:
            del os.environ[WAITING]
        if first:
            gc.freeze()
        if enabled:
            gc.enable()


def _interrupter() -> Callable[[int, FrameType | None], None]:
    """A handler of requests to end. One that comes soon after another is left out: `timeout` sends two, and the second
    would cut off what the first has to finish. A later one counts, as the first may have come where Python drops all
    exceptions (in `__del__`)."""
    last = -math.inf

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > TOGETHER:
            raise KeyboardInterrupt

    return interrupt


def _flush() -> None:
    """A reader that closed the pipe (`… | head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Prints a line of a run that goes on, also after its reader has closed the pipe (`… | head`)."""
    from tqdm import tqdm

    try:
        tqdm.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(shown: set[str], message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    """Each sentence once: Python forgets what it has shown whenever a library changes its filters."""
    if issubclass(category, CfgWarning) and str(message) not in shown:
        shown.add(str(message))
        print(f"warning: {printable(str(message))}", file=sys.stderr)


def check_files(
    cfg: str | None = None, weights: str | None = None, names: str | None = None, data: str | None = None
) -> None:
    """Finds out before PyTorch is imported, which takes seconds, whether the files that a user names can be read.
    Warnings are left to those who use the files. None: not named.

    Raises:
        DarknetError: one of them cannot.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CfgWarning)
        if cfg is not None:
            parse_cfg(cfg)
        if weights is not None:
            open_weights(or_bundled(weights)).close()
        if data is not None:
            read_data(data)
        if names is not None:
            read_names(names)


def size_of(text: str) -> tuple[int, int]:
    """`416` or `608x352` → (width, height) in pixels; an argparse type."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write WxH, e.g. 416x416") from None
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; width and height must be at least 1")
    return size


def positive(text: str) -> int:
    """A whole number from 1 on; an argparse type."""
    number = whole_number(text)
    if not number:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1; an argparse type."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_size(parser: argparse._ActionsContainer) -> None:
    """`--size WxH`."""
    parser.add_argument(
        "--size",
        type=size_of,
        metavar="WxH",
        help="input size of the network, instead of the cfg's width and height",
    )


def add_network(parser: argparse._ActionsContainer, *, onnx: bool = False) -> None:
    """`--cfg` and `--weights`. onnx: the command opens exported models, too."""
    parser.add_argument("--cfg", help="the network's .cfg (default: the one in the .safetensors)")
    exported = ", or an exported .onnx alone" if onnx else ""
    parser.add_argument("--weights", required=True, help=f"its .weights, .safetensors, or state_dict (.pt){exported}")


def add_model(parser: argparse._ActionsContainer, *, onnx: bool = False) -> None:
    """`--cfg`, `--weights`, `--names` and `--data`: a model as separate files, or as one file."""
    add_network(parser, onnx=onnx)
    parser.add_argument("--names", help="class names, one per line (default: those in the .safetensors, or numbers)")
    parser.add_argument("--data", help="a .data file that says where the names are")


def add_device(parser: argparse._ActionsContainer) -> None:
    """`--device`."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … (default: cuda if available)")


def add_inference(parser: argparse._ActionsContainer) -> None:
    """`--device`, `--batch`, `--precision` and `--engine`: how a detector runs."""
    add_device(parser)
    parser.add_argument("--batch", type=int, default=8, help="images per forward pass (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="number format of the network (default: %(default)s, as in Darknet)",
    )
    parser.add_argument(
        "--engine",
        choices=(AUTO, *ENGINES),
        default="torch",
        help="what runs the network; auto: the first of openvino, onnxruntime, compile and torch that is installed and "
        "can run it, which is said; openvino and onnxruntime, for a CPU, run an exported file, which is made the first "
        "time; compile, for a GPU, is torch.compile (default: %(default)s)",
    )
