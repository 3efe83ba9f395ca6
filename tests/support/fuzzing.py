"""Searches for files that a reader does not survive, led by which code they reach (atheris, libFuzzer).

    python fuzzing.py KIND FOLDER... -max_total_time=60

KIND is a key of hostile.READERS; the folders hold files to begin with, and the first one takes what was found to be
new. A file that ends in another error than the project's own is left in the current folder as crash-….
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["darknet_py"]):
    from hostile import READERS

    from darknet_py.errors import DarknetError, out_of_memory
    from darknet_py.training.checkpoint import HASH_BYTES, MARK

ENDINGS = {"safetensors": ".safetensors", "pt": ".pt"}


def main() -> None:
    kind = sys.argv.pop(1)
    reader, path = READERS[kind], Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}{ENDINGS.get(kind, '')}"
    warnings.simplefilter("ignore")

    def try_bytes(data: bytes) -> None:
        if kind == "ckpt":  # else the hash would be all that is ever looked at
            data += MARK + hashlib.blake2b(data, digest_size=HASH_BYTES).digest()
        path.write_bytes(data)
        try:
            reader(path)
        except DarknetError:
            pass
        except Exception as error:
            if not out_of_memory(error):  # for a command to say
                raise

    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
